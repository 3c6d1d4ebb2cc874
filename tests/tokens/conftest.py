"""Stores of several shards."""

import pytest

from toconv.tokens import shards


@pytest.fixture
def small_shards(monkeypatch):
    """Six images a shard."""
    monkeypatch.setattr(shards, "SHARD_CROPS", 6)
