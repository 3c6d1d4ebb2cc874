"""A sweep ends with its recommended compressors, exported with its own results; the command exports any trial."""

import json
import shutil

import pytest
import torch
import yaml
from scipy import stats

import toconv
from tests.running import rows, run, toconv_command
from toconv import checkpoint, config
from toconv.errors import CheckpointError, RequestError
from toconv.export.recommended import export_recommended, export_trial, reproduce
from toconv.paths import SweepPaths
from toconv.sweep.session import recorded_driver

pytestmark = pytest.mark.slow

SIZES = (2, 3)


@pytest.fixture(scope="module")
def swept(finalists):
    """A finished sweep with finalists, and what its terminal said."""
    return finalists.folder, finalists.file, finalists.done


def paths_of(swept):
    return SweepPaths(swept[0] / "outputs" / "tiny")


def best(folder, k):
    trials = [r for r in rows(folder) if r["kind"] == "trial" and r["tokens"] == str(k * k)]
    return min(trials, key=lambda r: float(r["distortion"]))


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}


def command(cwd, *arguments):
    return toconv_command(cwd, "export", *arguments)


def test_every_number_of_tokens_has_the_trial_of_the_lowest_distortion(swept):
    folder, _, done = swept
    assert done.returncode == 0, done.stderr
    assert 'k2, k3); in Python: toconv.load("outputs/tiny/recommended/k2")' in done.stdout
    assert {p.name for p in paths_of(swept).recommended.iterdir()} == {"k2", "k3"}
    for k in SIZES:
        made, row = toconv.load(paths_of(swept).recommended_at(k)), best(folder, k)
        assert (made.k, made.config["trial"], made.config["sweep"]) == (k, row["trial_id"], "tiny")
        assert made.config["results"]["validation"]["distortion"] == float(row["distortion"])
        state = checkpoint.load(paths_of(swept).trial(row["trial_id"]).latest)
        assert all(
            torch.equal(value, made.compressor.state_dict()[name]) for name, value in state["compressor"].items()
        )
        assert torch.equal(made.mean_C, state["store"]["mean_C"])


def test_its_results_are_the_sweeps_with_intervals_over_finalists_and_the_baselines_of_its_k(swept):
    folder = swept[0]
    found = toconv.load(paths_of(swept).recommended_at(3)).config["results"]
    settings = yaml.safe_load((paths_of(swept).trial(best(folder, 3)["trial_id"]).config).read_text())["loss"]
    runs = [
        r
        for r in rows(folder)
        if r["kind"] == "finalist"
        and r["tokens"] == "9"
        and yaml.safe_load(paths_of(swept).trial(r["trial_id"]).config.read_text())["loss"] == settings
    ]
    assert found["finalists"]["seeds"] == len(runs) == 2
    for split, prefix in (("validation", ""), ("test", "test_")):
        for name in ("distortion", "perception", "embedding_agreement"):
            values = [float(r[prefix + name]) for r in runs]
            low, high = stats.t.interval(0.95, 1, sum(values) / 2, stats.sem(values))
            assert found["finalists"][split][name] == pytest.approx([sum(values) / 2, (high - low) / 2])
    pool = next(r for r in rows(folder) if r["name"] == "pool" and r["tokens"] == "9")
    assert found["baselines"]["pool"]["test"]["embedding_agreement"] == float(pool["test_embedding_agreement"]) and set(
        found["baselines"]
    ) == {r["name"] for r in rows(folder) if r["kind"] == "baseline"}
    card = (paths_of(swept).recommended_at(3) / "README.md").read_text()
    assert "7 for training, 2 for validation, 2 for the test" in card or "8 for training" in card
    assert f"{float(pool['distortion']):.4g}" in card and "2 fresh seed(s)" in card


def test_a_second_start_leaves_the_exports_as_they_are_and_mends_a_damaged_one(swept, finalists):
    folder, path, _ = swept
    weights, before = paths_of(swept).recommended_at(2) / "model.safetensors", stamps(paths_of(swept).recommended)
    content = weights.read_bytes()
    with finalists.lock:
        assert run(folder, path).returncode == 0
        assert stamps(paths_of(swept).recommended) == before
        weights.write_bytes(content[:-1] + b"x")
        assert run(folder, path).returncode == 0
    assert weights.read_bytes() == content
    assert stamps(paths_of(swept).recommended_at(3)) == {k: v for k, v in before.items() if k.parent.name == "k3"}


def test_other_results_are_written_anew(swept, finalists):
    driver = recorded_driver(paths_of(swept))
    config_path = paths_of(swept).recommended_at(2) / "config.json"
    good = config_path.read_text()
    stale = json.loads(good)
    stale["results"]["validation"]["distortion"] = 9.0
    with finalists.lock:
        config_path.write_text(json.dumps(stale))
        export_recommended(driver)
    assert json.loads(config_path.read_text())["results"] == json.loads(good)["results"]


@pytest.mark.parametrize("change", ["above", "below", "within", "none of ours", "trained on"])
def test_what_somebody_changed_in_an_export_is_kept(swept, tmp_path, change):
    driver = recorded_driver(paths_of(swept))
    records = driver.records()
    trial = next(r for r in records if r.trial_id == best(swept[0], 3)["trial_id"])
    export_trial(driver, trial, records, tmp_path / "k3")
    card = tmp_path / "k3" / "README.md"
    card.write_text(card.read_text().replace("\n", "\r\n"), newline="")  # a checkout of git's: no change
    export_trial(driver, trial, records, tmp_path / "k3")
    text = card.read_text()
    if change == "trained on":
        compressor = toconv.load(tmp_path / "k3")
        with torch.no_grad():
            next(compressor.parameters()).add_(1)
        compressor.save_pretrained(tmp_path / "k3")
    else:
        changed = {"above": f"Mine.\n{text}", "below": f"{text}Mine.\n", "none of ours": "Mine."}
        card.write_text(changed.get(change, text.replace("## Limits", "## My limits")))
    before = {path.name: path.read_bytes() for path in (tmp_path / "k3").iterdir()}
    with pytest.raises(RequestError, match="changed since toconv exported it"):
        export_trial(driver, trial, records, tmp_path / "k3")
    assert {path.name: path.read_bytes() for path in (tmp_path / "k3").iterdir()} == before


def test_a_checkpoint_that_is_gone_is_told_and_the_rest_is_there(swept, finalists, tmp_path, capsys):
    with finalists.lock:
        shutil.copytree(paths_of(swept).root, tmp_path / "tiny")
    paths = SweepPaths(tmp_path / "tiny")
    shutil.rmtree(paths.recommended)
    paths.trial(best(swept[0], 2)["trial_id"]).latest.unlink()
    driver = recorded_driver(paths)
    export_recommended(driver)
    said = " ".join(capsys.readouterr().out.split())
    assert "recommended/k2: not written:" in said and "has no checkpoint any more" in said
    assert {p.name for p in paths.recommended.iterdir()} == {"k3"}
    records = driver.records()
    gone = next(r for r in records if r.trial_id == best(swept[0], 2)["trial_id"])
    with pytest.raises(CheckpointError, match="has no checkpoint any more"):
        export_trial(driver, gone, records, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_export_that_fails_leaves_the_earlier_one(swept, tmp_path):
    driver = recorded_driver(paths_of(swept))
    records = driver.records()
    trial = next(r for r in records if r.kept and r.tokens == 9)
    export_trial(driver, trial, records, tmp_path / "new")
    before = stamps(tmp_path / "new")

    def fails(compressor, path):
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        export_trial(driver, trial, records, tmp_path / "new", {"model": fails})
    assert stamps(tmp_path / "new") == before and {p.name for p in tmp_path.iterdir()} == {"new"}


def test_the_command_exports_the_recommended_trial_with_graphs(swept):
    folder = swept[0]
    done = command(folder, "tiny", "--k", 3, "--to", "mine", "--onnx", "--torch-export")
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (folder / "mine").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "model.onnx",
        "model.pt2",
    }
    ours, theirs = toconv.load(folder / "mine"), toconv.load(paths_of(swept).recommended_at(3))
    assert ours.config == theirs.config and "36 -> 9 tokens of tiny" in done.stdout
    x = torch.randn(3, 36, 32)
    graph = torch.export.load(folder / "mine" / "model.pt2").module()
    torch.testing.assert_close(graph(x), theirs(x), atol=1e-4, rtol=1e-4)


def test_the_command_exports_any_trial_whose_checkpoint_is_there(swept):
    folder = swept[0]
    kept = [r for r in rows(folder) if paths_of(swept).trial(r["trial_id"]).latest.exists()]
    trial = max(kept, key=lambda r: float(r["distortion"]))
    for name in (trial["trial_id"], trial["name"]):
        done = command(folder, "tiny", "--trial", name, "--to", "any")
        assert done.returncode == 0, done.stderr
        assert toconv.load(folder / "any").config["trial"] == trial["trial_id"]


def test_the_command_says_what_there_is(swept):
    folder = swept[0]
    done = command(folder, "tiny", "--k", 5, "--to", "new")
    assert done.returncode == 2 and "complete are those with k = 2, 3" in done.stderr
    done = command(folder, "tiny", "--trial", "nobody", "--to", "new")
    assert done.returncode == 2 and best(folder, 2)["trial_id"] in done.stderr
    kept = best(folder, 2)["trial_id"]
    done = command(folder, "tiny", "--trial", kept, "--k", 3, "--to", "new")
    assert done.returncode == 2 and "has 2x2 tokens, --k says 3" in done.stderr
    assert not (folder / "new").exists()


def test_its_command_line_gives_the_very_settings_again(overrides, swept):
    """But for the folders of this machine, which a card does not tell."""
    _, settings = overrides
    made = toconv.load(paths_of(swept).recommended_at(3))
    texts = made.config["reproduce"]["settings"]
    assert "data.root=PATH" in texts and "encoder.weights=PATH" in texts and str(swept[0]) not in " ".join(texts)
    row = best(swept[0], 3)
    state = checkpoint.load(paths_of(swept).trial(row["trial_id"]).latest)
    known = {
        "data.root": settings["data.root"],
        "encoder.weights": settings["encoder.weights"],
        "encoder.architecture": settings["encoder.architecture"],
    }
    again = config.compose(config.parse_overrides(texts), known)
    assert again.model == config.compose(config.flat(state["settings"])).model
    for group in ("encoder", "loss", "training"):
        assert getattr(again, group).model_dump(mode="json") == state["settings"][group]
    assert reproduce(again) == texts
