"""Zero-shot classification: embeddings against those of class folders' names by the encoder's own text tower."""

# I images that are read, E channels of the embedding, K classes

import torch

from toconv.code_version import within
from toconv.settings import EncoderSettings
from toconv.tokens.derived import derived
from toconv.tokens.encoder_models import load_classifier, spoken
from toconv.tokens.store import TokenStore

COMPUTED_BY = (*within("evaluation/readers", "zero_shot"), *within("tokens", "encoder_models"))


class ZeroShot:
    """Of a store whose pictures lie in class folders."""

    def __init__(self, store: TokenStore, encoder: EncoderSettings, names: list[str], device: torch.device) -> None:
        """`names`: the classes' folders, in the order of their numbers. Raises LookupError where the encoder has no
        text tower of CLIP's vocabulary."""

        def classes() -> dict[str, torch.Tensor | None]:
            return {"values": load_classifier(encoder, device, spoken(names))}

        found = derived(store, "own-classes", COMPUTED_BY, classes)["values"]
        if found is None:
            raise LookupError("no text tower")
        self._classes_EK = found

    def of(self, embedding_IE: torch.Tensor, class_I: torch.Tensor) -> torch.Tensor:
        """(I, 2): hit and 1, zeros for an image of a class without a number, -1."""
        hit_I = (embedding_IE.cpu().float() @ self._classes_EK).argmax(1) == class_I
        return torch.stack([hit_I, class_I >= 0], 1).float()
