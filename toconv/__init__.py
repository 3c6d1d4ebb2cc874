"""toconv: which compression of a vision transformer's tokens is worth it, answered by measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toconv.analysis.frames import Frame
    from toconv.export.module import TokenCompressor

__version__ = "0.2.0.dev0"


def load(path_or_hub_name: str, **options: Any) -> TokenCompressor:
    """An exported compressor, ready to use: a folder such as `outputs/NAME/recommended/k6`, or `owner/name` on the Hub.
    `options` are those of `TokenCompressor.from_pretrained`, such as map_location and revision. Raises CheckpointError
    where there is no such compressor, or a damaged one."""
    from toconv.export.module import TokenCompressor  # start-up: torch

    return TokenCompressor.from_pretrained(path_or_hub_name, **options)


def results(name: str) -> Frame:
    """Every trial, finalist and baseline of the sweep in outputs/NAME, a row each, as results.csv has them.

    tokens: how many a picture keeps, k². distortion, distortion_ridge: shares of the tokens' variance, 0 to 1, lower is
    better. embedding_agreement, cosine: cosines, higher is better. perception: a distance in standard deviations of the
    tokens, lower is better. Columns that begin with `test_` are the same on the test pictures. device_seconds: seconds.
    `results(name).attrs["units"]` has the unit of every measure. Raises RequestError where there is no such sweep."""
    from toconv.analysis.frames import frame  # start-up: pandas
    from toconv.paths import SweepPaths

    return frame(SweepPaths.named(name).results)


def front(name: str, k: int | None = None) -> Frame:
    """The rows of `results` for the trials that no other beats in the objectives of the sweep in outputs/NAME and,
    marked by the column `recommended`, the one to take at each number of tokens; with `k`, of that grid size alone.
    Raises RequestError where there is no such sweep, or no complete trial of that k."""
    from toconv.analysis.frames import front_frame  # start-up: pandas
    from toconv.paths import SweepPaths
    from toconv.sweep.recorded import recorded_sweep

    paths = SweepPaths.named(name)
    return front_frame(paths.results, recorded_sweep(paths)[0].file.objectives, k)
