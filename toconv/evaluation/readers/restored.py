"""Heads that know original tokens alone, applied unchanged to restored ones (as NeCo, arXiv 2408.11054, does)."""

# B images, N = g*g tokens, C channels, K clusters, S images whose saliency is looked at, h w of a map

from __future__ import annotations

import torch

from toconv.code_version import within
from toconv.evaluation.readers.clusters import CLUSTERS
from toconv.evaluation.readers.reading import confusion
from toconv.evaluation.readers.references import crops_together, images_read, tail_batches, with_constant
from toconv.settings import EncoderSettings
from toconv.tokens.derived import derived
from toconv.tokens.encoders import load_tail
from toconv.tokens.saliency import load_saliency
from toconv.tokens.store import TokenStore

COMPUTED_BY = (
    *within("evaluation/readers", "references", "restored"),
    *within("tokens", "batches", "encoder_models", "encoders", "saliency", "stored"),
)
MOST_MAPS = 4  # images of a split, the first crop of evenly spaced pictures: a map costs as much as a whole encoding


def segmentation(restored_BNC: torch.Tensor, head_FK: torch.Tensor, labels_BN: torch.Tensor) -> torch.Tensor:
    """(B, 3K) sums for `mean_iou`, of the clusters that the head reads."""
    return confusion((with_constant(restored_BNC) @ head_FK).argmax(-1), labels_BN, CLUSTERS)


class Saliency:
    """Maps from restored tokens against those from all tokens, through the encoder's remaining blocks and the saliency
    decoder that its file holds."""

    def __init__(self, store: TokenStore, encoder: EncoderSettings, split: str, device: torch.device) -> None:
        """Raises LookupError where there is no such decoder."""
        decoder = load_saliency(encoder, device)
        if decoder is None:
            raise LookupError
        self._decoder, self._tail = decoder, load_tail(encoder, device)
        self._mean_C, self._std_C = store.mean_C.to(device), store.std_C.to(device)
        read_I, crops = images_read(store, split), crops_together(store, split)
        pictures = len(read_I) // crops
        kept = min(MOST_MAPS, pictures)
        self.among_S = torch.arange(kept) * pictures // kept * crops  # of the images that are read
        self._prefix_SPC = store.class_tokens(split)[read_I[self.among_S]].to(device)

        def whole() -> dict[str, torch.Tensor]:
            batches = tail_batches(store, split, read_I[self.among_S], device)
            return {"maps": torch.cat([self._maps(x_BNC, prefix_BPC).half().cpu() for x_BNC, prefix_BPC in batches])}

        self._whole_Shw = derived(store, f"saliency-{split}", COMPUTED_BY, whole)["maps"]

    def of(self, restored_SNC: torch.Tensor) -> dict[str, torch.Tensor]:
        """(S, 2) value and 1 of each image: the correlation of its two maps, 0 where one is constant; and the
        intersection over union of what in each lies above the mean of the map of all tokens."""
        ours_Shw = torch.cat(
            [self._maps(*pair) for pair in zip(restored_SNC.split(16), self._prefix_SPC.split(16), strict=True)]
        )
        ours_SX, whole_SX = ours_Shw.flatten(1), self._whole_Shw.to(ours_Shw.device).float().flatten(1)
        level_S1 = whole_SX.mean(1, keepdim=True)
        a_SX, b_SX = ours_SX - ours_SX.mean(1, keepdim=True), whole_SX - level_S1
        correlation_S = (a_SX * b_SX).sum(1) / (a_SX.norm(dim=1) * b_SX.norm(dim=1)).clamp_min(1e-8)
        ours_SX, whole_SX = ours_SX > level_S1, whole_SX > level_S1
        union_S = (ours_SX | whole_SX).sum(1).clamp_min(1)
        found = {"saliency_restored": correlation_S, "saliency_iou": (ours_SX & whole_SX).sum(1) / union_S}
        return {name: torch.stack([value_S, torch.ones_like(value_S)], 1) for name, value_S in found.items()}

    def _maps(self, x_BNC: torch.Tensor, prefix_BPC: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), torch.autocast(x_BNC.device.type, enabled=False):
            maps_Bhw: torch.Tensor = self._decoder(
                self._tail.last_layer(x_BNC.float() * self._std_C + self._mean_C, prefix_BPC)[1]
            )
        return maps_Bhw
