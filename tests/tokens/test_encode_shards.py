"""Shards that several processes encode between them: each once, whoever dies or fails."""

import os
import re
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest

from tests.forked import PROCESSES
from toconv import config
from toconv.errors import MachineryError
from toconv.progress import console
from toconv.tokens import encode_shards, shards
from toconv.tokens.encode_shards import encode_share
from toconv.tokens.encoding import prepare_store
from toconv.tokens.manifest import read_manifest

IMAGES_OF_A_SHARD = 3


def beside(settings, log, before_writing=None):
    """`prepare_store` in another process, which says what it writes."""
    write = shards.write_shard

    def written(folder, shard, *tokens):
        (before_writing or with_another)(log.parent)
        with log.open("a") as file:
            file.write(f"{shard.name} {os.getpid()}\n")
        return write(folder, shard, *tokens)

    encode_shards.write_shard, shards.SHARD_CROPS = written, IMAGES_OF_A_SHARD
    prepare_store(settings)


def with_another(folder):
    """Nobody writes before two are about to."""
    (folder / f"writes-{os.getpid()}").touch()
    end = time.monotonic() + 100
    while len([*folder.glob("writes-*")]) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(0.1)


def stuck(settings, log):
    def for_ever(folder):
        log.touch()
        time.sleep(600)

    beside(settings, log, for_ever)


def started(work, *given):
    process = PROCESSES.Process(target=work, args=given)
    process.start()
    return process


@pytest.fixture
def settings(tiny):
    """So few pictures are decoded ahead that nobody claims all shards, which have one each."""
    return config.compose({**tiny, "encoder.batch_size": IMAGES_OF_A_SHARD, "data.workers": 1})


@pytest.fixture
def alone(settings, tmp_path, monkeypatch):
    """What one process makes: {file: bytes}."""
    monkeypatch.setattr(shards, "SHARD_CROPS", IMAGES_OF_A_SHARD)
    data = settings.data.model_copy(update={"tokens_dir": tmp_path / "alone"})
    return contents(prepare_store(settings.model_copy(update={"data": data})))


def contents(folder):
    return {path.name: path.read_bytes() for path in [*folder.glob("*.fp16"), folder / "manifest.json"]}


@pytest.mark.slow
def test_four_processes_write_each_shard_once(settings, alone, tmp_path, capsys):
    processes = [started(beside, settings, tmp_path / "log") for _ in range(4)]
    for process in processes:
        process.join(200)
    assert [process.exitcode for process in processes] == [0] * 4
    names, writers = zip(*(line.split() for line in (tmp_path / "log").read_text().splitlines()), strict=True)
    folder = prepare_store(settings)
    assert sorted(names) == sorted(read_manifest(folder)["shards"]) and len(set(writers)) > 1
    assert contents(folder) == alone
    assert not [*folder.glob("t*.lock"), *folder.glob("v*.lock")] and "none encoded now" in capsys.readouterr().out


@pytest.mark.slow
def test_a_process_that_dies_costs_the_shard_that_it_works_on(settings, alone, tmp_path, capsys):
    log, process = tmp_path / "log", started(stuck, settings, tmp_path / "log")
    while not log.exists():
        assert process.is_alive()
        time.sleep(0.05)
    threading.Timer(1.5, lambda: os.kill(process.pid, signal.SIGKILL)).start()  # while this one waits for its shard
    folder = prepare_store(settings)
    assert contents(folder) == alone and "of them by others" not in capsys.readouterr().out
    process.join(10)


def said(settings, printed, both):
    """With a helper, once both have seen what is missing; what it prints goes to a file."""

    def before_encoding(claims, missing):
        both.wait(100)
        return [InThread(encode_share, settings, claims, missing[::2])]

    shards.SHARD_CROPS = IMAGES_OF_A_SHARD
    with printed.open("w") as file:
        console.file = file
        prepare_store(settings, before_encoding)


@pytest.mark.slow
def test_two_sweeps_at_once_each_tell_what_their_own_processes_encoded(settings, alone, tmp_path):
    printed, both = [tmp_path / "one", tmp_path / "other"], PROCESSES.Barrier(2)
    processes = [started(said, settings, path, both) for path in printed]
    for process in processes:
        process.join(200)
    told = [" ".join(path.read_text().split()) for path in printed]
    found = [re.search(r"; (\d+) encoded now in [^;]+?(?:, (\d+) of them by others)?;", line) for line in told]
    assert all(found), told
    own = [int(line[1]) - int(line[2] or 0) for line in found]
    assert sum(own) == 36 and any(line[2] for line in found), told


class InThread:
    """A helper that works in this process."""

    def __init__(self, work, *given):
        self._error = None
        self._thread = threading.Thread(target=self._run, args=(work, given))
        self._thread.start()

    def _run(self, work, given):
        try:
            work(*given)
        except Exception as error:
            self._error = error

    def ended(self):
        return not self._thread.is_alive()

    def failure(self):
        return self._error and str(self._error)


def test_helpers_encode_between_them_and_what_they_leave_is_encoded_here(settings, alone, monkeypatch, capsys):
    write, written = shards.write_shard, []

    def counted(folder, shard, *tokens):
        written.append(shard.name)
        if written.count("train-00002") == 1 and shard.name == "train-00002":
            raise OSError("the device is gone")
        return write(folder, shard, *tokens)

    monkeypatch.setattr(encode_shards, "write_shard", counted)
    monkeypatch.setattr(encode_shards, "POLL_SECONDS", 0.01)
    at_once = []

    def before_encoding(claims, missing):
        """Another sweep is at the last three."""
        at_once.append(InThread(encode_share, settings, shards.Claims(claims.folder, missing), missing[-3:]))
        while not at_once[0].ended():
            time.sleep(0.01)
        written.clear()
        return [InThread(encode_share, settings, claims, missing[:4])]

    folder = prepare_store(settings, before_encoding)
    assert contents(folder) == alone
    assert len(written) == len(set(written)) + 1, "the one that was lost is encoded again, and no other"
    told = capsys.readouterr().out.replace("\n", " ")
    assert "a device stopped encoding (the device is gone); its shard is encoded elsewhere" in told
    assert "36 encoded now" in told and "9 of them by others" in told, (
        "what helpers wrote, the lost one too, is its own"
    )


def test_shards_that_others_finish_meanwhile_are_counted_once_each_beside_ones_own(settings, alone, monkeypatch):
    encode, advanced, before, others = encode_shards._Encoder.__call__, [], [], []

    @contextmanager
    def bar(unit):
        yield SimpleNamespace(add_task=lambda *_, total: total, advance=lambda task, count: advanced.append(count))

    def before_encoding(claims, missing):
        """Another process has encoded the first shard, and is at the second."""
        claims = shards.Claims(claims.folder, missing)
        encode_share(settings, claims, missing[:1])
        at_work = ExitStack()
        assert at_work.enter_context(claims.claimed(missing[1]))
        others.append((claims, missing[1], at_work))
        before.clear()
        return ()

    def encoded(encoder, pixels):
        before.append(sum(advanced))
        if len(before) == 2 and others:
            claims, shard, at_work = others.pop()
            at_work.close()
            encode_share(settings, claims, [shard])
            before.pop()  # its own
        return encode(encoder, pixels)

    monkeypatch.setattr(encode_shards, "bar", bar)
    monkeypatch.setattr(encode_shards._Encoder, "__call__", encoded)
    assert contents(prepare_store(settings, before_encoding)) == alone
    assert before == [0, 6, *range(12, 36, 3)], "the first is counted after one of its own, the second after two"
    assert sum(advanced) == 36


def test_pictures_of_the_next_shard_are_encoded_while_the_last_one_is_written(settings, alone, monkeypatch):
    write, encoded = shards.write_shard, threading.Semaphore(0)
    encode = encode_shards._Encoder.__call__

    def counted(encoder, pixels):
        found = encode(encoder, pixels)
        encoded.release()
        return found

    def slow(folder, shard, *tokens):
        if shard.name == "train-00000":
            assert all(encoded.acquire(timeout=30) for _ in range(2)), "its own batch, and the next shard's"
        return write(folder, shard, *tokens)

    monkeypatch.setattr(encode_shards._Encoder, "__call__", counted)
    monkeypatch.setattr(encode_shards, "write_shard", slow)
    assert contents(prepare_store(settings)) == alone


def test_a_disk_that_is_full_for_one_shard_keeps_the_others_and_lets_all_go(settings, alone, monkeypatch):
    write = shards.write_shard

    def full(folder, shard, *tokens):
        if shard.name == "train-00001":
            raise MachineryError("no space left")
        return write(folder, shard, *tokens)

    monkeypatch.setattr(encode_shards, "write_shard", full)
    with pytest.raises(MachineryError, match="no space left"):
        prepare_store(settings)
    (folder,) = [path for path in settings.data.tokens_dir.iterdir() if path.is_dir()]
    assert (folder / "train-00000.entry").exists() and not (folder / "train-00001.entry").exists()
    monkeypatch.setattr(encode_shards, "write_shard", write)
    assert contents(prepare_store(settings)) == alone
