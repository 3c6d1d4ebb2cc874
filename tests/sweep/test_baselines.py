"""Baselines beside the tokens: measured once, and again where they cannot be read."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import filelock
import pytest

from tests.running import write_sweep
from toconv.errors import SealBroken
from toconv.sweep import baselines
from toconv.sweep.baselines import baseline_records, recorded_baselines
from toconv.sweep.file import load_sweep
from toconv.tokens.encoding import prepare_store


def values(records):
    return {r.name: r.values["distortion"] for r in records}


def test_altered_baselines_are_named_and_unreadable_ones_are_measured_again(tiny, tmp_path):
    grid = {"model.compressor.output_grid_size": [2]}
    sweep = load_sweep(write_sweep(tmp_path, tiny, grid=grid), [])
    store = prepare_store(sweep.base)
    first = values(baseline_records(sweep, store))
    (path,) = (store / "derived").glob("baselines-k2-*.json")
    whole = path.read_text()
    content = json.loads(whole)
    content["pool"]["metrics"]["distortion"] /= 10
    for altered in (json.dumps(content), whole.replace('"strided"', '"stride"'), whole + "\n"):
        path.write_text(altered)
        for read in (baseline_records, recorded_baselines):
            with pytest.raises(SealBroken, match=f"{path}: is not as it was when it was measured; remove it"):
                read(sweep, store)
    for damaged in (b"", b"\xff\xfe", b"[]", b'{"pool": 1}', whole.replace("0.", "NaN, 0.", 1).encode()):
        path.write_bytes(damaged)
        assert [r.name for r in recorded_baselines(sweep, store)] == ["smaller_picture"]  # is kept apart
    assert values(baseline_records(sweep, store)) == pytest.approx(first, rel=1e-6)
    path.with_suffix(".sha256").unlink()  # as version 0.1 left them
    path.write_text(json.dumps(content))
    assert values(recorded_baselines(sweep, store))["pool"] == pytest.approx(first["pool"] / 10, rel=1e-6)


def test_the_smaller_picture_is_left_out_while_its_pictures_are_gone_and_measured_once_they_are_back(
    tiny, tmp_path, photographs, capsys
):
    folder = tmp_path / "photographs"
    shutil.copytree(photographs, folder)
    grid = {"model.compressor.output_grid_size": [2]}
    sweep = load_sweep(write_sweep(tmp_path, {**tiny, "data.root": str(folder)}, grid=grid), [])
    store = prepare_store(sweep.base)
    folder.rename(tmp_path / "away")
    without = {r.name: r for r in baseline_records(sweep, store)}
    assert f"baseline smaller_picture left out at k = 2: {folder}: no such folder" in capsys.readouterr().out
    assert "visionzip" in without and "smaller_picture" not in without
    (tmp_path / "away").rename(folder)
    found = {r.name: r for r in baseline_records(sweep, store)}
    assert found.keys() - without.keys() == {"smaller_picture"}
    assert {name: r.values for name, r in found.items() if name in without} == {n: r.values for n, r in without.items()}
    values = found["smaller_picture"].values
    assert values["encoder_share"] == pytest.approx(4 / 36) and values["compressor_flops"] == 0
    shutil.rmtree(folder)
    assert {
        r.name for r in baseline_records(sweep, store)
    } == found.keys() and "left out" not in capsys.readouterr().out


def test_what_returns_no_grid_has_every_metric_but_those_of_a_decoder_of_grids(tiny, tmp_path):
    sweep = load_sweep(write_sweep(tmp_path, tiny, grid={"model.compressor.output_grid_size": [2]}), [])
    found = {r.name: set(r.values) for r in baseline_records(sweep, prepare_store(sweep.base))}
    for name in ("tome", "divprune", "visionzip"):
        lacking = {n.removeprefix("test_") for n in found["pool"] - found[name] if not n.endswith("_hard")}
        assert lacking == {"distortion_ridge", "embedding_read", "last_layer_read", "segmentation_read"}
    assert found["dct"] == found["pool"] == found["smaller_picture"] - {"encoder_share"}


def test_an_encoder_whose_class_token_attends_no_more_has_no_visionzip_and_that_is_said(tiny, tmp_path, capsys):
    grid = {"model.compressor.output_grid_size": [2]}
    sweep = load_sweep(write_sweep(tmp_path, {**tiny, "encoder.layer": -1}, grid=grid), [])
    names = {r.name for r in baseline_records(sweep, prepare_store(sweep.base))}
    assert "baseline visionzip left out: no block of the encoder comes after" in capsys.readouterr().out
    assert "tome" in names and "visionzip" not in names


def test_of_two_sweeps_that_want_the_same_baselines_one_measures_them(tiny, tmp_path, monkeypatch):
    sweep = load_sweep(write_sweep(tmp_path, tiny, grid={"model.compressor.output_grid_size": [2]}), [])
    store, measured, arrived = prepare_store(sweep.base), [], Event()

    class Lock(filelock.FileLock):
        def acquire(self, *given, **named):
            if measured:
                arrived.set()
            return super().acquire(*given, **named)

    def measure(evaluation, k):
        measured.append(k)
        if len(measured) > 1:  # the other sweep measures too: its seal may come between this one's and its file
            arrived.set()
        else:
            others.append(pool.submit(baseline_records, sweep, store))
            assert arrived.wait(60)
        return {"pool": {"metrics": {"distortion": 0.5}, "seconds": len(measured)}}

    others = []
    monkeypatch.setattr(baselines, "FileLock", Lock, raising=False)
    monkeypatch.setattr(baselines, "measure", measure)
    monkeypatch.setattr(baselines, "measure_smaller", lambda *_: {})
    with ThreadPoolExecutor(1) as pool:
        found = values(baseline_records(sweep, store))
        assert values(others[0].result()) == found == {"pool": 0.5} and measured == [2]
