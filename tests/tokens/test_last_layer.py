"""What the encoder's remaining blocks make of all tokens, against the encoder run by hand."""

import torch

from toconv import config, grid
from toconv.tokens.batches import Batches
from toconv.tokens.encoders import EncoderTail, load_encoder
from toconv.tokens.encoding import prepare_store
from toconv.tokens.last_layer import cells, embeddings
from toconv.tokens.store import TokenStore

CPU = torch.device("cpu")


def test_embeddings_and_cells_are_those_of_each_image_by_itself(tiny):
    settings = config.compose(tiny)
    store = TokenStore(prepare_store(settings))
    images = Batches(store, "train", 5, CPU)
    tail = EncoderTail(load_encoder(settings.encoder, CPU))
    ours, last = embeddings(images, settings.encoder), cells(images, settings.encoder, 4)
    assert last.dtype == torch.float16
    for i in range(images.images):
        raw, class_token = store.read("train", torch.tensor([i])).float(), store.class_tokens("train")[i : i + 1]
        embedding, tokens = tail.last_layer(raw, class_token)
        torch.testing.assert_close(ours[i], embedding[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(last[i].float(), grid.pool(tokens, 4)[0], rtol=2e-3, atol=2e-3)


def test_they_are_computed_once_a_store(tiny):
    settings = config.compose(tiny)
    images = Batches(TokenStore(prepare_store(settings)), "val", 5, CPU)
    for _ in range(2):
        embeddings(images, settings.encoder)
        cells(images, settings.encoder, 3)
    made = sorted(path.name.rsplit("-", 1)[0] for path in images.store.derived.glob("*val*.pt"))
    assert made == ["embeddings-val", "last-layer-val-k3"]
