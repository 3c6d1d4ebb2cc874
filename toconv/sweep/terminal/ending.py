"""The last lines of a sweep: what failed, what ended it, where to look."""

from collections.abc import Sequence

from toconv.analysis.pareto import named
from toconv.analysis.records import Kind, State, TrialRecord
from toconv.command_line import same_command, typed
from toconv.progress import console, duration
from toconv.sweep.driver import Driver
from toconv.tracking.tracker import how_to_look


def failures(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Trials that failed; what somebody skipped did not."""
    return [r for r in named(records, state=State.FAILED) if not r.skipped]


def unevaluated(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [r for r in records if r.not_evaluated]


def say_what_ended(driver: Driver, records: Sequence[TrialRecord], seconds: float) -> None:
    failed = failures(records)
    for record in failed:
        console.print(f"failed: {record.name}: {record.reason}\n  to debug: {record.debug_command(typed())}")
    console.print(
        f"done in {duration(seconds)}: {len(named(records, Kind.TRIAL, State.COMPLETE))} complete, "
        f"{len(named(records, state=State.PRUNED))} pruned, {len(failed)} failed"
    )
    for cell in filter(driver.ledger.has_enough, driver.sweep.planned):
        gain, asked = driver.ledger.course(cell), driver.sweep.file.stop_when
        if gain and asked:
            console.print(
                f"{cell}: no more trials: the last {asked.over_trials} added {gain.gain(asked.over_trials):.2%} of its "
                f"hypervolume (stop_when: less than {asked.hypervolume_gain_below})"
            )
    for record in unevaluated(records):
        console.print(
            f"evaluation failed: {record.name}: {record.not_evaluated}\n  its output: {record.paths.evaluation_log}; "
            "the next start of the same command tries it again"
        )
    if driver.out_of_reach:
        console.print(
            f"{driver.out_of_reach} complete trial(s) cannot be evaluated: their checkpoints went before it was asked"
        )
    if driver.taken_over:
        console.print(f"{driver.taken_over} of them had been finished already, here or in another sweep of this folder")
    if spent := driver.budget_spent() if driver.left() else None:
        console.print(
            f"stopped by the budget ({spent}; spent {driver.spent.hours:.3f} h, {driver.spent.gpu_hours:.3f} GPU-h), "
            f"{len(named(records, state=State.RUNNING))} trial(s) unfinished; raise it {same_command()}"
        )


def say_where_to_look(driver: Driver, page: str) -> None:
    """`page`: this sweep's, below the address of MLflow's pages."""
    paths = driver.paths
    console.print(
        f"all rows: {paths.results}\n"
        f"figures and what was learnt: {paths.report.as_uri()} (for a paper: {paths.figures})\n"
        f"curves, parameters, checkpoints: {how_to_look(driver.sweep.base.experiment, page)}"
    )
