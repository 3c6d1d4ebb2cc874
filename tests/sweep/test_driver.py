from tests.running import write_sweep
from toconv.paths import SweepPaths
from toconv.sweep.driver import Driver
from toconv.sweep.file import load_sweep
from toconv.tracking.provenance import settings_of_training
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


def test_a_record_has_the_settings_that_its_trial_is_trained_with_conditions_or_not(tiny, tmp_path):
    search = {
        "model.compressor.kind": {"choices": ["conv", "nested"]},
        "model.compressor.output_grid_size": {"choices": [2, 4], "when": {"model.compressor.kind": "conv"}},
        "model.compressor.grid_sizes": {"choices": [[2, 6, 8]], "when": {"model.compressor.kind": "nested"}},
    }
    changes = {"grid": {"training.seed": [0]}, "search": search, "sampler": "grid", "trials": 3}
    image = {"encoder.image_size": 56, "data.tokens_dir": str(tmp_path / "tokens")}  # k = 6 of the defaults is allowed
    sweep = load_sweep(write_sweep(tmp_path, {**tiny, **image}, **changes), [])
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    paths.root.mkdir(parents=True)
    driver = Driver(sweep, paths, tmp_path, "f00d")
    while driver.next_proposal():
        pass
    records = driver.records()
    assert sorted(r.tokens for r in records) == [4, 16, 36]
    for r in records:
        trained = settings_of_training(sweep.settings(r.params))
        asked = {key: [*value] if isinstance(value, tuple) else value for key, value in trained.items()}
        assert {key: r.settings[key] for key in asked} == asked
