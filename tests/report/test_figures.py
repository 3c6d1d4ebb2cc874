"""Figures by matplotlib: that they are there, sharp, and show the points of the records."""

import io

import pytest
import torch
from PIL import Image

import toconv.report.figures as figures
from tests.records import baselines, finalists, many, record
from toconv.evaluation.metrics import METRICS, VALIDATION
from toconv.report.error_maps import ErrorMaps
from toconv.report.front_data import Measured, Results, panel_plot, tokens_plot

DISTORTION, PERCEPTION = (Measured(VALIDATION, METRICS[name]) for name in ("distortion", "perception"))
RECORDS = [*many(3), *baselines(16, pool=0.6, strided=0.9), *baselines(36, pool=0.5, strided=0.8)]


@pytest.mark.slow
def test_figures_for_a_paper_are_sharp_enough_to_print(tmp_path):
    written = figures.write_figures(tmp_path, Results(RECORDS), ErrorMaps())
    assert (
        {p.name for p in written}
        == {p.name for p in tmp_path.iterdir()}
        == {
            f"{name}.{kind}"
            for kind in ("png", "pdf")
            for name in ("front_distortion", "front_perception", "front_cosine", "distortion_perception")
        }
    )
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.info["dpi"]) >= 200 and image.width > 1200


def test_a_figure_shows_the_points_that_were_computed():
    results = Results([*RECORDS, *finalists("t0", 0.2, 0.4)])
    plot = tokens_plot(results, DISTORTION)
    (axes,) = figures.against_tokens(results, DISTORTION).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    for name, points in [*plot.baselines.items(), ("trial", plot.trials)]:
        assert drawn[name] == [[p.x, p.y] for p in points] and points
    (bars,) = axes.containers
    assert bars.lines[0].get_xydata().tolist() == [[m.x.mean, m.y.mean] for m in plot.best.values()]


def test_a_plot_holds_what_the_records_say():
    records = [record("a", 16, 0.5), *finalists("a", 0.2, 0.4), record("b", 36, 0.3), *RECORDS[-4:]]
    plot = tokens_plot(Results(records), DISTORTION)
    assert [(p.record.trial_id, p.x, p.y) for p in plot.trials] == [("a", 16, 0.5), ("b", 36, 0.3)]
    assert {name: [(p.x, p.y) for p in points] for name, points in plot.baselines.items()} == {
        "pool": [(16, 0.6), (36, 0.5)],
        "strided": [(16, 0.9), (36, 0.8)],
    }
    assert plot.best[16].y.half_width > 1 and plot.best[36].y.half_width is None
    assert max(plot.along("y")) == 0.3 + plot.best[16].y.half_width and max(plot.along("y", baselines=False)) > 1
    panel = panel_plot(Results(records), PERCEPTION, 16)
    assert [(p.x, p.y) for p in panel.curve] == [(0.9, 0.1), (0.6, 0.1)]  # strided to pooled
    assert set(panel.along("x", baselines=False)) == {0.5, *(0.3 + s * plot.best[16].y.half_width for s in (-1, 1))}


def test_the_ablation_has_a_marker_for_each_critic_weight_and_reconstruction_alone_in_blue():
    trials = [
        record(f"{weight}{seed}", 16, 0.5, params={"loss.wgan_weight": weight, "training.seed": seed})
        for weight in (0.0, 0.01, 0.1)
        for seed in (0, 1)
    ]
    (axes,) = figures.ablation_figure([*trials, *baselines(16, pool=0.6, strided=0.9, pca=0.4, linear=0.3)]).axes
    series = {line.get_label(): (line.get_marker(), line.get_color(), len(line.get_xdata())) for line in axes.lines}
    assert series == {
        "mixing curve": ("None", figures.MIXING, 2),
        "pca": ("D", figures.BASELINE, 1),
        "linear": ("h", figures.BASELINE, 1),
        "reconstruction alone": ("o", figures.TRIAL, 2),
        "critic, weight 0.01": ("s", figures.BEST, 2),
        "critic, weight 0.1": ("^", figures.BEST, 2),
    }


def test_an_error_map_is_a_picture():
    class Compressor:
        grid_size, k = 2, 1

        class encoder:
            mean = std = (0.5, 0.5, 0.5)

    image = figures.error_map(torch.zeros(3, 8, 8), torch.rand(2, 2), Compressor)
    with Image.open(io.BytesIO(image)) as found:
        assert found.format == "PNG" and found.width > found.height
