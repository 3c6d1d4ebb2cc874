import pytest

from benchmarks import large_store
from benchmarks.large_store import growth, measured, told


@pytest.mark.slow
def test_a_start_on_a_store_that_is_there_encodes_nothing_and_is_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(large_store, "NAMES_OF_A_FILE", 7)
    found = measured(tmp_path, 60)
    assert found["bytes"] == 60 * 2 * 24**2 * 384 and found["memory"] > 50e6
    manifests = list((tmp_path / "tokens").glob("*/manifest.json"))
    assert len(manifests) == 1 and '"complete": true' in manifests[0].read_text()


def test_its_growth_is_the_exponent_over_sizes():
    found = {10**n: {"seconds": 10 ** (n / 2), "memory": 10 ** (n / 4 + 7), "bytes": 1e9} for n in (4, 5, 6)}
    assert growth(found) == ["seconds: pictures^0.50", "memory: pictures^0.25"]
    assert growth({10: found[10**4]}) == []
    assert told(10**6, found[10**6]) == "1,000,000 pictures, 1 GB of tokens: a start takes 1000.0 s and 316 MB"
