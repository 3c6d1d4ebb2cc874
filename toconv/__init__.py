"""toconv: which compression of a vision transformer's tokens is worth it, answered by measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toconv.export.module import TokenCompressor

__version__ = "0.2.0.dev0"


def load(path_or_hub_name: str, **options: Any) -> TokenCompressor:
    """An exported compressor, ready to use: a folder such as `outputs/NAME/recommended/k6`, or `owner/name` on the Hub.
    `options` are those of `TokenCompressor.from_pretrained`, such as map_location and revision. Raises CheckpointError
    where there is no such compressor, or a damaged one."""
    from toconv.export.module import TokenCompressor  # start-up: torch

    return TokenCompressor.from_pretrained(path_or_hub_name, **options)
