"""Tokens in an object store, of a server of S3's that runs here."""

import hashlib
import re
import threading
import time
from collections import Counter

import pytest
import torch

from tests.object_stores import S3
from toconv import config
from toconv.errors import MachineryError, StoreError
from toconv.object_store import ObjectStore
from toconv.paths import write_atomic
from toconv.tokens import encode_shards
from toconv.tokens.encoding import prepare_store
from toconv.tokens.local_cache import LocalCache
from toconv.tokens.manifest import MANIFEST, SPLITS
from toconv.tokens.remote import fetch_derived, have_here, send_derived
from toconv.tokens.store import TokenStore


@pytest.fixture
def here(tiny, tmp_path, small_shards, s3: S3):
    """The settings of a machine by its name; each has a disk of its own."""
    return lambda machine, **more: config.compose(
        {**tiny, "data.tokens_dir": str(tmp_path / machine), "store.url": s3.url, "data.seed": 0, **more}
    )


@pytest.fixture
def nothing_encoded(monkeypatch):
    """From now on."""

    def forbid():
        monkeypatch.setattr(encode_shards, "load_encoder", lambda *asked: pytest.fail("encodes"))

    return forbid


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if ".lock" not in path.suffixes and path.suffix}


@pytest.mark.parametrize("dtype", ["int8", pytest.param("fp16", marks=pytest.mark.slow)])
def test_a_second_machine_with_an_empty_disk_encodes_nothing(here, nothing_encoded, dtype):
    first = prepare_store(here("first", **{"store.dtype": dtype}))
    nothing_encoded()
    second = prepare_store(here("second", **{"store.dtype": dtype}))
    assert first.name == second.name and first != second
    ours, theirs = files(first), files(second)
    assert {name for name in ours if name != "known-files.json"} == {n for n in theirs if n != "known-files.json"}
    assert all(ours[name] == theirs[name] for name in ours if name != "known-files.json")


@pytest.mark.slow
def test_what_an_interrupted_encoding_had_written_is_fetched_and_the_rest_encoded(here, monkeypatch):
    write, written = encode_shards.write_shard, []

    def interrupted(folder, shard, *of_shard):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(shard.name)
        return write(folder, shard, *of_shard)

    monkeypatch.setattr(encode_shards, "write_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_store(here("first"))
    elsewhere = []
    monkeypatch.setattr(
        encode_shards,
        "write_shard",
        lambda folder, shard, *of: elsewhere.append(shard.name) or write(folder, shard, *of),
    )
    prepare_store(here("second"))
    assert len(written) == 2 and elsewhere and not {*written} & {*elsewhere}


def test_sending_is_said_where_files_of_tokens_are_sent(here, s3, capsys):
    """Shards are sent as they are encoded: after them the manifest alone is."""
    folder = prepare_store(here("first"))
    assert "files of tokens" not in capsys.readouterr().out
    elsewhere = here("first", **{"store.url": f"{s3.url}/elsewhere"})
    assert prepare_store(elsewhere) == folder
    told = " ".join(capsys.readouterr().out.split())
    assert re.search(r"sending [1-9]\d* files of tokens to s3:", told), told


def test_what_is_there_is_not_put_again(here, s3):
    prepare_store(here("first"))
    before = s3.modified()
    prepare_store(here("first"))
    prepare_store(here("second"))
    assert s3.modified() == before and any(key.endswith(MANIFEST) for key in before)


@pytest.mark.slow
def test_a_node_that_has_no_tokens_fetches_the_store_whole(here, tmp_path):
    first = prepare_store(here("first"))
    folder = tmp_path / "node" / first.name
    remote = ObjectStore.asked(here("first").store)
    have_here(remote, folder)
    whole, fetched = TokenStore(first), TokenStore(folder)
    for split in SPLITS:
        every = torch.arange(whole.count(split))
        assert torch.equal(fetched.read(split, every), whole.read(split, every))
    with pytest.raises(MachineryError, match="nothing: is not there, nor are its tokens whole at s3://"):
        have_here(remote, tmp_path / "nothing")


@pytest.mark.parametrize("dtype", ["int8", pytest.param("fp16", marks=pytest.mark.slow)])
def test_a_node_with_a_cache_has_the_tokens_there_alone(here, tmp_path, dtype):
    first = prepare_store(here("first", **{"store.dtype": dtype}))
    folder, remote = tmp_path / "node" / first.name, ObjectStore.asked(here("first").store)
    have_here(remote, folder, tokens=False)
    assert not [*folder.glob("*.tokens.*"), *folder.glob("*.scales.*")]
    whole, cached = TokenStore(first), TokenStore(folder, LocalCache(tmp_path / "cache", 10**9, remote))
    for split in SPLITS:
        every = torch.arange(whole.count(split))
        assert torch.equal(cached.read(split, every), whole.read(split, every))
        assert torch.equal(cached.class_tokens(split), whole.class_tokens(split))
    assert not [*folder.glob("*.tokens.*"), *folder.glob("*.scales.*")]
    have_here(remote, folder)
    assert TokenStore(folder).count("train") == whole.count("train"), "whoever has no cache fetches the rest"


def test_an_object_that_is_not_what_was_written_is_not_taken(here, s3, tmp_path):
    first = prepare_store(here("first"))
    victim = next(
        key for key in s3.modified() if key.rpartition("/")[2].isalnum() and len(key.rpartition("/")[2]) == 64
    )
    s3.put(victim, b"something else")
    with pytest.raises(StoreError, match="are not what was written"):
        have_here(ObjectStore.asked(here("first").store), tmp_path / "node" / first.name)
    second = prepare_store(here("second"))
    assert TokenStore(second).count("train") == TokenStore(first).count("train"), "that shard is encoded again"


@pytest.mark.slow
def test_two_machines_that_begin_together_encode_each_shard_once_between_them(here, monkeypatch):
    """A second begins while the first has a shard; each then has the whole store."""
    write, written = encode_shards.write_shard, Counter()
    second = None

    def counted(folder, shard, *of_shard):
        nonlocal second
        written[shard.name] += 1
        if second is None:
            second = threading.Thread(target=prepare_store, args=(here("second"),))
            second.start()
            time.sleep(1)
        return write(folder, shard, *of_shard)

    monkeypatch.setattr(encode_shards, "write_shard", counted)
    monkeypatch.setattr("toconv.tokens.remote_claims.LOOK_SECONDS", 0.1)
    first = prepare_store(here("first"))
    second.join(300)
    assert {*written.values()} == {1} and len(written) > 3
    ours, theirs = files(first), files(here("second").data.tokens_dir / first.name)
    assert all(theirs[name] == content for name, content in ours.items() if name != "known-files.json")


def test_what_was_computed_from_a_store_goes_along_and_nothing_outside_of_its_folder_is_written(here, s3, tmp_path):
    first = prepare_store(here("first"))
    remote = ObjectStore(s3.url)
    beside = {"codes-k2.pt": b"computed", "smaller-k2/manifest.json": b"{}", "smaller-k2/train.tokens.fp16": b"tokens"}
    for name, content in {**beside, "codes-k2.lock": b"", "smaller-k2/known-files.json": b"of this disk"}.items():
        write_atomic(first / "derived" / name, content)
    send_derived(remote, first)
    outside = f"tokens/{first.name}/derived/../../outside@{hashlib.sha256(b'x').hexdigest()}"
    altered = f"tokens/{first.name}/derived/altered@{hashlib.sha256(b'y').hexdigest()}"
    for key in (outside, altered):
        s3.put(f"some/prefix/{key}", b"x")
    before = s3.modified()
    send_derived(remote, first)
    assert s3.modified() == before, "what is there is not put again"
    node = tmp_path / "node" / first.name
    write_atomic(node / "derived" / "codes-k2.pt", b"computed here")
    have_here(remote, node)
    found = {str(p.relative_to(node / "derived")): p.read_bytes() for p in (node / "derived").rglob("*") if p.is_file()}
    assert found == {**beside, "codes-k2.pt": b"computed here"}
    assert not [*tmp_path.rglob("outside")]


def test_a_file_that_two_machines_put_at_a_time_comes_with_its_own_seal(tmp_path):
    def digest(content):
        return hashlib.sha256(content).hexdigest()

    def seal(content):
        return f"{digest(content)}\n".encode()

    remote, made = ObjectStore((tmp_path / "shared").as_uri()), [f"{number} s".encode() for number in range(20)]
    pairs = ((a, b) for a in made for b in made if digest(a) < digest(b))
    both = next((a, b) for a, b in pairs if digest(seal(a)) > digest(seal(b)))  # listed first: the one's file, the
    for machine, content in zip(("first", "second"), both, strict=True):  # other one's seal
        folder = tmp_path / machine / "f00d"
        write_atomic(folder / "derived" / "baselines-k2.json", content)
        write_atomic(folder / "derived" / "baselines-k2.sha256", seal(content))
        send_derived(remote, folder)
    third = tmp_path / "third" / "f00d"
    fetch_derived(remote, third)
    content = (third / "derived" / "baselines-k2.json").read_bytes()
    assert content in both and (third / "derived" / "baselines-k2.sha256").read_bytes() == seal(content)


@pytest.mark.slow
def test_a_store_that_goes_while_it_is_written_costs_nothing_of_what_is_on_the_disk(here, s3, monkeypatch):
    monkeypatch.setattr("toconv.object_store.WAITS", (0.01,))
    write = encode_shards.write_shard

    def last_one(folder, shard, *of_shard):
        entry = write(folder, shard, *of_shard)
        s3.remove_bucket()
        return entry

    monkeypatch.setattr(encode_shards, "write_shard", last_one)
    with pytest.raises(MachineryError, match="not (put|looked up) .*what is on this machine's disk stays"):
        prepare_store(here("first"))
    kept = [*(here("first").data.tokens_dir).glob("*/*.entry")]
    assert kept
    with pytest.raises(MachineryError, match="store.url=s3://.*"):
        prepare_store(here("first"))
    s3.make_bucket()
    monkeypatch.setattr(encode_shards, "write_shard", write)
    before = {path: path.stat().st_mtime_ns for path in kept}
    prepare_store(here("first"))
    assert {path: path.stat().st_mtime_ns for path in kept} == before
