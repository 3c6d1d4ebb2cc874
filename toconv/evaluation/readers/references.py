"""What readers of a token store read: made of the original tokens once, and kept beside them."""

# I images of a split that readers look at, N = g*g tokens, C channels, T coordinates of the last layer, K clusters,
# E channels of the embedding

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from toconv.code_version import within
from toconv.evaluation.readers.clusters import CLUSTERS, cluster_centres, nearest_centre
from toconv.settings import EncoderSettings
from toconv.tokens.batches import Batches
from toconv.tokens.derived import derived
from toconv.tokens.encoders import EncoderTail, load_tail
from toconv.tokens.manifest import SPLITS
from toconv.tokens.store import TokenStore

COMPUTED_BY = (
    *within("evaluation/readers", "clusters", "references"),
    *within("tokens", "batches", "encoder_models", "encoders", "stored"),
)
MOST_IMAGES, MOST_BYTES = 2048, 2**31  # of a split, evenly spaced: so many images, and so many bytes of fp16 tokens
COORDINATES = 64  # principal ones of the last layer that are read: 93 % of its variance on the default pictures
HEAD_RIDGE = 0.1  # of a token's mean square: the penalty of the head that is fitted on original tokens


@dataclass(frozen=True)
class Target:
    """Of the images of one split that are read."""

    images_I: torch.Tensor  # which
    last_INT: torch.Tensor  # fp16, less the training mean, along the principal axes
    labels_IN: torch.Tensor  # uint8, the cluster of each token
    embedding_IE: torch.Tensor


@dataclass(frozen=True)
class References:
    """Targets of every split, and the head (C + 1, K) that reads a token's cluster from an original token."""

    targets: dict[str, Target]
    head_FK: torch.Tensor


def references(store: TokenStore, encoder: EncoderSettings, device: torch.device) -> References:
    """On the CPU."""
    state = derived(store, "readers", COMPUTED_BY, lambda: _made(store, encoder, device))
    return References({split: Target(**state[split]) for split in SPLITS}, state["head"])


def crops_together(store: TokenStore, split: str) -> int:
    """Images of one picture, one after the other; of a single picture each image is one for itself."""
    return store.crops if store.count(split) > store.crops else 1


def images_read(store: TokenStore, split: str) -> torch.Tensor:
    """(I,) of evenly spaced pictures, all of each."""
    crops, images = crops_together(store, split), store.count(split)
    most = min(MOST_IMAGES, MOST_BYTES // (store.grid_size**2 * store.width * 2))
    pictures, kept = images // crops, max(1, min(images, most) // crops)
    chosen_P = torch.arange(kept) * pictures // kept
    return (chosen_P[:, None] * crops + torch.arange(crops)).flatten()


def tail_batches(
    store: TokenStore, split: str, images_I: torch.Tensor, device: torch.device, batch_size: int = 16
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Standardised tokens of these images, and their prefix tokens."""
    classes = store.class_tokens(split)[images_I].to(device).split(batch_size)
    return zip(Batches(store, split, batch_size, device).at(images_I), classes, strict=True)


def _made(store: TokenStore, encoder: EncoderSettings, device: torch.device) -> dict[str, Any]:
    tail = load_tail(encoder, device)
    images = {split: images_read(store, split) for split in SPLITS}
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        whole = {split: _whole(store, split, images[split], tail, device) for split in SPLITS}
        train_INC = whole["train"][1]
        mean_C, axes_CT = _principal(train_INC)
        last = {split: ((last_INC.float() - mean_C) @ axes_CT).half() for split, (_, last_INC) in whole.items()}
        centres_KT = cluster_centres(last["train"].flatten(0, 1))
        labels = {split: nearest_centre(last_INT, centres_KT).to(torch.uint8) for split, last_INT in last.items()}
        head_FK = _head(store, images["train"], labels["train"], device)
    parts = {
        split: {
            "images_I": images[split],
            "last_INT": last[split].cpu(),
            "labels_IN": labels[split].cpu(),
            "embedding_IE": whole[split][0].cpu(),
        }
        for split in SPLITS
    }
    return {**parts, "head": head_FK.cpu()}


def _whole(
    store: TokenStore, split: str, images_I: torch.Tensor, tail: EncoderTail, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """(I, E) embeddings and (I, N, C) fp16 tokens of the last layer."""
    mean_C, std_C = store.mean_C.to(device), store.std_C.to(device)
    batches = tail_batches(store, split, images_I, device)
    found = [tail.last_layer(x_BNC * std_C + mean_C, prefix_BPC) for x_BNC, prefix_BPC in batches]
    return torch.cat([embedding for embedding, _ in found]), torch.cat([last.half() for _, last in found])


def _principal(x_INC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean, and the axes with most variance as columns."""
    count, width = x_INC.shape[0] * x_INC.shape[1], x_INC.shape[-1]
    sum_C, gram_CC = torch.zeros(width, dtype=torch.float64), torch.zeros(width, width, dtype=torch.float64)
    for x_BNC in x_INC.split(32):
        x_TC = x_BNC.flatten(0, 1).float()
        sum_C, gram_CC = sum_C.to(x_TC.device) + x_TC.sum(0), gram_CC.to(x_TC.device) + x_TC.T @ x_TC
    mean_C = sum_C / count
    axes_CC = torch.linalg.eigh(gram_CC / count - torch.outer(mean_C, mean_C)).eigenvectors
    return mean_C.float(), axes_CC[:, -min(COORDINATES, width) :].float()


def _head(store: TokenStore, images_I: torch.Tensor, labels_IN: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Ridge to a token's cluster, as 1 among zeros."""
    gram_FF = cross_FK = torch.zeros((), dtype=torch.float64)
    batches = tail_batches(store, "train", images_I, device, batch_size=32)
    for (x_BNC, _), labels_BN in zip(batches, labels_IN.split(32), strict=True):
        x_TF = with_constant(x_BNC).flatten(0, 1)
        y_TK = torch.nn.functional.one_hot(labels_BN.flatten().long(), CLUSTERS).float()
        gram_FF, cross_FK = gram_FF + (x_TF.T @ x_TF).double(), cross_FK + (x_TF.T @ y_TK).double()
    penalty_F = (HEAD_RIDGE * gram_FF.diagonal()[:-1].mean()).repeat(len(gram_FF))
    penalty_F[-1] = 0
    return torch.linalg.solve(gram_FF + penalty_F.diag(), cross_FK).float()


def with_constant(x_BNC: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(x_BNC.float(), (0, 1), value=1.0)
