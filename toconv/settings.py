"""Typed settings with their ranges. Needs pydantic alone, so that a wrong request is refused at once."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Beta = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Channel3 = tuple[float, float, float]


class Group(BaseModel):
    """A group of settings: no key that is not declared, nothing changed after it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EncoderSettings(Group):
    """The frozen vision transformer, and the pixels that it was trained on."""

    name: str
    architecture: str  # an open_clip model name, or an open_clip model config (*.json)
    weights: str  # an open_clip tag, a local file, or package:MODULE/FILE
    sha256: str | None  # of the weights file; checked where it is given
    layer: int  # index of the block whose output is taken, -1 for the last
    image_size: Positive  # pixels
    patch_size: Positive  # pixels
    width: Positive  # channels of a token
    mean: Channel3
    std: Channel3
    dtype: Literal["auto", "bf16", "fp32"]
    batch_size: Positive

    @property
    def grid_size(self) -> int:
        """Tokens along one side of the grid, g."""
        return self.image_size // self.patch_size


class DataSettings(Group):
    """The pictures of a run, and how they are split."""

    kind: Literal["sample", "folder", "imagenet"]
    root: Path | None  # data=folder
    imagenet_root: Path | None  # data=imagenet
    crops: Positive  # fixed crops of each picture; 1 is the centre crop
    seed: Seed  # of the split and of the crops
    val_fraction: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
    test_fraction: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
    train_pictures: Positive | None  # at most so many, drawn with the seed; null: all
    val_pictures: Positive | None
    test_pictures: Positive | None
    tokens_dir: Path  # where token stores are kept
    workers: Positive  # threads that decode pictures


class CompressorSettings(Group):
    output_grid_size: Positive  # k
    init: Literal["pool", "pca"]  # what it does before it is trained
    width: Positive  # channels inside the residual branch
    blocks: Annotated[int, Field(ge=0)]  # residual blocks on the k×k grid


class DecoderSettings(Group):
    kind: Literal["conv", "attention"]
    width: Positive
    blocks: Annotated[int, Field(ge=0)]
    heads: Positive  # of decoder.kind=attention


class CriticSettings(Group):
    head: Literal["token", "grid", "conditional"]  # what it scores
    pairs: Literal["independent", "matched"]  # which real and fake units the penalty interpolates
    width: Positive
    layers: Positive  # hidden layers
    tokens_per_image: Positive  # scored in each critic step; all k² where there are fewer


class ModelSettings(Group):
    compressor: CompressorSettings
    decoder: DecoderSettings
    critic: CriticSettings


class LossSettings(Group):
    penalty: Literal["two_sided", "one_sided", "r1", "r2"]
    lambda_gp: Weight
    wgan_weight: Weight
    ae_weight: Weight
    log_ratio: Annotated[float, Field(allow_inf_nan=False)] | None  # log10 of L_gen's weight over L_ae's
    balance: Literal["fixed", "gradient_norm"]


class TrainingSettings(Group):
    epochs: Positive
    batch_size: Positive
    n_critic: Positive  # critic steps to each generator step
    learning_rate: Rate  # compressor and decoder
    critic_learning_rate: Rate
    betas: tuple[Beta, Beta]  # compressor and decoder
    critic_betas: tuple[Beta, Beta]
    weight_decay: Weight  # compressor and decoder
    warmup_fraction: Fraction  # of all steps; the rest is a cosine
    seed: Seed
    test: bool  # measure the last epoch on the test pictures too
    log_every: Positive  # steps between two reads of the losses
    checkpoint_every: Positive  # epochs between two checkpoint_epoch_N.pt
    keep_last_n: Positive  # so many checkpoint_epoch_N.pt stay


class HardwareSettings(Group):
    device: Literal["auto", "cpu", "cuda"]
    cuda_device: Annotated[int, Field(ge=0)]
    mixed_precision: bool | Literal["auto"]  # bf16 for compressor and decoder
    compile: bool
    threads: Positive | None  # CPU threads of one training; null: all that it is given


class ExperimentSettings(Group):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None  # MLflow's experiment; null: the sweep's name
    tracking_uri: str | None  # null: sqlite:///<repository>/mlflow.db
    checkpoint_dir: Path  # of a single training
    use_wandb: bool
    wandb_project: str
    system_metrics: bool = False  # of each trial's machine, by epoch; older checkpoints do not name it


class Settings(Group):
    """Everything that decides one training."""

    encoder: EncoderSettings
    data: DataSettings
    model: ModelSettings
    loss: LossSettings
    training: TrainingSettings
    hardware: HardwareSettings
    experiment: ExperimentSettings
    resume: Path | None  # a checkpoint to go on from


def cross_field_mistakes(raw: dict) -> list[str]:
    """Rules between settings. Takes the raw values, so that they are told together with wrong ranges."""
    mistakes = []
    try:
        k = raw["model"]["compressor"]["output_grid_size"]
        g = raw["encoder"]["image_size"] // raw["encoder"]["patch_size"]
        if isinstance(k, int) and k >= g:
            mistakes.append(
                f"model.compressor.output_grid_size={k}: must be below the encoder's grid, 1 <= k < {g}")
        heads, width = raw["model"]["decoder"]["heads"], raw["model"]["decoder"]["width"]
        if raw["model"]["decoder"]["kind"] == "attention" and width % heads:
            mistakes.append(
                f"model.decoder.heads={heads}: must divide model.decoder.width={width} for kind=attention")
        data = raw["data"]
        if data["val_fraction"] + data["test_fraction"] >= 1 and data["kind"] != "imagenet":
            mistakes.append(
                f"data.val_fraction + data.test_fraction must be below 1, got "
                f"{data['val_fraction']} + {data['test_fraction']}")
        needed = {"folder": "root", "imagenet": "imagenet_root"}.get(data["kind"])
        if needed and not data[needed]:
            mistakes.append(f"data.{needed}: data={data['kind']} needs it, e.g. data.{needed}=/path/to/pictures")
        critic = raw["model"]["critic"]
        if critic["head"] == "conditional" and critic["pairs"] == "independent":
            mistakes.append("model.critic.pairs=independent: head=conditional needs matched pairs, since both stand "
                            "beside one cell's mean")
        if raw["loss"]["log_ratio"] is None and raw["loss"]["wgan_weight"] == 0 and raw["loss"]["ae_weight"] == 0:
            mistakes.append("loss.wgan_weight and loss.ae_weight are both 0: nothing would be trained")
        for setting, package in (("use_wandb", "wandb"), ("system_metrics", "psutil")):
            if raw["experiment"][setting] is True and not _installed(package):
                mistakes.append(f"experiment.{setting}=true: needs the package {package}: pip install {package}")
    except (KeyError, TypeError, ZeroDivisionError):
        pass  # the field's own check names it
    return mistakes


def _installed(package: str) -> bool:
    """A folder of that name in the current directory is no package."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None
