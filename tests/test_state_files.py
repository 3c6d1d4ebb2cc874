"""Files that earlier starts left: of any content, a value or a DamagedFile that names the path."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tests.properties import any_input_is_taken_or_refused
from tests.records import record
from toconv import checkpoint, config, state_files
from toconv.analysis.results import read_results, write_results
from toconv.errors import DamagedFile, MachineryError
from toconv.machine import read_means
from toconv.paths import SweepPaths, TrialPaths
from toconv.state_files import read_json, read_json_lines, read_yaml
from toconv.sweep.budget import Spent
from toconv.sweep.inbox import Inbox, Verdict
from toconv.sweep.lock import only_driver
from toconv.sweep.recorded import recorded_sweep
from toconv.sweep.running import running, standing
from toconv.sweep.seal import differences, intact
from toconv.sweep.search.glance import glance
from toconv.tokens.store import TokenStore
from toconv.training.epochs import read_epochs
from toconv.training.folder import check_folder

KIND = TypeAdapter(dict[str, float])
ROW = b'{"epoch": 1, "timestamp": 2, "seconds": 1.5, "metrics": {"distortion": 0.5}}\n'
NESTED = [b"[" * 100_000, b'{"a":' * 50_000, b"- " * 3_000]
BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (i + 1, i + 1, b",".join([b"*%c" % i] * 9)) for i in range(97, 107)
)
NUMBERS = [b'{"hours": %b}' % number for number in (b"NaN", b"-1", b"1e999", b"9" * 5_000, b'"x"')]
OTHER = [b"", b"\x00\xff\xfe\x80" * 99, b"null", b"[]", b"3", b'"text"', b"{}{}", b"\xed\xa0\x80", b"a: &a [*a]"]
DAMAGED = [*OTHER, *NESTED, BOMB, *NUMBERS]
SHAPES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=3), parts, max_size=3),
    max_leaves=9,
)


def as_request(path):
    """The file among the requests to a sweep."""
    paths = SweepPaths(path.parent)
    shutil.rmtree(paths.steering, ignore_errors=True)
    paths.steering.mkdir()
    path.rename(paths.steering / path.name)
    inbox = Inbox(paths)
    assert [asked.what for asked in inbox.open()] or inbox.answer("0-a").verdict is Verdict.REFUSED
    inbox.history()
    (paths.steering / path.name).rename(path)


READERS = {  # each file of a sweep, a training or a store that is read back, and who reads it
    "spent.json": lambda path: Spent(path, 1.0),
    "sweep.yaml": lambda path: recorded_sweep(SweepPaths(path.parent)),
    "running.json": lambda path: standing(SweepPaths(path.parent), running(SweepPaths(path.parent))),
    "study.db": lambda path: glance(path, "tiny"),
    "0-a.json": as_request,
    "metrics.jsonl": read_epochs,
    "machine.jsonl": read_means,
    "manifest.json": lambda path: TokenStore(path.parent),
    "results.csv": read_results,
    "finished": lambda path: intact(TrialPaths(path.parent)),
    "config.yaml": lambda path: check_folder(TrialPaths(path.parent), None, None),
    "latest.pt": lambda path: checkpoint.load(path, ("settings",)),
    "best_model.pt": lambda path: checkpoint.glance(path, ("settings",)),
}


@pytest.fixture
def valid(tmp_path):
    """A content of each file that would be taken, as far as text says it."""
    write_results(tmp_path / "results.csv", [record("a", 16, 1 / 3)], {"a": "run"}, ["loss.lambda_gp"])
    return {
        "spent.json": b'{"hours": 1.5, "gpu_hours": 0.0}',
        "running.json": b'{"host": "here", "pid": 9, "began": 1.5, "user": null, "since": 2.5, "left": 3}',
        "0-a.json": b'{"id": "0-a", "act": "slots", "user": "alice", "at": 1.5, "host": "here", "count": 3}',
        "metrics.jsonl": ROW * 2,
        "machine.jsonl": b'{"epoch": 1, "metrics": {"system/cpu": 3.0}}\n',
        "results.csv": (tmp_path / "results.csv").read_bytes(),
        "config.yaml": json.dumps(config.compose({}).model_dump(mode="json")).encode(),
        "finished": b'every epoch is done; metrics.jsonl holds the results\n{"metrics.jsonl": "0"}\n',
    }


@pytest.mark.parametrize("name", READERS)
def test_every_damage_is_taken_or_refused_by_each_reader(tmp_path, name):
    for content in DAMAGED:
        (tmp_path / name).write_bytes(content)
        with any_input_is_taken_or_refused():
            READERS[name](tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with any_input_is_taken_or_refused():
        READERS[name](tmp_path / name)


@given(data=st.data())
def test_any_bytes_and_any_alteration_are_taken_or_refused(tmp_path, valid, data):
    name = data.draw(st.sampled_from([*READERS]))
    content = bytearray(valid.get(name, b"") if data.draw(st.booleans()) else data.draw(st.binary(max_size=300)))
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        content[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    (tmp_path / name).write_bytes(content)
    before = sorted(tmp_path.parent.iterdir())
    with any_input_is_taken_or_refused():
        READERS[name](tmp_path / name)
    assert sorted(tmp_path.parent.iterdir()) == before


@given(content=SHAPES)
def test_json_of_any_shape_is_taken_or_refused(tmp_path, content):
    for name in ("spent.json", "sweep.yaml", "manifest.json", "metrics.jsonl", "config.yaml"):
        (tmp_path / name).write_text(json.dumps(content))
        with any_input_is_taken_or_refused():
            READERS[name](tmp_path / name)


@pytest.mark.parametrize("content", [*DAMAGED[:3], *NUMBERS])
def test_what_a_sweep_has_spent_is_refused_by_its_path_with_what_to_do(tmp_path, content):
    (tmp_path / "spent.json").write_bytes(content)
    with pytest.raises(DamagedFile, match="spent.json: not what toconv writes .*; write .* or remove it") as refused:
        Spent(tmp_path / "spent.json", 1.0)
    assert refused.value.exit_code == 4


def test_lines_end_at_the_first_that_is_none(tmp_path):
    for bad in (
        b'{"epoch": 2, "tor',
        b"[1]\n",
        b"\xff\n",
        ROW.replace(b"0.5", b"NaN"),
        ROW.replace(b"distortion", b"d"),
    ):
        (tmp_path / "metrics.jsonl").write_bytes(ROW + bad + ROW)
        assert [epoch.epoch for epoch in read_epochs(tmp_path / "metrics.jsonl")] == [1]
    assert read_json_lines(tmp_path / "none", KIND) == []


def test_a_file_that_is_larger_than_any_that_toconv_writes_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(state_files, "MOST_BYTES", 10)
    (tmp_path / "file").write_bytes(b'{"a": 1.0, "b": 2.0}')
    for read in (read_json, read_yaml):
        with pytest.raises(DamagedFile, match="at most 10 bytes, has 20; put it back"):
            read(tmp_path / "file", KIND, "put it back")


def test_a_valid_file_is_read_as_it_is(tmp_path):
    (tmp_path / "file").write_text('{"a": 1.5}')
    assert read_json(tmp_path / "file", KIND) == read_yaml(tmp_path / "file", KIND) == {"a": 1.5}


def test_a_folder_in_the_place_of_the_lock_is_named(tmp_path):
    (tmp_path / ".lock").mkdir()
    refused = pytest.raises(MachineryError, match=".lock: cannot be locked .*; remove what lies there")
    with refused, only_driver(SweepPaths(tmp_path)):
        pass


@pytest.mark.parametrize("trial_id", ["../../elsewhere", "/etc", "..", ""])
def test_a_trial_lies_in_its_sweeps_folder(tmp_path, trial_id):
    with pytest.raises(DamagedFile, match="must be a folder's name"):
        SweepPaths(tmp_path).trial(trial_id)
    assert differences(SweepPaths(tmp_path).trial("a"), {}) == []
