"""`toconv status` and `toconv ls`, as processes of their own."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.repository import REPOSITORY
from toconv.commands import ls, status
from toconv.errors import RequestError
from toconv.paths import SweepPaths
from toconv.sweep.running import Announcement

HEAVY = ("torch", "ray", "optuna", "mlflow", "hydra", "numpy")
SAYS_WHAT_IT_IMPORTED = """
import json, resource, sys
from toconv.__main__ import main
code = main(sys.argv[1:])
spent = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([code, sorted(sys.modules), spent.ru_utime + spent.ru_stime]), file=sys.stderr)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Announcement(SweepPaths(tmp_path / "outputs" / "ended"), 3) as announcement:
        announcement.tell(planned=4, left=0)
    Announcement(SweepPaths(tmp_path / "outputs" / "at_work"), 3).tell(planned=4, left=4)
    return tmp_path


@pytest.mark.parametrize("words", [["status"], ["status", "ended"], ["status", "ended", "--json"], ["ls"]])
def test_they_import_no_library_that_takes_long_and_take_less_than_a_second(folder, words):
    done = subprocess.run(
        [sys.executable, "-c", SAYS_WHAT_IT_IMPORTED, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    code, modules, seconds = json.loads(done.stderr.splitlines()[-1])
    assert code == 0 and not set(HEAVY) & set(modules), done.stderr
    assert seconds < 1.0


def test_without_a_name_it_tells_of_what_runs_alone(folder, capfd):
    assert status.main([]) == 0
    printed = capfd.readouterr().out
    assert "at_work: running since" in printed and "ended:" not in printed


def test_as_json_each_line_is_an_object(folder, capfd):
    assert ls.main(["--json"]) == 0
    found = {entry["name"]: entry["standing"] for entry in map(json.loads, capfd.readouterr().out.splitlines())}
    assert found == {"at_work": "running", "ended": "done"}


def test_watching_ends_once_nothing_runs(folder, capfd):
    assert status.main(["ended", "--watch"]) == 0
    assert capfd.readouterr().out.count("ended: done") == 1


@pytest.mark.parametrize("words", [["a", "b"], ["--fast"], ["nothing"]])
def test_what_cannot_be_understood_is_refused(folder, words):
    with pytest.raises(RequestError):
        status.main(words)


def test_a_ledger_that_cannot_be_read_is_named_and_the_others_are_told(folder, capfd):
    SweepPaths(folder / "outputs" / "ended").study.write_text("no database")
    assert ls.main([]) == 0
    printed = capfd.readouterr().out
    assert "study.db: not readable" in printed and "at_work" in printed


@pytest.mark.parametrize("seen", [False, True])
def test_a_sweep_that_is_removed_while_they_are_listed_leaves_the_others_told(folder, seen, monkeypatch, capfd):
    def look(paths):
        status = ls_look(paths) if seen else None
        if paths.root.name == "at_work":
            shutil.rmtree(paths.root)
        return status or ls_look(paths)

    ls_look = ls.look
    monkeypatch.setattr(ls, "look", look)
    assert ls.main([]) == 0
    assert "ended " in capfd.readouterr().out
