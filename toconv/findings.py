"""`python -m toconv.findings NAME`: whether the critic helped in the sweep in outputs/NAME, as tables and a figure."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toconv.command_line import run, same_command
from toconv.errors import ExitCode, RequestError
from toconv.paths import SweepPaths
from toconv.sweep.records import TrialRecord
from toconv.sweep.twins import CURVE, SEED, WEIGHT, comparisons, markdown

USAGE = """python -m toconv.findings NAME
Compares the trainings of outputs/NAME, which has loss.wgan_weight (0 among its values) and training.seed in its grid,
with their twins without a critic, with per-block PCA and with the mixing curve. Prints tables, on the validation
pictures and, with training.test=true in the sweep, on the test pictures; writes outputs/NAME/critic_or_not.png."""
COLORS = {0.0: "#2f6fb5", 1.0: "#c2410c"}


def findings(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong name, and where the sweep has no twins."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise RequestError(f"give the name of one sweep\n{USAGE}")
    paths = SweepPaths(Path("outputs").resolve() / arguments[0])
    records = read_results(paths.results)
    found = {prefix: comparisons(records, prefix) for prefix in ("", "test_")}
    if not found[""]:
        raise RequestError(f"{paths.results}: no training has a twin (the grid needs {WEIGHT} with 0 among its "
                           f"values, and {SEED})")
    for prefix, title in (("", "Validation pictures"), ("test_", "Test pictures")):
        if found[prefix]:
            print(f"### {title}\n\n{markdown(found[prefix])}")
    figure = paths.root / "critic_or_not.png"
    draw(records).savefig(figure, dpi=110)
    print(f"figure: {figure}")
    return ExitCode.DONE


def read_results(path: Path) -> list[TrialRecord]:
    """The rows of results.csv, with both settings of a comparison as params. Raises RequestError where missing."""
    if not path.is_file():
        raise RequestError(f"{path}: no such file; run the sweep first")
    facts = {"trial_id", "name", "kind", "state", "cell", "tokens", "mlflow_run_id"}
    found = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            metrics = {key: float(value) for key, value in row.items()
                       if value and key not in facts and "." not in key and key != "device_seconds"}
            params = {key: value for key, value in row.items() if value and "." in key}
            params |= {key: kind(params[key]) for key, kind in ((WEIGHT, float), (SEED, int)) if key in params}
            found.append(TrialRecord(
                row["trial_id"], row["name"], row["kind"], row["state"], row["cell"], int(row["tokens"]), params,
                metrics, float(row["device_seconds"]) if row["device_seconds"] else None, None, None))
    return found


def draw(records: Sequence[TrialRecord]) -> Figure:
    """Above: distortion against perception with the mixing curve; below: distortion against use."""
    sizes = sorted({r.tokens for r in records if r.kind == "trial"})
    figure = Figure(figsize=(3 * len(sizes), 5.6), layout="constrained")
    panels = figure.subplots(2, len(sizes), squeeze=False)
    for column, tokens in zip(panels.T, sizes, strict=True):
        here = [r for r in records if r.tokens == tokens and r.values]
        for axes, metric in zip(column, ("perception", "use"), strict=True):
            _panel(axes, here, metric)
        column[0].set_title(f"{tokens} tokens", fontsize=10)
    panels[0][0].set_ylabel("perception (lower is better)")
    panels[1][0].set_ylabel("use (higher is better)")
    panels[0][0].legend(fontsize=7)
    figure.supxlabel("distortion (FVU), validation", fontsize=9)
    return figure


def _panel(axes: Axes, records: Sequence[TrialRecord], metric: str) -> None:
    free = {r.name: r.values for r in records if r.kind == "baseline"}
    curve = [free[name] for name in CURVE if name in free]
    axes.plot([v["distortion"] for v in curve], [v[metric] for v in curve], "--", color="#64748b", linewidth=1,
              label="mixing strided and pool")
    if "pca" in free:
        axes.plot(free["pca"]["distortion"], free["pca"][metric], "D", color="#64748b", label="per-block PCA")
    for marker, weight in zip("os^vP", sorted({r.params[WEIGHT] for r in records if WEIGHT in r.params}), strict=False):
        rows = [r for r in records if r.params.get(WEIGHT) == weight and r.state == "complete"]
        axes.plot([r.values["distortion"] for r in rows], [r.values[metric] for r in rows], marker, linestyle="none",
                  color=COLORS[float(weight > 0)], markersize=5,
                  label=f"critic, weight {weight:g}" if weight else "reconstruction alone")
    axes.tick_params(labelsize=7)


if __name__ == "__main__":
    sys.exit(run(findings, USAGE, same_command))
