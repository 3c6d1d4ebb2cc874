"""A trained compressor as others use it: a module, safetensors and a JSON config, on the disk or on the Hub.

Needs torch, safetensors and huggingface_hub alone, so that whoever uses a compressor installs no sweep."""

# B images, N = g*g tokens of the encoder, M = k*k compressed tokens, C channels

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch
from torch import nn

from toconv import grid
from toconv.errors import CheckpointError, EncoderMismatch, RequestError, told
from toconv.export.model_card import card, card_digest
from toconv.models.families import build_networks
from toconv.models.nested import at_size
from toconv.models.protocols import TokenMap
from toconv.paths import write_atomic
from toconv.ranges import MOST_OF_A_SIZE, MOST_ON_A_SIDE
from toconv.settings import CompressorSettings, DecoderSettings

FORMAT = 1
MOST_CONFIG, MOST_HEADER, LARGEST_NUMBER = 2**24, 2**20, 8  # bytes: of config.json, of the weights' header, of a number
TOLERANCE = 1e-6  # of the numbers that pixels are normalised with


@dataclass(frozen=True)
class EncoderFacts:
    """What the encoder of a compressor's tokens is."""

    name: str
    architecture: str  # open_clip's name of the model, timm:NAME of one of timm's, or the content of a model config
    weights: str  # sha256:DIGEST of a file, or open_clip:ARCHITECTURE:TAG, or timm:ARCHITECTURE:TAG
    layer: int  # index of the block whose output is taken, -1 for the last
    image_size: int  # pixels
    patch_size: int  # pixels
    width: int  # channels of a token
    mean: tuple[float, float, float]  # of the pixels, which lie in [0, 1]
    std: tuple[float, float, float]
    blocks: int | None = None  # how many there are, where it is known

    @property
    def grid_size(self) -> int:
        """Tokens along one side of the grid, g."""
        return self.image_size // self.patch_size

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> EncoderFacts:
        """Raises ValueError where it says of a grid what none can be."""
        made = cls(**{**found, "mean": tuple(found["mean"]), "std": tuple(found["std"])})
        sides = {name: getattr(made, name) for name in ("image_size", "patch_size", "width")}
        wrong = [f"{name}={n!r}" for name, n in sides.items() if type(n) is not int or not 1 <= n <= MOST_OF_A_SIZE]
        if wrong or not 1 <= made.grid_size <= MOST_ON_A_SIDE:
            raise ValueError(f"{', '.join(wrong) or 'encoder'}: no grid of 1 to {MOST_ON_A_SIDE} tokens a side")
        return made


class TokenCompressor(nn.Module, PyTorchModelHubMixin, library_name="toconv"):
    """(B, N, C) tokens of an encoder → (B, M, C) tokens in the same units, and back; of kind=nested, at every k of
    `sizes`, `k` being what is given unless another is asked for."""

    mean_C: torch.Tensor  # of the training tokens
    std_C: torch.Tensor

    def __init__(self, config: Mapping[str, Any]) -> None:
        """`config` is config.json: `toconv.export.from_checkpoint.from_checkpoint` makes it of a training, `load`
        reads it."""
        super().__init__()
        self.config = dict(config)
        self.encoder = EncoderFacts.from_json(config["encoder"])
        self.grid_size, self.width, self.k = self.encoder.grid_size, self.encoder.width, config["k"]
        if type(self.k) is not int:
            raise TypeError(f"k={self.k!r}: must be a whole number")
        settings = CompressorSettings.model_validate(
            {"kind": "conv", **config["compressor"], "output_grid_size": self.k}
        )
        self.sizes = settings.sizes
        decoder = DecoderSettings.model_validate(config["decoder"])
        self.compressor, self.decoder = build_networks(settings, decoder, self.width, self.grid_size)
        self.register_buffer("mean_C", torch.zeros(self.width))
        self.register_buffer("std_C", torch.ones(self.width))

    def forward(self, x_BNC: torch.Tensor, k: int | None = None) -> torch.Tensor:
        """(B, N, C) → (B, M, C), or (B, g, g, C) → (B, k, k, C), in the encoder's own units and in the dtype given.
        Raises EncoderMismatch on another number of tokens or channels, RequestError on a k that is not of `sizes`."""
        k = self.k if k is None else k
        if k not in self.sizes:
            raise RequestError(f"k={k}: this compressor was trained for k = {', '.join(map(str, self.sizes))}")
        return self._mapped(at_size(self.compressor, k), x_BNC, self.grid_size, k)

    def decompress(self, z_BMC: torch.Tensor) -> torch.Tensor:
        """(B, M, C) compressed tokens → (B, N, C), or (B, k, k, C) → (B, g, g, C), of whichever k of `sizes` they are.
        Raises EncoderMismatch as `forward` does."""
        given = z_BMC.shape[1] if z_BMC.dim() == 4 else grid.side(z_BMC)
        return self._mapped(self.decoder, z_BMC, given if given in self.sizes else self.k, self.grid_size)

    def _mapped(self, network: TokenMap, x: torch.Tensor, side: int, to: int) -> torch.Tensor:
        as_grid = x.dim() == 4
        wanted = (side, side, self.width) if as_grid else (side * side, self.width)
        if tuple(x.shape[1:]) != wanted:
            raise EncoderMismatch(
                f"tokens of shape {tuple(x.shape)}: this compressor takes (B, {side * side}, "
                f"{self.width}), {side}x{side} tokens of {self.encoder.name}"
            )
        standard_BNC = self.standardised(x.flatten(1, 2) if as_grid else x).to(self.mean_C.dtype)
        y = (network(standard_BNC).float() * self.std_C.float() + self.mean_C.float()).to(x.dtype)
        return y.unflatten(1, (to, to)) if as_grid else y

    def standardised(self, x_BNC: torch.Tensor) -> torch.Tensor:
        """fp32, each channel with mean 0 and variance 1 over the training tokens: the units of every metric."""
        return (x_BNC.float() - self.mean_C.float()) / self.std_C.float()

    def unrecovered(self, x_BNC: torch.Tensor, y_BNC: torch.Tensor | None = None) -> torch.Tensor:
        """(B, g, g) squared error of each standardised token after compression and back, over the mean variance of its
        image's tokens, so that a map's mean is the image's distortion. `y_BNC` is what came back, where it is known."""
        back_BNC = self.decompress(self(x_BNC)) if y_BNC is None else y_BNC
        standard_BNC = self.standardised(x_BNC)
        error_BN = (standard_BNC - self.standardised(back_BNC)).square().mean(-1)
        variance_B1 = standard_BNC.square().mean((1, 2))[:, None]
        return (error_BN / variance_B1).unflatten(1, (self.grid_size, self.grid_size))

    def check_encoder(self, **facts: Any) -> None:
        """Compare `facts`, any fields of EncoderFacts or `grid_size`, with the encoder that this compressor is of. What
        is not known of that (`blocks`) differs from nothing. Raises EncoderMismatch that names every one that differs,
        with both values. Layers that are counted from the front and from the back are the same where the number of
        `blocks` is known."""
        names = [field.name for field in dataclasses.fields(EncoderFacts)] + ["grid_size"]
        unknown = [
            f"{name}: no fact of an encoder; there are {', '.join(names)}" for name in facts if name not in names
        ]
        if unknown:
            raise RequestError(*unknown)
        blocks = self.encoder.blocks or facts.get("blocks")
        differing = []
        for name, theirs in facts.items():
            ours = getattr(self.encoder, name)
            if ours is not None and not (_same_layer(ours, theirs, blocks) if name == "layer" else _same(ours, theirs)):
                differing.append(f"{name}: the compressor is of an encoder with {ours!r}, this one has {theirs!r}")
        if differing:
            raise EncoderMismatch(*differing)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, map_location: str | torch.device = "cpu", **hub: Any
    ) -> TokenCompressor:
        """Read a folder, or `owner/name` of the Hub, in eval mode. `hub` are hf_hub_download's options: revision,
        token, cache_dir, force_download, local_files_only. Raises CheckpointError where it is missing, damaged or
        foreign."""
        config_path, weights_path = (
            _file(str(pretrained_model_name_or_path), name, hub) for name in (CONFIG_NAME, SAFETENSORS_SINGLE_FILE)
        )
        config = read_config(config_path)
        model = cls._described(config, config_path)
        content = model._read(weights_path)
        digest = hashlib.sha256(content).hexdigest()
        if digest != config.get("sha256"):
            raise CheckpointError(
                f"{weights_path}: sha256 is {digest}, {CONFIG_NAME} says {config.get('sha256')}; "
                "the file was damaged or altered after it was written"
            )
        model._fill(content, weights_path)
        return model.to(map_location).eval()

    @classmethod
    def _described(cls, config: Mapping[str, Any], path: Path) -> TokenCompressor:
        """Without memory for its numbers."""
        try:
            with torch.device("meta"):
                return cls(config)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
            why = f"{type(error).__name__}: {told(error)}"
            raise CheckpointError(f"{path}: not a config that this version of toconv knows ({why})") from error

    def _read(self, path: Path) -> bytes:
        """The weights' bytes, if they are no more than the module's numbers need."""
        most = MOST_HEADER + LARGEST_NUMBER * sum(x.numel() for x in self._tensors().values())
        try:
            if (size := path.stat().st_size) > most:
                raise CheckpointError(f"{path}: has {size} bytes; what {CONFIG_NAME} describes has at most {most}")
            return path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path}: not readable ({error.strerror})") from error

    def _fill(self, content: bytes, path: Path) -> None:
        own = self._tensors()
        try:
            found = safetensors_torch.load(content)
            if found.keys() != own.keys():
                raise ValueError(f"tensors missing or unknown: {', '.join(sorted(found.keys() ^ own.keys()))}")
            self.load_state_dict(found, strict=False, assign=True)
        except (SafetensorError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{path}: does not hold the tensors that {CONFIG_NAME} describes ({told(error)})"
            ) from error

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Every number of the module by name, once."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def _save_pretrained(self, save_directory: Path) -> None:
        """Results travel on only with the very weights that they were measured with."""
        content = safetensors_torch.save({name: x.detach().cpu().contiguous() for name, x in self._tensors().items()})
        digest = hashlib.sha256(content).hexdigest()
        if self.config.get("sha256") not in (None, digest):
            self.config = {**self.config, "results": None}
        self.config = {**self.config, "sha256": digest, "card_sha256": card_digest(card(self.config))}
        write_atomic(save_directory / SAFETENSORS_SINGLE_FILE, content)
        write_atomic(save_directory / CONFIG_NAME, json.dumps(self.config, indent=2) + "\n")

    def generate_model_card(self, *_: Any, **__: Any) -> ModelCard:
        """The card of `model_card`, from the config alone."""
        return ModelCard(card(self.config))


def read_config(path: Path) -> dict[str, Any]:
    """Raises CheckpointError where the file is no config of an exported compressor."""
    try:
        if path.stat().st_size > MOST_CONFIG:
            raise CheckpointError(f"{path}: has {path.stat().st_size} bytes, a config at most {MOST_CONFIG}")
        config = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(config, dict) or config.get("library") != "toconv":
        raise CheckpointError(f"{path}: not the config of a compressor that toconv exported")
    if config.get("format") != FORMAT:
        raise CheckpointError(f"{path}: has format {config.get('format')!r}; this version of toconv reads {FORMAT}")
    return _in_todays_words(config)


def _in_todays_words(config: dict[str, Any]) -> dict[str, Any]:
    """An export of version 0.1.0 says `use` for the embedding agreement."""

    def renamed(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        return {"embedding_agreement" if key == "use" else key: renamed(value) for key, value in node.items()}

    return {**config, "results": renamed(config.get("results"))} if "results" in config else config


def _file(name: str, file: str, hub: Mapping[str, Any]) -> Path:
    folder = Path(name).expanduser()
    if folder.is_dir():
        if (folder / file).is_file():
            return folder / file
        raise CheckpointError(
            f"{folder / file}: no such file; an exported compressor is a folder with {CONFIG_NAME} and "
            f"{SAFETENSORS_SINGLE_FILE}, which toconv export makes"
        )
    try:
        return Path(hf_hub_download(name, file, **hub))
    except (OSError, HFValidationError) as error:
        raise CheckpointError(
            f"{name}: no such folder, and no compressor of that name on the Hub ({type(error).__name__}: {told(error)})"
        ) from error


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, tuple) and isinstance(theirs, tuple | list):
        return len(ours) == len(theirs) and all(
            math.isclose(a, b, abs_tol=TOLERANCE) for a, b in zip(ours, theirs, strict=True)
        )
    return ours == theirs


def _same_layer(ours: int, theirs: int, blocks: int | None) -> bool:
    return ours % blocks == theirs % blocks if blocks else ours == theirs
