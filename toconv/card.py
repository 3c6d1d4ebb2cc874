"""The model card of an exported compressor, written from its config alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def card(config: Mapping[str, Any]) -> str:
    return f"# {config['encoder']['name']}\n"
