"""All that is measured of a compressor, put together in one place for trials and baselines."""

from collections.abc import Mapping

import torch

from toconv.evaluation.distortion import evaluate, ridge_distortion
from toconv.evaluation.embedding_agreement import EmbeddingAgreement
from toconv.evaluation.hard_pictures import hard_images
from toconv.evaluation.metrics import HARD, HELD_OUT, VALIDATION
from toconv.evaluation.perception import PerceptionReference
from toconv.evaluation.readers.panel import Readers
from toconv.evaluation.readers.reading import Reading
from toconv.models.protocols import TokenMap
from toconv.settings import EncoderSettings
from toconv.tokens.batches import Batches
from toconv.tokens.store import TokenStore


class Evaluation:
    """Of compressors of one token store. References are made once, when they are first needed."""

    def __init__(self, store: TokenStore, encoder: EncoderSettings, batch_size: int, device: torch.device) -> None:
        """`batch_size`: images at a time; changes no number but by rounding."""
        self.store, self.encoder = store, encoder
        self.train = Batches(store, "train", batch_size, device)
        self.held_out = {split.name: Batches(store, split.name, batch_size, device) for split in HELD_OUT}
        self._references: dict[str, PerceptionReference] = {}
        self._agreements: dict[str, EmbeddingAgreement] = {}
        self._readers: Readers | None = None

    def take(self, images: int) -> None:
        """So many at a time from now on."""
        for batches in (self.train, *self.held_out.values()):
            batches.at_once = images

    def one_pass(self, compress: TokenMap, decompress: TokenMap, split: str) -> dict[str, float]:
        """What can be measured after every epoch."""
        images = self.held_out[split]
        if split not in self._references:
            self._references[split] = PerceptionReference.from_batches(images)
        return evaluate(compress, decompress, images, self._references[split])

    def final(
        self,
        compress: TokenMap,
        decompress: TokenMap,
        k: int | None,
        test: bool,
        known: Mapping[str, float] | None = None,
        classes: Mapping[str, torch.Tensor] | None = None,
        read: bool = True,
    ) -> dict[str, float]:
        """Every metric on the validation images and, with `test`, on the test images too. `k`: None where `compress`
        gives no grid, which the common decoder needs. `known`: what `one_pass` gave on the validation images, where
        that was taken already. `classes`: (I, P, C) prefix tokens of each split, where they are not the store's.
        `read`: by the readers too."""
        splits = HELD_OUT if test else (VALIDATION,)
        found: dict[str, float] = {}
        embeddings = {
            split.name: self._agreement(split.name).embeddings(compress, classes[split.name] if classes else None)
            for split in splits
        }
        readings = self._of_readers(compress, decompress, embeddings, k) if read else {}
        for split in splits:
            values = known if known and split is VALIDATION else self.one_pass(compress, decompress, split.name)
            ours_IE = embeddings[split.name]
            whole = {**values, **self._agreement(split.name).of_embeddings(ours_IE)}
            if read:
                whole |= self._read(readings[split.name], split.name, k, ours_IE)
            found |= {split.prefix + name: value for name, value in whole.items()}
        return found if k is None else {**found, **self._ridges(compress, k, test)}

    def _ridges(self, compress: TokenMap, k: int, test: bool) -> dict[str, float]:
        splits = HELD_OUT if test else (VALIDATION,)
        held_out = [self.held_out[split.name] for split in splits]
        values = ridge_distortion(compress, self.train, held_out, self.store.grid_size, k)
        return {f"{split.prefix}distortion_ridge": value for split, value in zip(splits, values, strict=True)}

    def _of_readers(
        self, compress: TokenMap, decompress: TokenMap, embeddings: Mapping[str, torch.Tensor], k: int | None
    ) -> dict[str, dict[str, Reading]]:
        if self._readers is None:
            self._readers = Readers(self.store, self.encoder, self.train.device)
        of_read = {split: ours_IE.cpu()[self._readers.images(split)] for split, ours_IE in embeddings.items()}
        return self._readers.of(compress, decompress, of_read, k is not None)

    def _read(
        self, readings: Mapping[str, Reading], split: str, k: int | None, ours_IE: torch.Tensor
    ) -> dict[str, float]:
        """Where the readers stand between floor and ceiling, on all images and on the hard half."""
        assert self._readers is not None  # `_of_readers`
        images_I, agreement = self._readers.images(split), self._agreement(split)
        found = self._readers.between(readings, split, torch.ones(len(images_I), dtype=torch.bool))
        hard_I = hard_images(self.held_out[split], agreement, k) if k else None
        if hard_I is None:
            return found
        hard = self._readers.between(readings, split, hard_I[images_I])
        hard["embedding_agreement"] = agreement.by_image(ours_IE)[hard_I.to(ours_IE.device)].mean().item()
        return found | {name + HARD: value for name, value in hard.items()}

    def _agreement(self, split: str) -> EmbeddingAgreement:
        if split not in self._agreements:
            self._agreements[split] = EmbeddingAgreement(self.held_out[split], self.encoder)
        return self._agreements[split]
