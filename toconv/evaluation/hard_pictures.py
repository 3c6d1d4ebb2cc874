"""The held-out pictures that need their tokens: the half on which the smaller picture does worst (VTC-Bench, arXiv
2510.07143)."""

# I images of a split

import torch

from toconv.code_version import within
from toconv.evaluation.embedding_agreement import EmbeddingAgreement
from toconv.evaluation.readers.reading import hard_half
from toconv.evaluation.readers.references import crops_together
from toconv.tokens.batches import Batches
from toconv.tokens.derived import derived
from toconv.tokens.smaller_store import SmallerPictures, smaller_store

SCORED_BY = (
    *within("evaluation", "embedding_agreement", "hard_pictures"),
    *within("tokens", "batches", "encoder_models", "encoders", "known_images", "smaller_store", "stored"),
)


def hard_images(images: Batches, agreement: EmbeddingAgreement, k: int) -> torch.Tensor | None:
    """(I,) whether an image of the split is of that half, at k×k tokens, by the embedding agreement of the smaller
    picture, beside its own class token; None where the store has no smaller pictures."""
    store, smaller = images.store, smaller_store(images.store, k)
    if smaller is None:
        return None

    def score() -> dict[str, torch.Tensor]:
        compress = SmallerPictures(store, smaller, images.device)
        ours_IE = agreement.embeddings(compress, smaller.class_tokens(images.split))
        return {"values": agreement.by_image(ours_IE).cpu()}

    score_I = derived(store, f"hardness-k{k}-{images.split}", SCORED_BY, score)["values"]
    return hard_half(score_I, crops_together(store, images.split))
