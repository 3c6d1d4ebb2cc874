"""One training from the command line."""

import sys
from pathlib import Path

from toconv.command_line import run, same_command

USAGE = """
usage: python train.py [key=value ...]

  key=value      a setting of conf/, e.g. model.compressor.output_grid_size=8 training.batch_size=16
  resume=PATH    go on from a checkpoint, with its settings where none are given

Leaves latest.pt, best_model.pt, checkpoint_epoch_N.pt and metrics.jsonl in ./checkpoints.
"""


def main(arguments: list[str]) -> int:
    from toconv.single import train

    return train(arguments)


def how_to_go_on() -> str:
    """The same command with the latest checkpoint, or from the start where there is none yet."""
    folders = [a.partition("=")[2] for a in sys.argv if a.startswith("experiment.checkpoint_dir=")]
    latest = Path(*folders[-1:] or ["checkpoints"], "latest.pt")
    sys.argv[1:] = [a for a in sys.argv[1:] if not a.startswith("resume=")]
    return same_command() + (f" resume={latest}" if latest.exists() else "")


if __name__ == "__main__":
    sys.exit(run(main, USAGE, how_to_go_on))
