"""Typed settings with their ranges. Needs pydantic alone, so that a wrong request is refused at once."""

from importlib import import_module
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from toconv.ranges import (
    Beta,
    Channel3,
    Depth,
    FilePath,
    FileText,
    Fraction,
    Positive,
    Rate,
    Real,
    Seed,
    Size,
    Spread3,
    Text,
    Threads,
    Weight,
    Whole,
    one_of,
)

MAX_PIXELS = 100_000_000  # of a picture, unless data.max_pixels says otherwise

GRID_SIZE = "model.compressor.output_grid_size"  # k, by its dotted name
GRID_SIZES = "model.compressor.grid_sizes"
EPOCHS = "training.epochs"
SEED, TEST = "training.seed", "training.test"
CRITIC_WEIGHT, AGREEMENT_WEIGHT = "loss.wgan_weight", "loss.agreement_weight"
USED_PICTURES = ("data.unreadable", "data.max_pixels")  # decide which are used, and these are in the fingerprint
OF_THIS_MACHINE: dict[str, Any] = {  # in no checkpoint
    "experiment": True,
    "resume": True,
    "data": {"tokens_dir"},
    "store": {"local_cache_gb", "url"},
}

NESTED = "nested"  # the kind of compressor that serves several k
COMPRESSORS = {  # model.compressor.kind: module and class
    "conv": "toconv.models.compressor:Compressor",
    "abstractor": "toconv.models.abstractor:Abstractor",
    "token_packer": "toconv.models.cross_attention:TokenPacker",
    "resampler": "toconv.models.cross_attention:Resampler",
    "ldp": "toconv.models.ldp:LightweightProjector",
    "merger": "toconv.models.merger:Merger",
    NESTED: "toconv.models.nested:NestedCompressor",
}
HEADED = ("token_packer", "resampler")  # kinds of compressors that attend
BLOCK_NEEDED = ("resampler", "merger")  # kinds that are nothing without a block
CHANNELS_PER_GROUP = 8  # of kind=abstractor's 3×3 convolutions
DECODERS = {"conv": "toconv.models.decoder:ConvDecoder", "attention": "toconv.models.decoder:AttentionDecoder"}


class Source(NamedTuple):
    """A place that pictures come from, data.kind."""

    lists: str  # module and function: DataSettings → the pictures of each split
    title: str  # in a sentence
    root: str | None = None  # the setting of data/ that must name a folder
    told: str | None = None  # module and function: () → what of it is there, where that differs between machines


SOURCES = {
    "sample": Source(
        "toconv.tokens.samples:sample_splits",
        "photographs of the packages foolbox, scikit-image, scikit-learn and, where it was fetched, tabler-ui",
        told="toconv.tokens.samples:sources",
    ),
    "folder": Source("toconv.tokens.images:folder_splits", "a folder of pictures", "root"),
    "imagenet": Source("toconv.tokens.images:imagenet_splits", "ImageNet", "imagenet_root"),
}


def named_object(text: str) -> Any:
    """The class or function that `module:name` names."""
    module, _, name = text.partition(":")
    return getattr(import_module(module), name)


class Group(BaseModel):
    """A group of settings: no key that is not declared, nothing changed after it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EncoderSettings(Group):
    """The frozen vision transformer, and the pixels that it was trained on."""

    name: Text
    library: Literal["open_clip", "timm"] = "open_clip"  # that builds it; older checkpoints do not name it
    architecture: FileText  # the library's name of a model, or an open_clip model config (*.json)
    weights: FileText  # a tag of the library's, a local file, or package:MODULE/FILE
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None  # of the weights file; checked where it is given
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None  # a commit of the weights' hub
    layer: Annotated[Whole, Field(ge=-1000, le=999)]  # index of the block whose output is taken, -1 for the last
    image_size: Size  # pixels
    patch_size: Size  # pixels
    width: Size  # channels of a token
    mean: Channel3
    std: Spread3
    dtype: Literal["auto", "bf16", "fp32"]
    batch_size: Size

    @property
    def grid_size(self) -> int:
        """Tokens along one side of the grid, g."""
        return self.image_size // self.patch_size

    @property
    def stated(self) -> str:
        """All that decides its tokens, in a sentence."""
        g, mean, std = self.grid_size, *(", ".join(f"{v:.4g}" for v in values) for values in (self.mean, self.std))
        return (
            f"encoder {self.name} ({self.library}, {self.weights}): {self.image_size} px, {g}x{g} tokens of width "
            f"{self.width} in patches of {self.patch_size}, layer {self.layer}; pixels less ({mean}) over ({std})"
        )


class DataSettings(Group):
    """The pictures of a run, and how they are split."""

    kind: Annotated[str, one_of(SOURCES)]
    root: FilePath | None  # data=folder
    imagenet_root: FilePath | None  # data=imagenet
    crops: Size  # fixed crops of each picture; 1 is the centre crop
    seed: Seed  # of the split and of the crops
    val_fraction: Annotated[Real, Field(gt=0, lt=1)]
    test_fraction: Annotated[Real, Field(gt=0, lt=1)]
    train_pictures: Positive | None  # at most so many, drawn with the seed; null: all
    val_pictures: Positive | None
    test_pictures: Positive | None
    tokens_dir: FilePath  # where token stores are kept
    workers: Threads  # threads that decode pictures
    unreadable: Literal["refuse", "skip"] = "refuse"  # pictures that cannot be read; older checkpoints name neither
    max_pixels: Positive = MAX_PIXELS  # of a picture; a larger one is not read


class StoreSettings(Group):
    """How tokens are kept."""

    dtype: Literal["fp16", "bf16", "int8"] = "fp16"  # older checkpoints name none of these
    url: FileText | None = None  # of an object store that tokens and checkpoints are kept in too
    local_cache_gb: Annotated[Real, Field(gt=0, le=10**6)] | None = None  # of this machine's copies of tokens


class CompressorSettings(Group):
    kind: Annotated[str, one_of(COMPRESSORS)]
    output_grid_size: Positive  # k
    init: Literal["pool", "pca", "linear"]  # what it does before it is trained
    width: Size  # channels inside the residual branch
    blocks: Depth  # of the branch; what one is depends on the kind
    heads: Size = 4  # of HEADED; older checkpoints name neither this nor match
    match: Literal["parameters", "flops"] | None = None  # the width at which the branch costs what conv's does
    grid_sizes: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None  # of kind=nested: every k, rising

    @property
    def sizes(self) -> tuple[int, ...]:
        """Every k that it is trained and measured at."""
        return self.grid_sizes or (self.output_grid_size,)


class DecoderSettings(Group):
    kind: Annotated[str, one_of(DECODERS)]
    width: Size
    blocks: Depth
    heads: Size  # of decoder.kind=attention


class CriticSettings(Group):
    head: Literal["token", "grid", "conditional"]  # what it scores
    pairs: Literal["independent", "matched"]  # which real and fake samples the penalty interpolates
    width: Size
    layers: Annotated[Depth, Field(ge=1)]  # hidden layers
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
    agreement_weight: Weight = 0.0  # older checkpoints name neither
    agreement_of: Literal["embedding", "cells", "both"] = "both"
    log_ratio: Annotated[Real, Field(ge=-38)] | None  # log10 of L_gen's weight over L_ae's
    balance: Literal["fixed", "gradient_norm"]


class TrainingSettings(Group):
    epochs: Size
    batch_size: Size
    micro_batch: Positive | Literal["auto"] | None = "auto"  # images at a time; older checkpoints do not name it
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
    cuda_device: Annotated[Whole, Field(ge=0, le=1023)]
    mixed_precision: bool | Literal["auto"]  # bf16 for compressor and decoder
    compile: bool | Literal["auto"]  # compressor and decoder, by torch.compile
    threads: Threads | None  # CPU threads of one training; null: all that it is given
    cuda_graph: bool = False  # a step launched as one; older checkpoints do not name it
    tf32: bool = False  # fp32 products and convolutions on CUDA as TF32; older checkpoints do not name it


class ExperimentSettings(Group):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None  # MLflow's experiment; null: the sweep's name
    # null: MLFLOW_TRACKING_URI of the environment, else sqlite:///mlflow.db of the working directory
    tracking_uri: FileText | None
    checkpoint_dir: FilePath  # of a single training
    use_wandb: bool
    wandb_project: Annotated[Text, Field(pattern=r"^[^/\\#?%:]{1,128}$")]
    system_metrics: bool = False  # of each trial's machine, by epoch; older checkpoints do not name it


class Settings(Group):
    """Everything that decides one training."""

    encoder: EncoderSettings
    data: DataSettings
    store: StoreSettings = StoreSettings()
    model: ModelSettings
    loss: LossSettings
    training: TrainingSettings
    hardware: HardwareSettings
    experiment: ExperimentSettings
    resume: FilePath | None  # a checkpoint to go on from


def width_step(kind: str, heads: int) -> int:
    """What `model.compressor.width` must be a multiple of."""
    return heads if kind in HEADED else CHANNELS_PER_GROUP if kind == "abstractor" else 1
