"""The smaller pictures' tokens as a compressor's, image by image."""

import pytest
import torch

from toconv.errors import StoreError
from toconv.tokens.batches import Batches
from toconv.tokens.encoding import prepare_store
from toconv.tokens.manifest import SPLITS
from toconv.tokens.smaller_picture import encode_smaller
from toconv.tokens.smaller_store import SmallerPictures, smaller_store
from toconv.tokens.store import TokenStore

CPU = torch.device("cpu")


def test_an_image_is_found_by_its_tokens_in_any_batch_of_any_splits(settings, small_shards):
    store = TokenStore(prepare_store(settings))
    encode_smaller(settings, store, [2])
    smaller = smaller_store(store, 2)
    whole, small = (torch.cat([x for s in SPLITS for x in Batches(of, s, 7, CPU)]) for of in (store, smaller))
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))[:9]
    find = SmallerPictures(store, smaller, CPU)
    torch.testing.assert_close(find(whole[order]), small[order], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(find(whole), small, rtol=1e-4, atol=1e-4)
    with pytest.raises(StoreError, match="has no image of these tokens"):
        find(whole[:2] + 1)
