"""How a sweep stands, from the folder of a driver in this process."""

import json
import re

import pytest

from tests.running import write_sweep
from toconv.errors import DamagedFile, RequestError
from toconv.paths import SweepPaths
from toconv.sweep.driver import Driver
from toconv.sweep.file import load_sweep
from toconv.sweep.running import Announcement, Standing
from toconv.sweep.status import lines, look
from toconv.training.epochs import Epoch

EPOCHS, K = 3, "model.compressor.output_grid_size"


@pytest.fixture
def sweep(tiny, tmp_path):
    """A driver with a trial of each state, two of them running, and its announcement."""
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    paths.root.mkdir(parents=True)
    grid = {K: [2]}
    driver = Driver(load_sweep(write_sweep(tmp_path, tiny, grid=grid, trials=6), []), paths, tmp_path, "f00d")
    announcement = Announcement(paths, EPOCHS)
    announcement.tell(planned=6, left=driver.left(), slots=2)
    return driver, announcement


def begun(driver, epochs, distortion=0.5):
    proposal = driver.next_proposal()
    trial = driver.paths.trial(proposal.trial_id)
    trial.folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, epochs + 1):
        epoch = Epoch(number, 1000 * number, 10.0 * number, {"distortion": distortion, "perception": 0.1})
        with trial.metrics.open("a") as file:
            file.write(epoch.as_line())
        driver.progressed(proposal, epoch)
    return proposal


def test_it_says_what_runs_what_failed_what_is_best_and_how_long_it_takes(sweep):
    driver, announcement = sweep
    best, worse = begun(driver, 3, 0.25), begun(driver, 3, 0.75)
    driver.completed(best)
    driver.completed(worse)
    stopped, failing, running, fresh = begun(driver, 1), begun(driver, 1), begun(driver, 2), begun(driver, 0)
    driver.pruned(stopped)
    driver.failed(failing, "losses must be finite")
    announcement.tell(planned=driver.planned(), left=driver.left())
    status = look(driver.paths)
    assert status.standing is Standing.RUNNING
    assert status.counts == {"complete": 2, "pruned": 1, "failed": 1, "running": 2}
    assert [(t.trial_id, t.epoch) for t in status.open] == [(running.trial_id, 2), (fresh.trial_id, 0)]
    assert {cell: t.trial_id for cell, t in status.best.items()} == {"k=2": best.trial_id}
    assert [(t.name, t.reason) for t in status.failed] == [(failing.name, "losses must be finite")]
    # 10 s an epoch; three trials have not ended, one of which is drawn anew: 3·3 − 2 epochs on two slots
    assert driver.left() == 3 and status.seconds_left == pytest.approx(10 * 7 / 2)
    text = "\n".join(lines(status))
    assert re.search(r"tiny: running since .* started by", text) and "about 35 s left" in text
    for part in ("4/7 trials ended (2 complete, 1 failed, 1 pruned); 2 running", "epoch 2/3", "losses must be finite"):
        assert part in text
    told = json.loads(json.dumps(status.as_json()))
    assert (told["standing"], told["slots"], told["open"][0]["trial_id"]) == ("running", 2, running.trial_id)


def test_never_more_trials_have_ended_than_there_are_though_the_driver_told_before_some_failed(sweep):
    driver, _ = sweep
    for _ in range(2):
        driver.failed(begun(driver, 1), "losses must be finite")
    while (proposal := driver.next_proposal()) is not None:
        begun_again = proposal
        driver.progressed(proposal, Epoch(EPOCHS, 1000, 10.0, {"distortion": 0.5, "perception": 0.1}))
        driver.completed(proposal)
    assert begun_again and "8/8 trials ended (6 complete, 2 failed)" in "\n".join(lines(look(driver.paths)))


def test_where_the_file_enumerates_epochs_each_trial_is_told_with_its_own(tiny, tmp_path):
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    paths.root.mkdir(parents=True)
    asked = load_sweep(write_sweep(tmp_path, tiny, grid={"training.epochs": [2, 4], K: [2]}, trials=2), [])
    driver = Driver(asked, paths, tmp_path, "f00d")
    announcement = Announcement(paths, asked.base.training.epochs)
    announcement.tell(planned=4, left=4, slots=2, epochs_of=asked.epochs_of_cells())
    for _ in range(2):
        begun(driver, 1)
    status = look(paths)
    assert {(t.name, t.epoch, t.epochs) for t in status.open} == {("epochs=2,k=2/0", 1, 2), ("epochs=4,k=2/0", 1, 4)}
    # 10 s an epoch: two running trials lack 1 and 3 of theirs, two to come have 3 each in the mean; on two slots
    assert status.seconds_left == pytest.approx(10 * (1 + 3 + 2 * 3) / 2)
    assert "epoch 1/4" in "\n".join(lines(status))


def test_before_the_first_trial_it_says_what_is_done(sweep, tmp_path):
    driver, _ = sweep
    assert "no trial yet" in lines(look(driver.paths))[1]


def test_a_ledger_that_is_gone_is_told_unless_its_driver_has_yet_to_make_it(sweep):
    driver, announcement = sweep
    begun(driver, 1)
    driver.paths.request.write_text("name: tiny\n")
    driver.paths.study.rename(away := driver.paths.root / "away.db")
    assert look(driver.paths).standing is Standing.RUNNING
    announcement.tell(left=0, until=1.0)
    with pytest.raises(DamagedFile, match=r"study\.db: must be the ledger of the sweep tiny; put a copy of it back"):
        look(driver.paths)
    away.rename(driver.paths.study)
    assert look(driver.paths).counts == {"running": 1}


def test_a_last_line_that_was_torn_is_left_out(sweep):
    driver, _ = sweep
    proposal = begun(driver, 2)
    with driver.paths.trial(proposal.trial_id).metrics.open("a") as file:
        file.write('{"epoch": 3, "timest')
    assert look(driver.paths).open[0].epoch == 2


def test_a_name_of_no_sweep_is_refused_with_those_that_are_there(sweep, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="holds no sweep; there are tiny"):
        look(SweepPaths.named("tinny"))
