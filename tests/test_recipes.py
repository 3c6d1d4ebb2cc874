"""Every recipe of docs/architecture.md, carried out: on a copy of the package, seen in the results of a sweep there."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.repository import REPOSITORY
from tests.running import rows, write_sweep

BLOCK = re.compile(r"```\w+ (file=.*?)\n(.*?)```", re.S)
KINDS = [("conv", "shuffle"), ("conv", "nearest")]


def blocks():
    """(file, line that it goes after or None, content) of each block that names a file."""
    for words, content in BLOCK.findall((REPOSITORY / "docs" / "architecture.md").read_text()):
        named = dict(word.split("=", 1) for word in shlex.split(words))
        yield named["file"], named.get("after"), content


def apply(root):
    for name, after, content in blocks():
        path = root / name
        text = path.read_text() if path.exists() else ""
        if after is None:
            path.write_text(text + content)
        else:
            assert text.count(f"{after}") == 1, f"{name}: {after!r} stands there {text.count(after)} times"
            line = next(line for line in text.splitlines(keepends=True) if line.startswith(after))
            path.write_text(text.replace(line, line + content))


@pytest.fixture(scope="module")
def extended(tiny_encoder, photographs, tmp_path_factory):
    """A sweep with everything that the recipes add, run from a copy that they were applied to."""
    folder = tmp_path_factory.mktemp("extended")
    for part in ("toconv", "conf"):
        shutil.copytree(REPOSITORY / part, folder / "copy" / part, ignore=shutil.ignore_patterns("__pycache__"))
    apply(folder / "copy")
    settings = {
        **tiny_encoder,
        "encoder": "small_clip",
        "data": "newest",
        "data.root": str(photographs),
        "data.crops": 3,
        "model.critic.width": 8,
        "training.epochs": 1,
        "training.batch_size": 8,
        "experiment.use_lines": True,
        "experiment.tracking_uri": f"sqlite:///{folder / 'mlflow.db'}",
    }
    search = {
        f"model.{part}.kind": {"choices": list(kinds)}
        for part, kinds in zip(("compressor", "decoder"), KINDS, strict=True)
    }
    file = write_sweep(
        folder,
        settings,
        sampler="grid",
        trials=4,
        search=search,
        objectives={"worst_token": "minimize"},
        grid={"model.compressor.output_grid_size": [3]},
    )
    done = subprocess.run(
        [sys.executable, "-m", "toconv", "sweep", file],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder / "copy")},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done


def card(folder):
    return (folder / "outputs" / "tiny" / "recommended" / "k3" / "README.md").read_text()


@pytest.mark.slow
def test_a_metric_is_in_the_results_the_report_and_the_card(extended):
    folder, _ = extended
    found = rows(folder)
    assert list(found[0]).index("worst_token") < list(found[0]).index("device_seconds")
    assert all(float(row["worst_token"]) > 0 for row in found)
    page = (folder / "outputs" / "tiny" / "report.html").read_text()
    assert "worst token (squared error over variance)" in page
    assert (folder / "outputs" / "tiny" / "figures" / "front_worst_token.png").exists()
    assert "`worst_token`: largest squared error" in card(folder)


@pytest.mark.slow
def test_a_baseline_is_a_row_and_keeps_nothing(extended):
    folder, _ = extended
    (mean,) = [row for row in rows(folder) if row["name"] == "mean"]
    assert float(mean["distortion"]) == pytest.approx(1.0) and mean["kind"] == "baseline"


@pytest.mark.slow
def test_a_compressor_family_and_a_decoder_are_searched_like_any_setting(extended):
    folder, _ = extended
    trials = [row for row in rows(folder) if row["kind"] == "trial"]
    kinds = {(row["model.compressor.kind"], row["model.decoder.kind"]) for row in trials}
    assert kinds == {(a, b) for a in KINDS[0] for b in KINDS[1]} and {row["state"] for row in trials} == {"complete"}


@pytest.mark.slow
def test_an_encoder_and_a_data_source_are_files_that_are_found_by_name(extended):
    folder, done = extended
    request = (folder / "outputs" / "tiny" / "sweep.yaml").read_text()
    assert "encoder: small_clip" in request and "kind: newest" in request
    assert "the newest pictures of a folder" in card(folder)


@pytest.mark.slow
def test_a_tracker_is_told_of_every_record_once(extended):
    folder, _ = extended
    lines = (folder / "outputs" / "tiny" / "lines.txt").read_text().splitlines()
    assert sorted(line.split(" ")[0] for line in lines) == sorted(row["trial_id"] for row in rows(folder))


def test_each_kind_of_extension_has_a_recipe():
    titles = re.findall(r"^### (.*)$", (REPOSITORY / "docs" / "architecture.md").read_text(), re.M)
    assert titles == [
        "A metric",
        "A baseline",
        "A compressor family",
        "A decoder",
        "An encoder",
        "A data source",
        "A search key",
        "A tracker",
    ]
