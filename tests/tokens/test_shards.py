"""What of a token store is read at a start, and what finds a flip that leaves size, time and inode as they were."""

import os
import shutil

import pytest

from toconv import config, known_files
from toconv.__main__ import main
from toconv.tokens import shards
from toconv.tokens.encoding import prepare_store
from toconv.tokens.manifest import read_manifest

LONG_AGO = 1_600_000_000


@pytest.fixture
def folder(settings, small_shards, monkeypatch):
    monkeypatch.setattr(known_files, "SETTLED_SECONDS", 0)  # the photographs were just made
    found = prepare_store(settings)
    for path in found.glob("*.fp16"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    another_start(settings)
    return found


def another_start(settings):
    known_files._seen.clear()
    known_files._held.clear()
    return prepare_store(settings)


def flip(path):
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))
    os.utime(path, (LONG_AGO, LONG_AGO))


def test_a_start_reads_one_shard_of_those_that_look_as_they_did(settings, folder, monkeypatch):
    read, sha256 = [], known_files.sha256
    monkeypatch.setattr(known_files, "sha256", lambda path: read.append(path) or sha256(path))
    another_start(settings)
    shards, (of_shard,) = read_manifest(folder)["shards"], {path.name.split(".")[0] for path in read}
    assert len(shards) > 1 and {path.name for path in read} == set(shards[of_shard]["sha256"]), "and no picture"


def test_a_start_reads_no_picture_of_imagenets_folders_that_looks_as_it_did(tiny, tmp_path, photographs, monkeypatch):
    """They are not compared with each other, so that nothing but the tokens' name asks for their bytes."""
    for number, picture in enumerate(sorted(photographs.iterdir())):
        folder = tmp_path / "imagenet" / ("val" if number % 3 == 0 else "train") / f"n0000000{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, folder)
    asked = {key: value for key, value in tiny.items() if key != "data.root"}
    imagenet = {"data": "imagenet", "data.imagenet_root": str(tmp_path / "imagenet")}
    settings, read, sha256 = config.compose({**asked, **imagenet}), [], known_files.sha256
    monkeypatch.setattr(known_files, "SETTLED_SECONDS", 0)
    another_start(settings)
    monkeypatch.setattr(known_files, "sha256", lambda path: read.append(path) or sha256(path))
    another_start(settings)
    assert not [path for path in read if path.is_relative_to(tmp_path / "imagenet")]


def test_a_silent_flip_is_found_by_verify_and_mended_by_the_next_start(settings, folder, monkeypatch, capsys):
    victim = sorted(folder.glob("train*.tokens.fp16"))[0]
    right = victim.read_bytes()
    assert main(["verify", str(folder)]) == 0
    flip(victim)
    others = [entry for name, entry in read_manifest(folder)["shards"].items() if not victim.name.startswith(name)]
    with monkeypatch.context() as chosen:
        chosen.setattr(shards.random, "choice", lambda shards: others[0])
        another_start(settings)
        assert victim.read_bytes() != right, "it looks as it did"
    capsys.readouterr()
    assert main(["verify", str(folder)]) == 4
    told = capsys.readouterr().out
    assert f"{victim}: not what was written" in told and "files are what was written" in told
    another_start(settings)
    assert victim.read_bytes() == right
    assert main(["verify", str(folder)]) == 0


def test_verify_names_what_is_not_there_and_refuses_what_is_no_store(folder, tmp_path, capsys):
    next(folder.glob("val*.class.fp16")).unlink()
    assert main(["verify", str(folder)]) == 4
    assert ".class.fp16: not there" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "nothing")]) == 2
    assert "nothing: holds no token store" in capsys.readouterr().err
    assert main(["verify", "--all"]) == 2
    assert "not understood: --all" in capsys.readouterr().err


def test_verify_reads_nothing_where_one_of_several_is_no_store(folder, tmp_path, capsys):
    flip(next(folder.glob("train*.tokens.fp16")))
    nowhere = [str(tmp_path / name) for name in ("nothing", "neither")]
    assert main(["verify", str(folder), *nowhere]) == 2
    told = capsys.readouterr()
    assert "what was written" not in told.out
    assert all(f"{name}: holds no token store" in told.err for name in nowhere)
    assert main(["verify", str(folder)]) == 4
