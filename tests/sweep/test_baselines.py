"""Baselines beside the tokens: measured once, and again where they cannot be read."""

import json

import pytest

from tests.running import write_sweep
from toconv.errors import SealBroken
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
        assert recorded_baselines(sweep, store) == []
    assert values(baseline_records(sweep, store)) == pytest.approx(first, rel=1e-6)
    path.with_suffix(".sha256").unlink()  # as version 0.1 left them
    path.write_text(json.dumps(content))
    assert values(recorded_baselines(sweep, store))["pool"] == pytest.approx(first["pool"] / 10, rel=1e-6)
