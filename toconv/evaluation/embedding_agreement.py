"""Embedding agreement: what compressed tokens are worth to the encoder itself, which needs no other model.

Compressed tokens go, beside the image's class token and registers where the encoder has some, through its own remaining
blocks, final norm, pooling and projection; `embedding_agreement` is the cosine of the pooled embedding with the one
that all g² tokens give. With CLIP's text tower, `zero_shot_agreement` is the share of images that both embeddings put
into the same of ImageNet's classes."""

# B images, N = g*g tokens, P prefix tokens, M = k*k compressed tokens, C channels, E of the embedding, K classes

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from toconv.models.protocols import TokenMap
from toconv.settings import EncoderSettings
from toconv.tokens import last_layer
from toconv.tokens.batches import Batches
from toconv.tokens.derived import derived
from toconv.tokens.encoder_models import load_classifier
from toconv.tokens.encoders import load_tail

COMPUTED_BY = ("evaluation/embedding_agreement.py", *last_layer.COMPUTED_BY)


class EmbeddingAgreement:
    """Of compressors, on one split of held-out images."""

    def __init__(self, images: Batches, encoder: EncoderSettings) -> None:
        self._images, self._tail = images, load_tail(encoder, images.device)
        store = images.store
        self._mean_C, self._std_C = (values.to(images.device) for values in (store.mean_C, store.std_C))
        self._prefix_IPC = store.class_tokens(images.split)

        def classes() -> dict[str, torch.Tensor | None]:
            return {"values": load_classifier(encoder, images.device)}

        self._whole_IE = last_layer.embeddings(images, encoder)
        self._classes_EK = derived(store, "classes", COMPUTED_BY, classes)["values"]

    def of(self, compress: TokenMap, prefix_IPC: torch.Tensor | None = None) -> dict[str, float]:
        """`embedding_agreement`, the mean cosine over all images, and `zero_shot_agreement` where the encoder has a
        text tower. `prefix_IPC`: prefix tokens beside the compressed ones, where they are not the images'."""
        return self.of_embeddings(self.embeddings(compress, prefix_IPC))

    def embeddings(self, compress: TokenMap, prefix_IPC: torch.Tensor | None = None) -> torch.Tensor:
        """(I, E) made of compressed tokens; `prefix_IPC` as `of` has it."""
        return torch.cat(list(self._embeddings(compress, prefix_IPC)))

    def of_embeddings(self, ours_IE: torch.Tensor) -> dict[str, float]:
        """As `of`, of what `embeddings` gave."""
        whole_IE = self._whole_IE.to(ours_IE.device)
        found = {"embedding_agreement": self.by_image(ours_IE).mean().item()}
        if self._classes_EK is not None:
            classes_EK = self._classes_EK.to(ours_IE.device)
            with torch.autocast(ours_IE.device.type, enabled=False):
                ours_I, whole_I = ((e_IE @ classes_EK).argmax(-1) for e_IE in (ours_IE, whole_IE))
            found["zero_shot_agreement"] = (ours_I == whole_I).float().mean().item()
        return found

    def by_image(self, ours_IE: torch.Tensor) -> torch.Tensor:
        """(I,) cosine with the embedding that all tokens give."""
        return F.cosine_similarity(ours_IE, self._whole_IE.to(ours_IE.device), dim=-1)

    def _embeddings(self, compress: TokenMap, prefix_IPC: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        prefix_IPC, start = self._prefix_IPC if prefix_IPC is None else prefix_IPC, 0
        for x_BNC in self._images:
            z_BMC = compress(x_BNC).float()
            prefix_BPC = prefix_IPC[start : start + len(x_BNC)].to(x_BNC.device)
            start += len(x_BNC)
            with torch.no_grad(), torch.autocast(x_BNC.device.type, enabled=False):
                embedding_BE = self._tail(z_BMC * self._std_C + self._mean_C, prefix_BPC)
            yield embedding_BE
