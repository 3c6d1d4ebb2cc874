from tests.running import write_sweep
from toconv.paths import SweepPaths
from toconv.sweep.driver import Driver
from toconv.sweep.file import load_sweep
from toconv.training.epochs import Epoch


def test_what_is_recommended_keeps_its_checkpoints_whatever_the_objectives_are(overrides, tmp_path):
    """Three trials of one k, of which the second has the lowest distortion, the third the best objective."""
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    paths.root.mkdir(parents=True)
    asked = {"grid": {"model.compressor.output_grid_size": [2]}, "trials": 3, "objectives": {"perception": "minimize"}}
    driver = Driver(load_sweep(write_sweep(tmp_path, overrides[1], **asked), []), paths, tmp_path, "f00d")
    kept = []
    for distortion, perception in ((0.3, 0.3), (0.1, 0.2), (0.2, 0.1)):
        proposal = driver.next_proposal()
        trial = paths.trial(proposal.trial_id)
        trial.folder.mkdir(parents=True)
        trial.latest.touch()
        driver.latest[proposal.trial_id] = Epoch(1, 0, 1.0, {"distortion": distortion, "perception": perception})
        driver.completed(proposal)
        kept.append(trial.latest)
    assert [latest.exists() for latest in kept] == [False, True, True]
