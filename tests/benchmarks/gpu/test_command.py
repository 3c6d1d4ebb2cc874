"""The whole of `python -m benchmarks gpu --tiny`, where nothing but torch, numpy, pydantic and safetensors is there."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu import command, forked
from benchmarks.gpu.lab import Lab
from benchmarks.gpu.parts import PARTS, Part
from benchmarks.gpu.results import CUT_OFF, DONE, ERROR, NOT_RUN, Results
from benchmarks.gpu.scale import TINY
from tests.repository import REPOSITORY

NEEDED = "torch,numpy,pydantic,safetensors"
LONGEST = 60  # seconds of the tiny run on an idle machine, and of CPU time on any


def start(folder, *arguments):
    words = ["-m", "tests.absent", NEEDED, "benchmarks", "gpu", "--tiny", "--json", str(folder / "gpu.json")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *words, *arguments],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def worked():
    """Seconds of CPU time, of processes that were started here and ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


@pytest.mark.slow
def test_all_of_it_runs_on_the_cpu_with_torch_numpy_pydantic_and_safetensors_alone(tmp_path):
    before, process = worked(), start(tmp_path)
    printed, _ = process.communicate(timeout=4 * LONGEST)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert process.returncode == 0, printed
    assert {name: part["state"] for name, part in found["parts"].items()} == {part.name: DONE for part in PARTS}
    assert all(part["rows"] for part in found["parts"].values())
    assert worked() - before < LONGEST, printed
    page = (tmp_path / "gpu.md").read_text()
    assert all(f"## {part.title}" in page for part in PARTS) and "Tried with tiny sizes" in page


@pytest.mark.slow
def test_a_run_that_is_killed_between_two_parts_keeps_what_it_has(tmp_path):
    process, path = start(tmp_path), tmp_path / "gpu.json"
    deadline = time.monotonic() + 4 * LONGEST
    while not (path.exists() and json.loads(path.read_text())["parts"]["card"]["state"] == DONE):
        assert time.monotonic() < deadline and process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    found = json.loads(path.read_text())["parts"]
    assert len(found["card"]["rows"]) > 5 and found["checkpoint"]["state"] != DONE


def test_without_a_gpu_it_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main(["card"]) == 2
    assert "--tiny tries all of it on the CPU" in capsys.readouterr().out
    assert command.main(["--tiny", "cards"]) == 2
    assert "no such part: cards" in capsys.readouterr().out


class Told(Part):
    """A part of the tests' own."""

    def rows(self, lab):
        yield {"what": self.name}
        if self.name == "fails":
            raise ValueError("of this part alone")
        if self.name == "hangs":
            time.sleep(60)
        if self.name == "dies":
            os._exit(7)
        if self.name == "fails in a row":
            yield {"what": "another", "error": "of this row alone"}


def told(*names):
    return [Told(name, name, "a part", "", 60.0) for name in names]


@pytest.fixture
def clock(monkeypatch):
    """Of the command: it stands still but for an hour that passes once the part that hangs does."""
    found, row = SimpleNamespace(now=0.0), Results.row

    def noted(results, part, content):
        row(results, part, content)
        found.now += 3600.0 * (part == "hangs")

    monkeypatch.setattr(Results, "row", noted)
    for module in (command, forked):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: found.now))


def run(parts, folder, seconds):
    results = Results(folder / "gpu.json", [part.name for part in parts], tiny=True)
    lab = Lab(TINY, torch.device("cpu"), folder)
    command._run(parts, lab, results, folder / "gpu.md", seconds)
    return json.loads((folder / "gpu.json").read_text())["parts"]


@pytest.fixture(autouse=True)
def without_page(monkeypatch, request):
    """Parts of the tests' own are none of the page."""
    monkeypatch.setattr(command.page, "text", lambda content: "")


def test_a_part_that_fails_hangs_or_dies_leaves_the_others_and_what_it_found(tmp_path, clock):
    found = run(told("fails", "hangs", "dies", "fails in a row", "works"), tmp_path, seconds=7200.0)
    assert [part["state"] for part in found.values()] == [ERROR, CUT_OFF, ERROR, ERROR, DONE]
    assert [part["rows"][0] for part in found.values()] == [{"what": name} for name in found]
    assert found["fails"]["error"] == "RuntimeError: ValueError: of this part alone"
    assert found["hangs"]["error"] == "cut off after 60 s"
    assert "exit code 7" in found["dies"]["error"]


def test_what_the_time_does_not_reach_is_said_not_to_have_run(tmp_path, clock):
    found = run(told("hangs", "works"), tmp_path, seconds=64.0)
    assert found["hangs"]["state"] == CUT_OFF and found["works"]["state"] == NOT_RUN
    assert found["works"]["error"] == "the 64 s were over"


def test_the_json_is_whole_after_each_row(tmp_path):
    results = Results(tmp_path / "gpu.json", ["card"], tiny=True)
    for value in range(3):
        results.row("card", {"value": value})
        rows = json.loads((tmp_path / "gpu.json").read_text())["parts"]["card"]["rows"]
        assert rows == [{"value": n} for n in range(value + 1)]
