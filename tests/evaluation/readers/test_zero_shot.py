"""Zero-shot accuracy by the text tower's embeddings of class folders' names."""

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from timm.data import ImageNetInfo

from toconv import grid
from toconv.evaluation.final import Evaluation
from toconv.tokens.encoder_models import spoken
from toconv.tokens.encoders import load_tail
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore

CPU = torch.device("cpu")


SOME = 40  # of ImageNet's classes


def answer(embedding_IE, rows, pair):
    return (embedding_IE @ torch.stack([rows[i] for i in pair]).T).argmax(1)


def differing(whole_IE, mean_IE, rows, pair):
    return int((answer(whole_IE, rows, pair) != answer(mean_IE, rows, pair)).sum())


def measured(store, settings, compress):
    with torch.inference_mode():
        return Evaluation(store, settings.encoder, 4, CPU).final(compress, lambda x: x, None, test=False)


@pytest.mark.slow
def test_accuracy_is_that_of_open_clips_text_embeddings_of_the_folders_names_between_mean_and_all(with_text):
    import open_clip

    store = TokenStore(prepare_store(with_text))
    assert "zero_shot_kept" not in measured(store, with_text, lambda x: x), "its pictures have no classes"
    model = open_clip.create_model("toconv_tiny_text", pretrained=with_text.encoder.weights).eval()
    rows = []
    for name in open_clip.IMAGENET_CLASSNAMES[:SOME]:
        texts = open_clip.tokenize([template(name) for template in open_clip.SIMPLE_IMAGENET_TEMPLATES])
        with torch.inference_mode():
            rows.append(F.normalize(F.normalize(model.encode_text(texts), dim=-1).mean(0), dim=0))
    tail, raw_INC = load_tail(with_text.encoder, CPU), torch.cat(list(store.maps("val"))).float()

    @torch.inference_mode()
    def embeddings(change):
        x_INC = change((raw_INC - store.mean_C) / store.std_C) * store.std_C + store.mean_C
        return tail(x_INC, store.class_tokens("val"))

    whole_IE, mean_IE = embeddings(lambda x: x), embeddings(torch.zeros_like)
    pair = max(combinations(range(SOME), 2), key=lambda pair: differing(whole_IE, mean_IE, rows, pair))
    assert differing(whole_IE, mean_IE, rows, pair), "the tokens must count for this to be a test"
    folders, crops = [ImageNetInfo("imagenet-1k").label_names()[i] for i in pair], store.crops

    def answers(change):
        return answer(embeddings(change), rows, pair)

    floor_I, ceiling_I = answers(torch.zeros_like), answers(lambda x: x)
    pictures = {split: store.count(split) // crops for split in ("train", "val", "test")}
    right = [folders[int(answer)] for answer in ceiling_I[::crops]]  # a first crop's answer is its picture's class
    for path in store.derived.glob("reader-bounds-*"):
        path.unlink()  # of the store without classes
    store.classes = {split: [folders[i % 2] for i in range(n)] for split, n in pictures.items()} | {"val": right}
    class_I = torch.tensor([folders.index(name) for name in right]).repeat_interleave(crops)
    low, high = ((answer_I == class_I).float().mean().item() for answer_I in (floor_I, ceiling_I))
    for compress in (lambda x: grid.upsample(grid.pool(x, 2), 6), lambda x: -x, lambda x: x):
        ours = (answers(compress) == class_I).float().mean().item()
        found = measured(store, with_text, compress)["zero_shot_kept"]
        assert found == pytest.approx((ours - low) / (high - low), abs=1e-5)


def test_a_folder_is_spoken_by_imagenets_name_of_its_number_and_any_other_by_its_own():
    assert spoken(["n01440764", "n15075141", "police_van", "tench"]) == ["tench", "toilet paper", "police van", "tench"]
