"""Sets of tokens against the papers' algorithms, token by token."""

import pytest
import torch
import torch.nn.functional as F

from tests.models.images import Images, fvu
from toconv.models import token_sets
from toconv.models.token_sets import SetCode, keep_diverse, keep_salient, merge_similar

COUNTS = [1, 4, 25, 121]


@pytest.fixture(scope="module")
def x():
    return Images(images=3).x


def merged_by_hand(x, m, steps):
    """ToMe of one image with lists: {token: the places that it is of}."""
    groups, each = [[place] for place in range(len(x))], -(-(len(x) - m) // steps)
    while len(groups) > m:
        means = torch.stack([x[group].mean(0) for group in groups])
        ours, others = groups[::2], groups[1::2]
        similarity = F.normalize(means[::2], dim=1) @ F.normalize(means[1::2], dim=1).T
        r = min(each, len(groups) // 2, len(groups) - m)
        going = similarity.max(1).values.argsort(descending=True, stable=True)[:r].tolist()
        others = [
            sum((ours[i] for i in going if similarity[i].argmax() == j), list(other)) for j, other in enumerate(others)
        ]
        groups = [group for i, group in enumerate(ours) if i not in going] + others
    return groups


@pytest.mark.parametrize("m", COUNTS)
@pytest.mark.parametrize("steps", [1, 4])
def test_tome_merges_as_its_algorithm_does_and_a_token_is_the_mean_of_its_places(x, m, steps, monkeypatch):
    monkeypatch.setattr(token_sets, "STEPS", steps)
    z, y = merge_similar(x, m)
    assert z.shape == (3, m, 4)
    for image, tokens, restored in zip(x, z, y, strict=True):
        groups = merged_by_hand(image, m, steps)
        assert sorted(place for group in groups for place in group) == list(range(144))
        for token, group in zip(tokens, groups, strict=True):
            torch.testing.assert_close(token, image[group].mean(0), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(restored[group], token.expand(len(group), -1))


@pytest.mark.parametrize("m", COUNTS)
def test_divprune_keeps_each_time_the_token_that_is_farthest_from_all_kept(x, m):
    z, y = keep_diverse(x, m)
    for image, tokens, restored in zip(x, z, y, strict=True):
        distance = 1 - F.cosine_similarity(image[:, None], image[None], dim=-1)
        kept = [int((distance + 9 * torch.eye(144)).min(1).values.argmax())]
        while len(kept) < m:
            nearest = distance[:, kept].min(1).values
            kept.append(max(set(range(144)) - set(kept), key=nearest.tolist().__getitem__))
        torch.testing.assert_close(tokens, image[kept])
        torch.testing.assert_close(restored[kept], image[kept], rtol=1e-3, atol=1e-3)
        far = next(place for place in range(144) if place not in kept)
        weights = torch.tensor([1 / ((far // 12 - p // 12) ** 2 + (far % 12 - p % 12) ** 2) for p in kept])
        torch.testing.assert_close(restored[far], (weights / weights.sum()) @ image[kept], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("m", COUNTS)
def test_visionzip_keeps_the_most_salient_and_merges_the_others_into_some_that_are_evenly_spaced(x, m):
    saliency = torch.rand(3, 144, generator=torch.Generator().manual_seed(0))
    z, y = keep_salient(x, saliency, m)
    merged = max(1, m - round(m * 54 / 64))
    for image, scores, tokens, restored in zip(x, saliency, z, y, strict=True):
        kept = sorted(range(144), key=lambda place: -scores[place])[: m - merged]
        rest = [place for place in range(144) if place not in kept]
        targets = rest[:: len(rest) // merged][:merged]
        similarity = F.cosine_similarity(image[:, None], image[targets][None], dim=-1)
        groups = [[p for p in rest if (targets.index(p) if p in targets else similarity[p].argmax()) == i]
                  for i in range(merged)]  # fmt: skip
        expected = torch.stack([*image[kept], *(image[group].mean(0) for group in groups)])
        torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(restored[kept], image[kept])
        for token, group in zip(tokens[len(kept) :], groups, strict=True):
            torch.testing.assert_close(restored[group], token.expand(len(group), -1))


def test_an_image_is_compressed_alike_in_any_batch(x):
    saliency = torch.rand(3, 144, generator=torch.Generator().manual_seed(0))
    for code in (merge_similar, keep_diverse, lambda x, m: keep_salient(x, saliency[: len(x)], m)):
        torch.testing.assert_close(code(x, 9)[0][:2], code(x[:2], 9)[0])


def test_more_tokens_of_tome_lose_less(x):
    lost = [fvu(x, merge_similar(x, m)[1]) for m in COUNTS]
    assert lost == sorted(lost, reverse=True)


def test_a_set_restores_the_tokens_that_it_gave_last_and_no_others(x):
    code = SetCode(lambda x: merge_similar(x, 9))
    first = code.compress(x)
    torch.testing.assert_close(code.decompress(first), merge_similar(x, 9)[1])
    code.compress(x[:2])
    with pytest.raises(ValueError, match="compress them first"):
        code.decompress(first)
