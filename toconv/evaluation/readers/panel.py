"""All readers of one token store: what each reads of a compressor, between the mean token and all g² tokens."""

# I images that are read, N = g*g tokens, M = k*k compressed tokens, C channels, E channels of the embedding

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F

from toconv.code_version import within
from toconv.evaluation.metrics import READ_BY
from toconv.evaluation.readers.clusters import CLUSTERS
from toconv.evaluation.readers.correspondence import Correspondence
from toconv.evaluation.readers.local_ridge import LocalRidge
from toconv.evaluation.readers.reading import Reading, between, confusion, explained, mean_iou, share
from toconv.evaluation.readers.references import Target, crops_together, references, tail_batches
from toconv.evaluation.readers.restored import Saliency, segmentation
from toconv.evaluation.readers.ridge import KernelRidge
from toconv.evaluation.readers.zero_shot import ZeroShot
from toconv.models.protocols import TokenMap
from toconv.settings import EncoderSettings
from toconv.tokens.codes import FOLDS
from toconv.tokens.derived import derived
from toconv.tokens.encoders import load_tail
from toconv.tokens.store import TokenStore

BATCH = 32  # images at a time; changes no number but by rounding
NEIGHBOURS = 10
VALUES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {  # of each reader: the measure that its sums make
    "embedding_read": explained,
    "probe_read": share,
    "zero_shot_kept": share,
    "last_layer_read": explained,
    "segmentation_read": mean_iou,
    "segmentation_restored": mean_iou,
    "saliency_restored": share,
    "saliency_iou": share,
    "correspondence_restored": share,
    "neighbours_kept": share,
}
Sums = dict[str, torch.Tensor]  # (I, X) of each reader on one split
Embeddings = Mapping[str, torch.Tensor]  # (I, E) of each split
Head = Saliency | Correspondence


@dataclass(frozen=True)
class _Fitted:
    """What was fitted on the training images of one compressor."""

    to_embedding: KernelRidge
    to_places: LocalRidge
    to_classes: KernelRidge | None  # where the store knows its pictures' classes


class Readers:
    """Of compressors of one store, on held-out `splits`. References, floor and ceiling are made once a store."""

    def __init__(self, store: TokenStore, encoder: EncoderSettings, device: torch.device) -> None:
        self._store, self._encoder, self._device = store, encoder, device
        self._known = references(store, encoder, device)
        self._made_heads: dict[str, dict[str, Head]] = {}
        self._bounds: dict[str, dict[str, Sums]] = {}

    def images(self, split: str) -> torch.Tensor:
        """Those of the split that are read."""
        return self._known.targets[split].images_I

    def of(
        self, compress: TokenMap, decompress: TokenMap, embeddings: Embeddings, has_grid: bool = True
    ) -> dict[str, dict[str, Reading]]:
        """Of each split of `embeddings`, what the encoder makes of the compressed tokens of `images(split)`: all
        readings, by name. What is read by place needs compressed tokens that stand in a grid."""
        with torch.no_grad():
            found = self._sums(compress, decompress, embeddings, has_grid)
        return {
            split: {name: Reading(sums_IX, VALUES[name]) for name, sums_IX in sums.items()}
            for split, sums in found.items()
        }

    def between(self, readings: Mapping[str, Reading], split: str, chosen_I: torch.Tensor) -> dict[str, float]:
        """Where each stands on the chosen images between floor and ceiling, if these can be told apart."""
        floor, ceiling = (self._bound(name, split) for name in ("floor", "ceiling"))
        places = {
            name: between(found, Reading(floor[name], found.value), Reading(ceiling[name], found.value), chosen_I)
            for name, found in readings.items()
        }
        return {name: place for name, place in places.items() if place is not None}

    def _bound(self, name: str, split: str) -> Sums:
        if split not in self._bounds:
            of_tokens = within("tokens", "batches", "encoder_models", "encoders", "saliency", "stored")
            version = (*READ_BY, "grid.py", *of_tokens)
            self._bounds[split] = derived(
                self._store, f"reader-bounds-{split}", version, lambda: self._make_bounds(split)
            )
        return self._bounds[split][name]

    def _make_bounds(self, split: str) -> dict[str, Sums]:
        """Of the mean token at every place, and of all tokens."""
        bounds: dict[str, Sums] = {}
        targets = self._known.targets[split]
        for name, compress, embedding_IE in (
            ("floor", torch.zeros_like, self._embeddings_of_the_mean(split)),
            ("ceiling", _same, targets.embedding_IE),
        ):
            sums = self._sums(compress, _same, {split: embedding_IE})[split]
            bounds[name] = {reader: sums_IX.cpu() for reader, sums_IX in sums.items()}
        return bounds

    def _embeddings_of_the_mean(self, split: str) -> torch.Tensor:
        tail, mean_C = load_tail(self._encoder, self._device), self._store.mean_C.to(self._device)
        batches = tail_batches(self._store, split, self.images(split), self._device)
        with torch.no_grad(), torch.autocast(self._device.type, enabled=False):
            return torch.cat([tail(torch.zeros_like(x_BNC) + mean_C, prefix_BPC) for x_BNC, prefix_BPC in batches])

    def _sums(
        self, compress: TokenMap, decompress: TokenMap, embeddings: Embeddings, has_grid: bool = True
    ) -> dict[str, Sums]:
        fitted = None
        if has_grid:
            compressed = [compress(x_BNC).half() for x_BNC in self._batches("train")]
            with torch.autocast(self._device.type, enabled=False):  # which refuses fp16
                fitted = self._fit(torch.cat(compressed))
        return {split: self._read(fitted, compress, decompress, split, ours) for split, ours in embeddings.items()}

    def _fit(self, z_IMC: torch.Tensor) -> _Fitted:
        known, crops = self._known.targets["train"], crops_together(self._store, "train")
        picture_I = torch.arange(len(z_IMC)) // crops
        pictures = int(picture_I[-1]) + 1
        fold_I = picture_I * min(FOLDS, pictures) // pictures
        return _Fitted(
            KernelRidge.fit(z_IMC.flatten(1), known.embedding_IE.to(z_IMC.device), crops),
            LocalRidge.fit(z_IMC, self._place_targets(known), fold_I, self._store.grid_size),
            self._fit_probe(z_IMC, crops),
        )

    def _fit_probe(self, z_IMC: torch.Tensor, crops: int) -> KernelRidge | None:
        """To an image's class, as 1 among zeros."""
        class_I = self._classes("train")
        if class_I is None:
            return None
        one_hot_IK = F.one_hot(class_I, int(class_I.max()) + 1).float()
        return KernelRidge.fit(z_IMC.flatten(1), one_hot_IK.to(z_IMC.device), crops)

    def _classes(self, split: str) -> torch.Tensor | None:
        """(I,) numbers of the classes among those of the training pictures, -1 for others; None where there are none
        known."""
        if not self._store.classes:
            return None
        number = {name: i for i, name in enumerate(self._class_names())}
        class_P = torch.tensor([number.get(name, -1) for name in self._store.classes[split]])
        return class_P[self.images(split) // (self._store.count(split) // len(class_P))]

    def _class_names(self) -> list[str]:
        return sorted(set(self._store.classes["train"]))

    @cached_property
    def _zero_shot(self) -> ZeroShot | None:
        if not self._store.classes:
            return None
        try:
            return ZeroShot(self._store, self._encoder, self._class_names(), self._device)
        except LookupError:
            return None

    def _place_targets(self, known: Target) -> Iterator[torch.Tensor]:
        """(B, N, T + K): coordinates of the last layer, and the cluster as 1 among zeros."""
        for last_BNT, labels_BN in zip(known.last_INT.split(BATCH), known.labels_IN.split(BATCH), strict=True):
            one_hot_BNK = F.one_hot(labels_BN.long(), CLUSTERS)
            yield torch.cat([last_BNT.float(), one_hot_BNK.float()], -1).to(self._device)

    def _read(
        self, fitted: _Fitted | None, compress: TokenMap, decompress: TokenMap, split: str, ours_IE: torch.Tensor
    ) -> Sums:
        known, parts = self._known.targets[split], []
        targets = zip(
            known.last_INT.split(BATCH), known.labels_IN.split(BATCH), known.embedding_IE.split(BATCH), strict=True
        )
        heads, first = self._heads(split), 0
        restored: dict[str, list[torch.Tensor]] = {name: [] for name in heads}
        for x_BNC, (last_BNT, labels_BN, embedding_BE) in zip(self._batches(split), targets, strict=True):
            z_BMC = compress(x_BNC)
            y_BNC = decompress(z_BMC)
            for name, head in heads.items():
                here_S = head.among_S[(head.among_S >= first) & (head.among_S < first + len(y_BNC))] - first
                restored[name].append(y_BNC[here_S.to(y_BNC.device)])
            first += len(y_BNC)
            with torch.autocast(self._device.type, enabled=False):
                of_compressed: Sums = {}
                if fitted:
                    of_compressed |= self._of_embedding(fitted.to_embedding, z_BMC, embedding_BE)
                    if fitted.to_classes:
                        of_compressed |= self._of_classes(fitted.to_classes, z_BMC, split, first - len(y_BNC))
                    of_compressed |= self._of_places(fitted.to_places, z_BMC, last_BNT, labels_BN)
                head_FK = self._known.head_FK.to(y_BNC.device)
                of_restored = segmentation(y_BNC, head_FK, labels_BN.to(y_BNC.device))
            parts.append({**of_compressed, "segmentation_restored": of_restored})
        sums = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
        with torch.autocast(self._device.type, enabled=False):
            for name, head in heads.items():
                sums |= _spread(head.of(torch.cat(restored[name])), head.among_S, first)
        class_I = self._classes(split)
        if self._zero_shot and class_I is not None:
            sums["zero_shot_kept"] = self._zero_shot.of(ours_IE, class_I)
        return sums | {"neighbours_kept": self._neighbours_kept(ours_IE, known.embedding_IE)}

    def _of_embedding(self, ridge: KernelRidge, z_BMC: torch.Tensor, embedding_BE: torch.Tensor) -> Sums:
        embedding_BE = embedding_BE.to(z_BMC.device)
        errors = (embedding_BE - ridge.predict(z_BMC.half().flatten(1)), embedding_BE - ridge.mean_E)
        return {"embedding_read": torch.stack([e.square().sum(1) for e in errors], 1).float()}

    def _of_classes(self, probe: KernelRidge, z_BMC: torch.Tensor, split: str, first: int) -> Sums:
        """Hit and 1, zeros for an image of a class that the training pictures have not."""
        class_I = self._classes(split)
        assert class_I is not None  # as of the training images
        class_B = class_I[first : first + len(z_BMC)].to(z_BMC.device)
        hit_B = probe.predict(z_BMC.half().flatten(1)).argmax(1) == class_B
        return {"probe_read": torch.stack([hit_B, class_B >= 0], 1).float()}

    def _of_places(
        self, ridge: LocalRidge, z_BMC: torch.Tensor, last_BNT: torch.Tensor, labels_BN: torch.Tensor
    ) -> Sums:
        last_BNT, labels_BN = last_BNT.to(z_BMC.device).float(), labels_BN.to(z_BMC.device)
        found_BNT, scores_BNK = ridge.predict(z_BMC.half()).split([last_BNT.shape[-1], CLUSTERS], -1)
        squares = [e_BNT.square().sum((1, 2)) for e_BNT in (found_BNT - last_BNT, last_BNT)]
        return {
            "last_layer_read": torch.stack(squares, 1),
            "segmentation_read": confusion(scores_BNK.argmax(-1), labels_BN, CLUSTERS),
        }

    def _neighbours_kept(self, ours_IE: torch.Tensor, whole_IE: torch.Tensor) -> torch.Tensor:
        """(I, 2): the share of an image's nearest training images by the encoder's embedding that are the same when its
        own embedding is made of compressed tokens (KNOR, arXiv 2509.11986); and 1."""
        gallery_JE = F.normalize(self._known.targets["train"].embedding_IE, dim=-1)
        count = min(NEIGHBOURS, len(gallery_JE))
        near = [
            (F.normalize(e_IE.cpu().float(), dim=-1) @ gallery_JE.T).topk(count).indices for e_IE in (ours_IE, whole_IE)
        ]
        kept_I = (near[0][:, :, None] == near[1][:, None]).any(2).float().mean(1)
        return torch.stack([kept_I, torch.ones_like(kept_I)], 1)

    def _heads(self, split: str) -> dict[str, Head]:
        """What looks at restored tokens of a few images of the split, as far as it can be had of this store."""
        if split not in self._made_heads:
            self._made_heads[split] = {}
            for name, make in (
                ("saliency", lambda: Saliency(self._store, self._encoder, split, self._device)),
                ("correspondence", lambda: Correspondence(self._store, split, self._device)),
            ):
                with suppress(LookupError), torch.autocast(self._device.type, enabled=False):
                    self._made_heads[split][name] = make()
        return self._made_heads[split]

    def _batches(self, split: str) -> Iterator[torch.Tensor]:
        return (x_BNC for x_BNC, _ in tail_batches(self._store, split, self.images(split), self._device, BATCH))


def _same(x_BNC: torch.Tensor) -> torch.Tensor:
    return x_BNC


def _spread(found: Mapping[str, torch.Tensor], among_S: torch.Tensor, images: int) -> Sums:
    """(I, 2) of each, zeros for images that were not looked at."""
    sums = {name: torch.zeros(images, 2) for name in found}
    for name, found_S2 in found.items():
        sums[name][among_S] = found_S2.cpu()
    return sums
