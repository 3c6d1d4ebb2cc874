"""Copies of a store's shards on a machine's own disk: whole, once a machine, bounded."""

import multiprocessing
import os
import shutil
from contextlib import suppress

import pytest
import torch
from filelock import FileLock, Timeout

from toconv import config
from toconv.errors import MachineryError, StoreError
from toconv.object_store import ObjectStore
from toconv.paths import sha256
from toconv.settings import StoreSettings
from toconv.tokens import local_cache
from toconv.tokens.archive import CACHE
from toconv.tokens.encoding import prepare_store
from toconv.tokens.local_cache import LocalCache, unusable
from toconv.tokens.manifest import SPLITS, Content, key_of
from toconv.tokens.store import TokenStore

SPAWN = multiprocessing.get_context("spawn")
MANY = 10**9


@pytest.fixture
def files(tmp_path):
    """Two files of 100 bytes each, by a name."""

    def made(name):
        paths = [tmp_path / "shared" / f"{name}{number}" for number in range(2)]
        paths[0].parent.mkdir(exist_ok=True)
        for number, path in enumerate(paths):
            path.write_bytes(bytes([len(name), number]) * 50)
        return {path: Content(sha256(path), path.stat().st_size) for path in paths}

    return made


@pytest.fixture
def cache(tmp_path):
    return lambda most=MANY: LocalCache(tmp_path / "cache", most)


def test_a_split_for_which_there_is_no_room_is_read_where_it_lies_and_the_store_says_so(tiny, small_shards, cache):
    whole = TokenStore(prepare_store(config.compose(tiny)))
    read = TokenStore(whole.folder, cache(1))
    assert [*read.uncopied] == [f"{split} tokens of {whole.folder}" for split in SPLITS]
    assert all(why.startswith("read where they lie: this split takes ") for why in read.uncopied.values())
    every = torch.arange(whole.count("val"))
    assert torch.equal(read.read("val", every), whole.read("val", every)) and not whole.uncopied


@pytest.mark.parametrize("named", ["file", "/proc/nope"])
def test_a_folder_of_copies_that_cannot_be_written_is_told_where_copies_are_asked_for(tmp_path, monkeypatch, named):
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE, str(tmp_path / named))
    told = unusable(StoreSettings(local_cache_gb=0.5))
    assert told.startswith(f"store.local_cache_gb=0.5: {tmp_path / named / 'token-copies'} cannot be written (")
    assert told.endswith("; TOCONV_CACHE names another folder") and unusable(StoreSettings()) is None
    monkeypatch.setenv(CACHE, str(tmp_path / "to be made"))
    assert unusable(StoreSettings(local_cache_gb=0.5)) is None and not (tmp_path / "to be made").exists()


@pytest.mark.parametrize("named", ["copies", "./copies", "../copies"])
def test_a_folder_of_copies_that_each_worker_would_have_elsewhere_is_told(monkeypatch, named):
    monkeypatch.setenv(CACHE, named)
    told = unusable(StoreSettings(local_cache_gb=0.5))
    assert "must be absolute, since workers have working directories of their own" in told
    assert unusable(StoreSettings()) is None


def content(folder):
    return [path.read_bytes() for path in sorted(folder.glob("[!.]*[01]"))]


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_a_store_reads_its_tokens_from_the_copies(tiny, small_shards, cache, dtype):
    folder = prepare_store(config.compose({**tiny, "store.dtype": dtype}))
    whole = TokenStore(folder)
    read = {split: whole.read(split, torch.arange(whole.count(split))) for split in SPLITS}
    del whole
    TokenStore(folder, cache())
    for path in folder.glob("*.tokens.*"):
        path.write_bytes(bytes(path.stat().st_size))
    copied = TokenStore(folder, cache())
    for split, expected in read.items():
        assert torch.equal(copied.read(split, torch.arange(copied.count(split))), expected)


def test_it_lies_below_the_folder_of_all_that_is_fetched_and_only_where_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE, str(tmp_path))
    assert LocalCache.asked(StoreSettings()) is None
    assert LocalCache.asked(StoreSettings(local_cache_gb=0.5)).folder.parent == tmp_path


def fetch(folder, files, written):
    """In a process of its own: copies, noting each, until `written` may be read."""
    write = local_cache.write_atomic

    def noted(path, data):
        written.put(path.name)
        write(path, data)

    local_cache.write_atomic = noted
    copies = LocalCache(folder, MANY).copies(files)
    written.put(content(copies.folder))


@pytest.mark.slow
def test_two_processes_copy_each_file_once(tmp_path, files):
    asked, written = files("a"), SPAWN.Queue()
    processes = [SPAWN.Process(target=fetch, args=(tmp_path / "cache", asked, written)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [written.get(timeout=300) for _ in range(4)]
    for process in processes:
        process.join()
    assert sorted(name for name in found if isinstance(name, str)) == ["a0", "a1"]
    assert [given for given in found if not isinstance(given, str)] == 2 * [[path.read_bytes() for path in asked]]


def test_the_least_recently_used_go_where_the_bound_is_reached(files, cache, monkeypatch):
    kept = {name: cache(500).copies(files(name)).folder for name in ("a", "bb")}
    os.utime(kept["a"] / local_cache.USED, (1, 1))
    os.utime(kept["bb"] / local_cache.USED, (2, 2))
    again = cache(500).copies(files("a")).folder
    third = cache(500).copies(files("ccc")).folder
    assert again == kept["a"] and again.is_dir() and third.is_dir() and not kept["bb"].exists()
    assert sum(path.stat().st_size for path in again.parent.glob("*/[!.k]*") if path.suffix != ".lease") == 400


def test_copies_that_another_process_removes_as_they_are_asked_for_are_made_anew(files, cache, monkeypatch):
    wanted, mkdir = files("a"), os.mkdir
    copies = cache().copies(wanted)
    copies.lease.release()

    def beside(path, *given):
        """Behind it another process removes these copies for its own, unless this one has the lock."""
        try:
            mkdir(path, *given)
        finally:
            if path == copies.folder:
                with suppress(Timeout), FileLock(path.parent / ".lock", timeout=0):
                    shutil.rmtree(path)

    monkeypatch.setattr(os, "mkdir", beside)
    assert content(cache().copies(wanted).folder) == [path.read_bytes() for path in wanted]


def test_what_is_in_use_stays_and_then_there_is_no_room(files, cache):
    held = cache(300).copies(files("a"))
    assert cache(300).copies(files("bb")).startswith("it takes 200 bytes, and others in use")
    assert content(held.folder) and [*held.folder.parent.glob("*/")] == [held.folder]
    held.lease.release()
    assert cache(300).copies(files("bb")).folder.is_dir() and not held.folder.exists()


def test_for_a_split_that_is_larger_than_the_cache_there_is_no_room(files, cache):
    held = cache().copies(files("a"))
    held.lease.release()
    assert cache(199).copies(files("bb")) == "this split takes 200 bytes, store.local_cache_gb=1.99e-07"
    assert held.folder.exists(), "nothing goes for it"


def hold_and_die(folder, files):
    LocalCache(folder, MANY).copies(files)
    os._exit(9)


@pytest.mark.slow
def test_what_a_process_that_died_has_used_is_free(tmp_path, files, cache):
    dead = SPAWN.Process(target=hold_and_die, args=(tmp_path / "cache", files("a")))
    dead.start()
    dead.join()
    assert len([*(tmp_path / "cache").glob("*/a[01]")]) == 2
    assert cache(300).copies(files("bb")).folder.is_dir()
    assert not [*(tmp_path / "cache").glob("*/a[01]")]


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "begun"])
def test_a_copy_that_is_not_whole_is_made_anew_and_no_other(files, cache, damage):
    folder = cache().copies(files("a")).folder
    before, victim = (folder / "a1").stat().st_mtime_ns, folder / "a0"
    right = victim.read_bytes()
    if damage in ("gone", "begun"):
        victim.unlink()
    else:
        victim.write_bytes(right[:-1] if damage == "cut" else b"x" + right[1:])
    if damage == "begun":
        (folder / ".a0.1234.tmp").write_bytes(right[:3])
    again = cache().copies(files("a"))
    assert again.folder == folder and victim.read_bytes() == right and not [*folder.glob(".*.tmp")]
    assert (folder / "a1").stat().st_mtime_ns == before


def test_a_shared_file_that_is_not_what_was_written_is_refused(files, cache):
    asked = files("a")
    next(iter(asked)).write_bytes(bytes(100))
    with pytest.raises(StoreError, match="a0: not what was written"):
        cache().copies(asked)


def in_an_object_store(tmp_path, files):
    """Files that are in an object store, and no longer where they were."""
    remote = ObjectStore((tmp_path / "objects").as_uri())
    for path, told in files.items():
        remote.put(key_of(path.parent, told.sha256), path.read_bytes())
        path.unlink()
    return remote


def test_what_does_not_lie_there_comes_from_the_object_store_within_the_bound(tmp_path, files):
    asked, folder = files("a"), tmp_path / "cache"
    expected = [path.read_bytes() for path in asked]
    remote = in_an_object_store(tmp_path, asked)
    held = LocalCache(folder, 300, remote).copies(asked)
    assert content(held.folder) == expected and not [*(tmp_path / "shared").iterdir()]
    other = files("bb")
    in_an_object_store(tmp_path, other)
    with pytest.raises(MachineryError, match="its tokens are elsewhere, and not copied: .* others in use "):
        LocalCache(folder, 300, remote).copies(other)
    held.lease.release()
    LocalCache(folder, 300, remote).copies(other)
    assert not held.folder.exists()


def test_an_object_that_is_not_what_was_written_is_refused(tmp_path, files):
    asked = files("a")
    remote = in_an_object_store(tmp_path, asked)
    remote.put(key_of(tmp_path / "shared", next(iter(asked.values())).sha256), b"altered")
    with pytest.raises(StoreError, match="a0: not what was written"):
        LocalCache(tmp_path / "cache", MANY, remote).copies(asked)
