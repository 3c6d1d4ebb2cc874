"""A training that begins where another one ended, with the schedule of its learning rate begun anew.

A warm restart, as in SGDR (arXiv 1608.03983): not the same as so many epochs from the start."""

import math
from dataclasses import dataclass
from pathlib import Path

from torch.optim.lr_scheduler import LambdaLR

from toconv import checkpoint
from toconv.errors import CheckpointError
from toconv.training.epochs import TRAINED, Epoch, epochs_in
from toconv.training.loop import Training, cosine_with_warmup
from toconv.training.optimizers import rates_on_gpu


@dataclass(frozen=True)
class Extended:
    """The training whose end an extension begins at."""

    checkpoint: Path
    epoch: int  # its last one


def restart_schedule(training: Training, epoch: int) -> None:
    """Warm-up and cosine over the epochs that are left after `epoch`."""
    t = training.settings.training
    for group in training.optimizer.param_groups:
        group["lr"] = group["initial_lr"] = t.learning_rate
    steps = (t.epochs - epoch) * len(training.train)
    training.schedule = LambdaLR(training.optimizer, cosine_with_warmup(steps, t.warmup_fraction))
    rates_on_gpu(training.optimizer, training.device)


def begin_at_end(training: Training, extended: Extended) -> list[Epoch]:
    """Networks, moments of the optimizers and random states as they were there; the best epoch is to be one of those to
    come. Returns the epochs behind it. Raises CheckpointError where the file is not that training's end."""
    state = checkpoint.load(extended.checkpoint, TRAINED)
    training.load_state_dict(state)
    if training.epoch != extended.epoch:
        raise CheckpointError(f"{extended.checkpoint}: is of epoch {training.epoch}, must be of {extended.epoch}")
    training.best_epoch, training.best_distortion = 0, math.inf
    restart_schedule(training, extended.epoch)
    return epochs_in(state, extended.checkpoint)
