"""`toconv ablation`: whether the critic helped in a sweep, as tables and a figure."""

from toconv.analysis.ablation import comparisons, markdown
from toconv.analysis.results import read_results
from toconv.command_line import one_name
from toconv.errors import ExitCode, RequestError
from toconv.evaluation.metrics import HELD_OUT, VALIDATION
from toconv.paths import SweepPaths
from toconv.settings import CRITIC_WEIGHT, SEED

USAGE = """
usage: toconv ablation NAME

Compares the trainings of outputs/NAME, which has loss.wgan_weight (0 among its values) and training.seed in its grid,
with the same without critic, with the linear codes and with the mixing curve. Prints tables, on the validation pictures
and, with training.test=true in the sweep, on the test pictures; writes outputs/NAME/critic_or_not.png.
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong name, and where the sweep has nothing to compare."""
    from toconv.report.figures import draw_ablation  # start-up: matplotlib

    paths = SweepPaths.named(one_name(arguments, USAGE))
    records = read_results(paths.results)
    found = {split: comparisons(records, split) for split in HELD_OUT}
    if not found[VALIDATION]:
        raise RequestError(
            f"{paths.results}: no training stands beside the same without critic (the grid needs "
            f"{CRITIC_WEIGHT} with 0 among its values, and {SEED})"
        )
    for split, rows in found.items():
        if rows:
            print(f"### {split.title.capitalize()} pictures\n\n{markdown(rows)}")
    figure = paths.root / "critic_or_not.png"
    draw_ablation(records, figure)
    print(f"figure: {figure}")
    return ExitCode.DONE
