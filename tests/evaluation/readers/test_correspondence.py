"""Which place of one crop is which of another, against a loop over places."""

import math

import pytest
import torch

from toconv.evaluation.readers.correspondence import Correspondence, there
from toconv.tokens.crop_boxes import Box, crop_box
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore

G = 6


def looked_up(a, b, row, column):
    """The same place, by hand."""
    y = a.top + (row + 0.5) / G * a.height
    x = (column + 0.5) / G
    x = a.left + (1 - x if a.flip else x) * a.width
    down, across = (y - b.top) / b.height, (x - b.left) / b.width
    across = 1 - across if b.flip else across
    if not (0 <= down < 1 and 0 <= across < 1):
        return None
    return down * G - 0.5, across * G - 0.5


@pytest.mark.parametrize("seed", range(6))
def test_places_of_one_crop_lie_where_a_loop_finds_them_in_the_other(seed):
    a, b = (crop_box("a picture", number, seed, (90, 130)) for number in range(2))
    rows, columns = there(a, b, G)
    for i in range(G * G):
        expected = looked_up(a, b, i // G, i % G)
        if expected is None:
            assert math.isnan(rows[i]) and math.isnan(columns[i])
        else:
            assert (rows[i].item(), columns[i].item()) == pytest.approx(expected)


def test_a_crop_lies_in_itself_and_its_mirror_image_has_its_columns_the_other_way_round():
    box = Box(3, 5, 40, 60, flip=False)
    rows, columns = there(box, box, G)
    torch.testing.assert_close(rows, torch.arange(G).repeat_interleave(G).double())
    torch.testing.assert_close(columns, torch.arange(G).repeat(G).double())
    mirrored = there(box, box._replace(flip=True), G)[1]
    torch.testing.assert_close(mirrored, (G - 1 - torch.arange(G)).repeat(G).double())


def test_tokens_that_say_their_place_in_the_picture_find_it_and_tokens_that_say_nothing_do_not(settings):
    store = TokenStore(prepare_store(settings))
    reader = Correspondence(store, "train", torch.device("cpu"))
    assert torch.equal(reader.among_S % store.crops, torch.tensor([0, 1] * (len(reader.among_S) // 2)))
    boxes, restored = store.boxes("train"), []
    for box in (boxes[i] for i in reader.among_S.tolist()):
        down = box.top + (torch.arange(G).repeat_interleave(G) + 0.5) / G * box.height
        across = (torch.arange(G).repeat(G) + 0.5) / G
        across = box.left + (1 - across if box.flip else across) * box.width
        angle = torch.stack([down, across], 1) / 200  # of a picture of fewer pixels: no two places alike
        restored.append(torch.cat([angle.cos(), angle.sin()], 1))
    found = reader.of(torch.stack(restored))["correspondence_restored"]
    assert found[0::2, 1].sum() > 0 and not found[1::2].any()
    assert found[:, 0].sum() > 0.9 * found[:, 1].sum()
    nothing = reader.of(torch.ones(len(restored), G * G, 4))["correspondence_restored"]
    assert nothing[:, 0].sum() < 0.3 * nothing[:, 1].sum()


def test_a_store_of_one_crop_a_picture_has_none(settings):
    one = settings.model_copy(update={"data": settings.data.model_copy(update={"crops": 1})})
    store = TokenStore(prepare_store(one))
    assert store.boxes("train") is None
    with pytest.raises(LookupError):
        Correspondence(store, "train", torch.device("cpu"))
