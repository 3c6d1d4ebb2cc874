"""Shards are claimed by one machine of those that share an object store and no disk."""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from toconv.object_store import ObjectStore
from toconv.tokens import remote_claims
from toconv.tokens.manifest import key_of
from toconv.tokens.remote_claims import RemoteClaims
from toconv.tokens.shards import ENTRY

NAMES = [f"train-{number:05d}" for number in range(12)]


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
def url(request, tmp_path):
    return (tmp_path / "objects").as_uri() if request.param == "file" else request.getfixturevalue("s3").url


@pytest.fixture
def machine(tmp_path, url):
    """The folder of the same store on a machine's own disk, and its claims."""

    def made(name):
        folder = tmp_path / name / "0123456789abcdef"
        folder.mkdir(parents=True)
        return folder, RemoteClaims(ObjectStore(url), folder)

    return made


def finish(url, folder, name):
    ObjectStore(url).put(key_of(folder, f"{name}{ENTRY}"), b"an entry")


def work(url, folder, claims, seed):
    """Claim whatever is free until all shards are finished, as a machine that encodes does. Returns what was had."""
    draw, had = random.Random(seed), []
    while left := [n for n in NAMES if ObjectStore(url).stamp(key_of(folder, f"{n}{ENTRY}")) is None]:
        for name in draw.sample(left, len(left)):
            with claims.claimed(folder, name) as is_mine:
                if is_mine:
                    had.append(name)
                    time.sleep(draw.uniform(0, 0.05))
                    finish(url, folder, name)
    return had


def test_machines_at_work_at_once_have_each_shard_once(machine, url):
    machines = [machine(f"machine-{number}") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(work, url, *machine, number) for number, machine in enumerate(machines)]
    assert Counter(name for had in found for name in had.result()) == dict.fromkeys(NAMES, 1)
    assert not ObjectStore(url).listed(f"claims/{machines[0][0].name}", deep=True)


def test_a_shard_that_another_machine_works_on_is_left_to_it_and_free_afterwards(machine, url):
    (a, ours), (b, theirs) = machine("a"), machine("b")
    with (
        ours.claimed(a, NAMES[0]) as first,
        theirs.claimed(b, NAMES[0]) as second,
        theirs.claimed(b, NAMES[1]) as other,
    ):
        assert (first, second, other) == (True, False, True)
    with theirs.claimed(b, NAMES[0]) as second:
        assert second
    with ours.claimed(a, NAMES[0]):
        finish(url, a, NAMES[0])
    with theirs.claimed(b, NAMES[0]) as second:
        assert not second, "it is finished"


def test_what_was_finished_before_and_is_damaged_is_claimed_once_more(machine, url):
    folder, _ = machine("first")
    finish(url, folder, NAMES[0])
    later, claims = machine("later")
    with claims.claimed(later, NAMES[0]) as mine:
        assert mine


def test_the_claim_of_a_machine_that_is_gone_is_free_after_its_lease_and_one_of_this_folder_at_once(
    machine, url, monkeypatch
):
    monkeypatch.setattr(remote_claims, "LEASE_SECONDS", 0.4)
    (a, ours), (b, theirs) = machine("a"), machine("b")
    remote = ObjectStore(url)
    dead = f"claims/{a.name}/{NAMES[0]}/{remote_claims._identity(a)}-00000000"
    remote.put(dead, b"")
    with ours.claimed(a, NAMES[0]) as mine:
        assert mine and remote.stamp(dead) is None, "whoever holds the folder's lock knows that it is dead"
    remote.put(dead, b"")
    with theirs.claimed(b, NAMES[0]) as mine:
        assert not mine
    time.sleep(0.5)
    with theirs.claimed(b, NAMES[0]) as mine:
        assert mine and remote.stamp(dead) is None


def test_a_claim_that_is_renewed_lives_longer_than_its_lease(machine, url, monkeypatch):
    """By a clock that goes on once the claim was put anew."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(remote_claims, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(remote_claims, "time", SimpleNamespace(monotonic=lambda: clock.now))
    (a, ours), (b, theirs) = machine("a"), machine("b")

    def claims():
        return ObjectStore(url).listed(f"claims/{a.name}", deep=True)

    with ours.claimed(a, NAMES[0]):
        for _ in range(4):
            with theirs.claimed(b, NAMES[0]) as second:
                assert not second
            before, end = claims(), time.monotonic() + 60
            while claims() == before:
                assert time.monotonic() < end
                time.sleep(0.05)
            clock.now += 0.6 * remote_claims.LEASE_SECONDS
