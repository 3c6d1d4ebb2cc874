"""Spaces that the settings refuse in part, held against every combination composed one by one."""

import itertools

import pytest

from tests.running import write_sweep
from toconv import config
from toconv.errors import RequestError
from toconv.sweep.feasible import refusals
from toconv.sweep.file import load_sweep

HEADS, WIDTH, KIND = "model.decoder.heads", "model.decoder.width", "model.decoder.kind"
HEAD, PAIRS = "model.critic.head", "model.critic.pairs"
K = {"model.compressor.output_grid_size": 3}
ATTENTION = {KIND: "attention"}


@pytest.fixture
def load(tiny, tmp_path):
    def loaded(settings=(), **changes):
        own = {key for section in ("grid", "search") for key in changes.get(section, {})}
        asked = {key: value for key, value in {**tiny, **dict(settings)}.items() if key not in own}
        grid = {key: [k] for key, k in K.items() if key not in changes.get("search", {})}
        sections = {"search": {}, **changes, "grid": {**grid, **changes.get("grid", {})}}
        return load_sweep(write_sweep(tmp_path, asked, **sections), [])

    return loaded


@pytest.mark.parametrize(
    "settings, search, refused",
    [
        (ATTENTION, {HEADS: {"choices": [4, 3]}, WIDTH: {"choices": [96, 128]}}, 1),
        (ATTENTION, {HEADS: {"choices": [3, 4]}, WIDTH: {"choices": [128, 96]}}, 1),  # the first combination is refused
        ({}, {KIND: {"choices": ["conv", "attention"]}, HEADS: {"choices": [4, 3]}, WIDTH: {"choices": [96, 128]}}, 1),
        ({}, {HEAD: {"choices": ["token", "conditional"]}, PAIRS: {"choices": ["independent", "matched"]}}, 1),
        ({}, {"loss.wgan_weight": {"choices": [0.0, 1.0]}, "loss.ae_weight": {"choices": [0.0, 1.0]}}, 1),
        (ATTENTION, {HEADS: {"low": 1, "high": 4, "log": True}, WIDTH: {"low": 8, "high": 12, "step": 4}}, 1),
    ],
)
def test_refused_combinations_are_counted_as_composing_each_counts_them(load, tiny, settings, search, refused):
    sweep = load(settings, search=search, trials=99)
    (survey,) = sweep.surveys
    axes = [d.values() or range(int(d.range[0]), int(d.range[1]) + 1) for d in sweep.file.search.values()]
    points = [dict(zip(search, values, strict=True)) for values in itertools.product(*axes)]
    taken = [point for point in points if config.check(sweep.overrides, K, point)[0]]
    assert (survey.combinations, survey.allowed) == (len(points), len(taken)) and len(points) - len(taken) == refused
    if all(d.values() is not None for d in sweep.file.search.values()):
        assert sweep.planned_trials() == len(taken)
    assert f"{refused} of {len(points)} combinations are refused" in refusals(sweep.surveys)


def test_a_setting_that_does_not_count_refuses_nothing(load):
    heads = {"choices": [4, 3], "when": ATTENTION}
    search = {KIND: {"choices": ["conv", "attention"]}, HEADS: heads, WIDTH: {"choices": [128, 96]}}
    (survey,) = load(search={**search, "loss.lambda_gp": {"low": 1, "high": 2}}).surveys
    assert (survey.combinations, survey.refused.total()) == (2 + 4, 1)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"grid": {HEADS: [4, 3], WIDTH: [96, 128]}}, "heads=3: must divide model.decoder.width=128"),
        ({"grid": {HEADS: [4, 3]}, "search": {WIDTH: {"choices": [128, 256]}}}, "heads=3 2 of 2 combinations"),
        ({"search": {HEADS: {"choices": [4, 3]}, WIDTH: {"choices": [128, 256]}}}, "heads=3: must divide"),
        ({"search": {"model.compressor.output_grid_size": {"low": 1, "high": 6}}}, "output_grid_size=6"),
    ],
)
def test_a_cell_a_choice_or_an_end_that_no_combination_allows_is_refused_before_work(load, changes, told):
    with pytest.raises(RequestError, match=told):
        load({**ATTENTION, WIDTH: 8, HEADS: 4}, **changes)


def test_a_space_too_large_to_enumerate_is_drawn_from(load):
    search = {KIND: {"choices": ["conv", "attention"]}, HEADS: {"low": 1, "high": 64}, WIDTH: {"low": 64, "high": 2048}}
    sweep = load(search=search)
    assert not sweep.surveys[0].whole and 0 < sweep.surveys[0].refused.total() < sweep.surveys[0].combinations
    assert "combinations that were drawn are refused" in refusals(sweep.surveys)


@pytest.mark.parametrize("seeds, first", [(3, 2**32 - 3), (1, 2**32 - 1), (2**32, 0)])
def test_seeds_of_finalists_are_seeds_too(load, seeds, first):
    with pytest.raises(RequestError, match=f"finalists.seeds={seeds}"):
        load({"training.seed": first}, finalists={"seeds": seeds})
