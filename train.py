"""One training from the command line."""

import sys

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


if __name__ == "__main__":
    sys.exit(run(main, USAGE, same_command))
