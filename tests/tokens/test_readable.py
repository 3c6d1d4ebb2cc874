"""Which pictures cannot be read is found once."""

import json

from toconv import config
from toconv.tokens import readable
from toconv.tokens.readable import keep_reasons, unreadable


def test_what_was_found_is_kept_for_the_next_process(photographs, tmp_path, monkeypatch):
    data = config.compose({"data.tokens_dir": str(tmp_path / "tokens"), "data.max_pixels": 120 * 90}).data
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    digests = {path: path.name for path in (*photographs.iterdir(), bad)}
    monkeypatch.setattr(readable, "_found", {})
    found = unreadable(digests, data)
    assert list(found) == [bad] and "not a picture" in found[bad]
    keep_reasons(data)
    monkeypatch.setattr(readable, "_found", {})
    monkeypatch.setattr(readable, "decode", None)
    assert unreadable(digests, data) == found


def test_what_another_process_kept_meanwhile_stays(photographs, tmp_path, monkeypatch):
    data = config.compose({"data.tokens_dir": str(tmp_path), "data.max_pixels": 120 * 90}).data
    first, second = sorted(photographs.iterdir())[:2]
    monkeypatch.setattr(readable, "_found", {})
    unreadable({first: "first"}, data)  # of a million pictures, say
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(readable, "_found", {})
        unreadable({second: "second"}, data)
        keep_reasons(data)
    keep_reasons(data)
    (kept,) = tmp_path.iterdir()
    assert json.loads(kept.read_text()) == {"first": None, "second": None}


def test_a_damaged_file_of_reasons_is_made_anew(photographs, tmp_path, monkeypatch):
    data = config.compose({"data.tokens_dir": str(tmp_path), "data.max_pixels": 120 * 90}).data
    digests = {path: path.name for path in photographs.iterdir()}
    for content in ("", "[]", "{"):
        monkeypatch.setattr(readable, "_found", {})
        keep_reasons(data)
        (kept,) = tmp_path.iterdir()
        kept.write_text(content)
        monkeypatch.setattr(readable, "_found", {})
        assert unreadable(digests, data) == {}
