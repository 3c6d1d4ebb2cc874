"""Full disks, damaged files, a locked ledger: one after the other on one sweep, which ends as if undisturbed."""

import json
import resource
import shutil
import sqlite3
import time

import pytest

from tests.running import run, started_anew, trial_rows
from tests.sweep.faults import Disturbed, ended
from toconv.paths import TrialPaths

pytestmark = pytest.mark.slow


def test_a_full_disk_while_a_checkpoint_is_written(disturbed):
    """RLIMIT_FSIZE of the worker stands for the full disk: every write past 10 kB fails, as with ENOSPC."""
    process = disturbed.start()
    trial = disturbed.trial_after(process, 3)
    resource.prlimit(json.loads((trial / "worker.json").read_text())["pid"], resource.RLIMIT_FSIZE, (10_000, -1))
    code, _, stderr = ended(process)
    assert code == 4 and "checkpoint not written" in stderr and "to go on: python" in stderr.splitlines()[-1], stderr


def test_a_full_disk_while_the_study_is_written(disturbed):
    process = disturbed.start(started_anew)  # whose output goes into pipes, which have no such limit
    disturbed.trial_after(process, 3)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, -1))
    code, _, stderr = ended(process)
    assert code == 4 and "to go on: python" in stderr.splitlines()[-1], stderr
    assert "Traceback" not in stderr, stderr


def test_damaged_checkpoints_cost_one_interval_at_most_and_damaged_token_shards_are_encoded_anew(disturbed):
    """A checkpoint and a shard are truncated, of another one each a bit is flipped."""
    first = disturbed.stop_after(3)
    running = [trial for trial, epochs in disturbed.lines().items() if epochs and not (trial / "finished").exists()]
    trials = [first, *(trial for trial in running if trial != first)][:2]
    known = {trial: (trial / "metrics.jsonl").read_text().splitlines() for trial in trials}
    stores = disturbed.folder / "outputs" / "tokens"
    shards = [next(iter(sorted(stores.glob(f"*/{split}-*.tokens.fp16")))) for split in ("train", "val")]
    for damage, path in zip((truncated, flipped), shards, strict=True):
        replaced(path, damage)
    for damage, trial in zip((truncated, flipped), trials, strict=False):  # a single trial may be under way
        replaced(TrialPaths(trial).latest, damage)
    process = disturbed.start()
    disturbed.trial_after(process, 0)
    stdout = disturbed.stop(process)
    assert "tokens: 36 images" in stdout and "none encoded now" not in stdout

    def nothing_older_than_the_checkpoint_before_was_done_again():
        for trial, before in known.items():
            after, kept = (trial / "metrics.jsonl").read_text().splitlines(), before[:-2]
            assert after[: len(kept)] == kept

    disturbed.checks.append(nothing_older_than_the_checkpoint_before_was_done_again)


def truncated(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def replaced(path, damage):
    """A new file with the damage in the old one's place: hard links of the old bytes stay whole."""
    content = damage(path.read_bytes())
    path.unlink()
    path.write_bytes(content)


def test_a_study_that_another_process_locks_for_30_seconds_is_waited_for(disturbed):
    process = disturbed.start()
    disturbed.trial_after(process, 1)
    connection = sqlite3.connect(disturbed.folder / "outputs" / "tiny" / "study.db", timeout=30)
    connection.execute("BEGIN EXCLUSIVE")
    time.sleep(30)
    connection.rollback()
    connection.close()
    code, _, stderr = ended(process)
    assert code == 0, stderr


def test_a_picture_that_cannot_be_read_is_named_and_nothing_is_lost(overrides, tmp_path):
    _, settings = overrides
    pictures = tmp_path / "pictures"
    shutil.copytree(settings["data.root"], pictures)
    bad = sorted(pictures.iterdir())[4]
    whole = bad.read_bytes()
    sweep = Disturbed(tmp_path, {**settings, "data.root": str(pictures)})
    for damage in (whole[: len(whole) // 2], b"", b"no picture at all" * 50):
        bad.write_bytes(damage)
        done = run(tmp_path, sweep.file)
        assert done.returncode == 2 and bad.name in done.stderr
    bad.write_bytes(whole)
    again = run(tmp_path, sweep.file)
    assert again.returncode == 0 and {r["state"] for r in trial_rows(tmp_path)} == {"complete"}
