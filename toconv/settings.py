"""Typed settings with their ranges. Needs pydantic alone, so that a wrong request is refused at once."""

import importlib.util
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import PydanticCustomError

from toconv.tracking_address import address_mistake

# Upper ends are far beyond what a machine can hold or a person can wait for: a slip of the keyboard is refused at once.
Positive = Annotated[int, Field(ge=1, le=10**9)]
Size = Annotated[int, Field(ge=1, le=10**5)]  # pixels, channels, tokens; of one dimension of a tensor
Few = Annotated[int, Field(ge=1, le=1000)]  # layers, heads, threads, seeds
Index = Annotated[int, Field(ge=-1000, le=1000)]
Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=1e38, allow_inf_nan=False)]  # finite in fp32
Beta = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Mean = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]  # of a colour, pixels being in [0, 1]
Deviation = Annotated[float, Field(ge=1e-3, le=1000, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=4096)]

GRID_SIZE = "model.compressor.output_grid_size"  # k, by its dotted name
SEED, TEST, CRITIC_WEIGHT = "training.seed", "training.test", "loss.wgan_weight"
CHANGE_NO_NUMBER = (  # settings, and groups of them, that no metric depends on
    "hardware.",
    "experiment.",
    "resume",
    "data.tokens_dir",
    "data.workers",
    "training.log_every",
    "training.checkpoint_every",
    "training.keep_last_n",
)

COMPRESSORS = {"conv": "toconv.models.compressor:Compressor"}  # model.compressor.kind: module and class
DECODERS = {"conv": "toconv.models.decoder:ConvDecoder", "attention": "toconv.models.decoder:AttentionDecoder"}


class Source(NamedTuple):
    """A place that pictures come from, data.kind."""

    lists: str  # module and function: DataSettings → the pictures of each split
    title: str  # in a sentence
    root: str | None = None  # the setting of data/ that must name a folder


SOURCES = {
    "sample": Source(
        "toconv.tokens.images:sample_splits",
        "the photographs that the packages foolbox, scikit-image and scikit-learn ship",
    ),
    "folder": Source("toconv.tokens.images:folder_splits", "a folder of pictures", "root"),
    "imagenet": Source("toconv.tokens.images:imagenet_splits", "ImageNet", "imagenet_root"),
}


def named_object(text: str) -> Any:
    """The class or function that `module:name` names."""
    module, _, name = text.partition(":")
    return getattr(import_module(module), name)


def one_of(known: Collection[str]) -> AfterValidator:
    """A name among `known`."""

    def check(value: str) -> str:
        if value not in known:
            raise PydanticCustomError("one_of", "must be one of {known}", {"known": ", ".join(known)})
        return value

    return AfterValidator(check)


class Group(BaseModel):
    """A group of settings: no key that is not declared, nothing changed after it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EncoderSettings(Group):
    """The frozen vision transformer, and the pixels that it was trained on."""

    name: Text
    architecture: Text  # an open_clip model name, or an open_clip model config (*.json)
    weights: Text  # an open_clip tag, a local file, or package:MODULE/FILE
    sha256: str | None  # of the weights file; checked where it is given
    layer: Index  # index of the block whose output is taken, -1 for the last
    image_size: Size  # pixels
    patch_size: Size  # pixels
    width: Size  # channels of a token
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]
    dtype: Literal["auto", "bf16", "fp32"]
    batch_size: Size

    @property
    def grid_size(self) -> int:
        """Tokens along one side of the grid, g."""
        return self.image_size // self.patch_size


class DataSettings(Group):
    """The pictures of a run, and how they are split."""

    kind: Annotated[str, one_of(SOURCES)]
    root: Path | None  # data=folder
    imagenet_root: Path | None  # data=imagenet
    crops: Size  # fixed crops of each picture; 1 is the centre crop
    seed: Seed  # of the split and of the crops
    val_fraction: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
    test_fraction: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
    train_pictures: Positive | None  # at most so many, drawn with the seed; null: all
    val_pictures: Positive | None
    test_pictures: Positive | None
    tokens_dir: Path  # where token stores are kept
    workers: Few  # threads that decode pictures


class CompressorSettings(Group):
    kind: Annotated[str, one_of(COMPRESSORS)]
    output_grid_size: Positive  # k
    init: Literal["pool", "pca"]  # what it does before it is trained
    width: Size  # channels inside the residual branch
    blocks: Annotated[int, Field(ge=0, le=1000)]  # residual blocks on the k×k grid


class DecoderSettings(Group):
    kind: Annotated[str, one_of(DECODERS)]
    width: Size
    blocks: Annotated[int, Field(ge=0, le=1000)]
    heads: Few  # of decoder.kind=attention


class CriticSettings(Group):
    head: Literal["token", "grid", "conditional"]  # what it scores
    pairs: Literal["independent", "matched"]  # which real and fake samples the penalty interpolates
    width: Size
    layers: Few  # hidden layers
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
    log_ratio: Annotated[float, Field(ge=-38, le=38, allow_inf_nan=False)] | None  # log10 of L_gen's weight over L_ae's
    balance: Literal["fixed", "gradient_norm"]


class TrainingSettings(Group):
    epochs: Size
    batch_size: Size
    n_critic: Size  # critic steps to each generator step
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
    cuda_device: Annotated[int, Field(ge=0, le=1000)]
    mixed_precision: bool | Literal["auto"]  # bf16 for compressor and decoder
    compile: bool
    threads: Few | None  # CPU threads of one training; null: all that it is given


class ExperimentSettings(Group):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None  # MLflow's experiment; null: the sweep's name
    # null: MLFLOW_TRACKING_URI of the environment, else sqlite:///mlflow.db of the working directory
    tracking_uri: str | None
    checkpoint_dir: Path  # of a single training
    use_wandb: bool
    wandb_project: Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")]
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


def changes_a_number(key: str) -> bool:
    """Whether a metric of some training depends on the setting of this dotted name."""
    return not key.startswith(CHANGE_NO_NUMBER)


def parse_setting(key: str, text: str) -> Any:
    """The value of a setting from its text, as `str` writes it; the type is the one that its group declares."""
    group: Any = Settings
    *groups, name = key.split(".")
    for part in groups:
        group = group.model_fields[part].annotation
    adapter = TypeAdapter(group.model_fields[name].annotation)
    return adapter.validate_json(text) if text.startswith("[") else adapter.validate_strings(text)


def cross_field_mistakes(raw: dict[str, Any]) -> list[str]:
    """Rules between settings. Takes the raw values, so that they are told together with wrong ranges."""
    mistakes = []
    try:
        k = raw["model"]["compressor"]["output_grid_size"]
        g = raw["encoder"]["image_size"] // raw["encoder"]["patch_size"]
        if isinstance(k, int) and k >= g:
            mistakes.append(f"model.compressor.output_grid_size={k}: must be below the encoder's grid, 1 <= k < {g}")
        heads, width = raw["model"]["decoder"]["heads"], raw["model"]["decoder"]["width"]
        if raw["model"]["decoder"]["kind"] == "attention" and width % heads:
            mistakes.append(f"model.decoder.heads={heads}: must divide model.decoder.width={width} for kind=attention")
        data = raw["data"]
        if data["val_fraction"] + data["test_fraction"] >= 1 and data["kind"] != "imagenet":
            mistakes.append(
                f"data.val_fraction + data.test_fraction must be below 1, got "
                f"{data['val_fraction']} + {data['test_fraction']}"
            )
        source = SOURCES.get(data["kind"])
        if source and source.root and not data[source.root]:
            mistakes.append(
                f"data.{source.root}: data={data['kind']} needs it, e.g. data.{source.root}=/path/to/pictures"
            )
        critic = raw["model"]["critic"]
        if critic["head"] == "conditional" and critic["pairs"] == "independent":
            mistakes.append(
                "model.critic.pairs=independent: head=conditional needs matched pairs, since both stand "
                "beside one cell's mean"
            )
        if raw["loss"]["log_ratio"] is None and raw["loss"]["wgan_weight"] == 0 and raw["loss"]["ae_weight"] == 0:
            mistakes.append("loss.wgan_weight and loss.ae_weight are both 0: nothing would be trained")
        address = raw["experiment"]["tracking_uri"]
        if isinstance(address, str) and (mistake := address_mistake(address)):
            mistakes.append(f"experiment.tracking_uri: {mistake}")
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
