"""What sweep.yaml keeps of a request, and whose folder it refuses."""

import pytest
import yaml

from tests.running import write_sweep
from toconv.errors import DamagedFile, RequestError
from toconv.paths import SweepPaths
from toconv.sweep.file import load_sweep
from toconv.sweep.recorded import LAYOUT, read_request, recorded_sweep
from toconv.sweep.request import check_request, record_request


@pytest.fixture
def asked(tiny, tmp_path):
    return load_sweep(write_sweep(tmp_path, tiny), [])


def test_a_request_that_was_recorded_is_the_one_that_was_asked(asked, tmp_path):
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    record_request(asked, paths, "f00d", {"git_commit": None})
    again, fingerprint = recorded_sweep(paths)
    assert (again.file, again.base, fingerprint) == (asked.file, asked.base, "f00d")
    assert dict(again.overrides) == dict(asked.overrides) and read_request(paths)["layout"] == LAYOUT


def test_a_folder_of_the_earlier_layout_is_refused_and_stays_as_it_is(asked, tmp_path):
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    record_request(asked, paths, "f00d", {"git_commit": "0123abc"})
    written = yaml.safe_load(paths.request.read_text())
    del written["layout"]
    paths.request.write_text(yaml.safe_dump(written))
    before = paths.request.read_bytes()
    for use in (lambda: record_request(asked, paths, "f00d", {}), lambda: recorded_sweep(paths)):
        with pytest.raises(
            RequestError, match=r"earlier layout \(1; this version of toconv reads and writes 2\).*0123abc"
        ):
            use()
    assert paths.request.read_bytes() == before


def test_other_photographs_than_a_sweep_began_with_are_told(tiny, tmp_path):
    overrides = {key: value for key, value in tiny.items() if key not in ("data", "data.root")}
    asked, paths = load_sweep(write_sweep(tmp_path, overrides), []), SweepPaths(tmp_path / "outputs" / "tiny")
    record_request(asked, paths, "f00d", {"pictures": "27 of packages, 50 of tabler-ui 0.0.34"})
    told = r"fingerprint: was 'f00d', now 'beef'; photographs: were 27 of packages, 50 of .*, now 27 of packages$"
    with pytest.raises(RequestError, match=told):
        check_request(asked, paths, "beef")
    check_request(asked, paths, "f00d")


def test_a_name_without_a_sweep_is_told_with_those_that_there_are(asked, tmp_path):
    record_request(asked, SweepPaths(tmp_path / "outputs" / "tiny"), "f00d", {})
    with pytest.raises(RequestError, match="holds no sweep; there are tiny"):
        read_request(SweepPaths(tmp_path / "outputs" / "other"))


def test_a_users_own_measure_defines_the_sweep_where_it_is_an_objective_alone(tiny, tmp_path):
    """What trials were proposed by stays; what is read of them besides may change, and is evaluated anew."""
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    own = {"function": "a:b", "metric": "accuracy", "on": "trials"}

    def asking(objectives, **changes):
        return load_sweep(write_sweep(tmp_path, tiny, objectives=objectives, evaluation={**own, **changes}), [])

    record_request(asking({"distortion": "minimize"}), paths, "f00d", {})
    record_request(asking({"distortion": "minimize"}, function="a:c"), paths, "f00d", {})
    paths.request.unlink()
    record_request(asking({"accuracy": "maximize"}), paths, "f00d", {})
    record_request(asking({"accuracy": "maximize"}, timeout_minutes=1, gpu=0), paths, "f00d", {})
    with pytest.raises(RequestError, match="evaluation.function: was 'a:b', now 'a:c'"):
        record_request(asking({"accuracy": "maximize"}, function="a:c"), paths, "f00d", {})


def test_a_sweep_keeps_the_id_that_it_got_when_it_was_first_recorded(asked, tiny, tmp_path):
    """Its growths keep it too; another sweep of that name has another one, and one that has none gets none."""
    paths, other = (SweepPaths(tmp_path / folder / "outputs" / "tiny") for folder in ("one", "other"))
    for each in (paths, other):
        record_request(asked, each, "f00d", {})
    first, second = (read_request(each)["id"] for each in (paths, other))
    assert first != second and first.startswith("tiny-")
    grown = load_sweep(write_sweep(tmp_path, tiny, trials=3), [])
    assert record_request(grown, paths, "f00d", {}) == 1 and read_request(paths)["id"] == first
    written = read_request(paths)
    del written["id"]
    paths.request.write_text(yaml.safe_dump(written))
    record_request(asked, paths, "f00d", {})
    assert "id" not in read_request(paths)


@pytest.mark.parametrize("wrong", ["tiny", "tiny-0123", "a' or '-0123456789ab", 7, ""])
def test_an_id_that_is_none_is_told(asked, tmp_path, wrong):
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    record_request(asked, paths, "f00d", {})
    paths.request.write_text(yaml.safe_dump({**read_request(paths), "id": wrong}))
    with pytest.raises(DamagedFile, match="sweep.yaml: .*id"):
        read_request(paths)
