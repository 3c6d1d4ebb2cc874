"""The sweep's command line."""

import sys

from toconv.command_line import run, same_command

USAGE = """
usage: python run_sweep.py SWEEP.yaml [key=value ...] [--dry-run | --debug [trial.key=value ...]]

  key=value    a setting of conf/ (training.epochs=4, data=folder) or a key of the sweep file
               (name=mine, trials=8, budget.hours=2); a setting that the file enumerates or
               searches is fixed to that value
  --dry-run    check everything; print cells, trials, shapes, disk and time to expect; start nothing
  --debug      one trial of the sweep in this process, without Ray, Optuna's ledger or MLflow

Run the same command again to go on where it stopped.
Exit codes: 0 done, 2 wrong request, 3 done with failed trials, 4 the machinery gave way, 130 interrupted.
"""


def main(arguments: list[str]) -> int:
    from toconv.sweep.command import sweep

    return sweep(arguments)


if __name__ == "__main__":
    sys.exit(run(main, USAGE, same_command))
