"""The model card: what it says is what the config says, and what was not measured is said to be so."""

import re

import pytest
from huggingface_hub import ModelCard

from tests.compressors import compressor, small_encoder
from toconv.export.model_card import card

OWN = {"distortion": 0.31, "perception": 0.02, "embedding_agreement": 0.85}
BASELINES = {
    "pool": {
        "validation": {"distortion": 0.4, "embedding_agreement": 0.7},
        "test": {"distortion": 0.41, "embedding_agreement": 0.71},
    }
}
ABOUT = {
    "sweep": "grid",
    "trial": "abc",
    "name": "k=3/1",
    "state": "complete",
    "seed": 0,
    "epochs": [8, 8],
    "loss": {"loss.lambda_gp": 10.0, "loss.log_ratio": None},
    "cost": {"compressor_flops": 2e6, "compressor_parameters": 1e6},
    "data": {"kind": "sample", "crops": 16, "pictures": {"train": 18, "val": 5, "test": 4}},
    "reproduce": {
        "settings": ["data=sample", "training.betas=[0.5,0.9]"],
        "commit": "c0ffee",
        "python": "3.11.7",
        "versions": {"torch": "2.14.1"},
        "code": "0123",
        "mixed_precision": True,
    },
}


def card_of(results, **changes):
    made = compressor(3, small_encoder(), results=results, **{**ABOUT, **changes})
    return str(made.generate_model_card())


def table(text, title):
    """{row: {column: cell}} below a title."""
    lines = text.split(f"**{title}**\n\n")[1].split("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def test_with_finalists_both_splits_have_means_and_intervals_beside_the_baselines():
    finalists = {
        "seeds": 3,
        "validation": {"distortion": [0.312, 0.004], "embedding_agreement": [0.84, 0.01]},
        "test": {"distortion": [0.333, 0.005], "embedding_agreement": [0.8, 0.02]},
    }
    text = card_of({"validation": OWN, "test": {}, "finalists": finalists, "baselines": BASELINES})
    validation, test = table(text, "Validation pictures"), table(text, "Test pictures")
    assert validation["**this compressor**"] == {
        "distortion": "0.31",
        "perception": "0.02",
        "embedding_agreement": "0.85",
    }
    assert validation["its settings, 3 fresh seed(s)"]["distortion"] == "0.312 ± 0.004"
    assert test == {
        "its settings, 3 fresh seed(s)": {"distortion": "0.333 ± 0.005", "embedding_agreement": "0.8 ± 0.02"},
        "pool": {"distortion": "0.41", "embedding_agreement": "0.71"},
    }
    assert "95 % confidence interval (Student's t) over 3 trainings" in text and "One training" not in text


def test_without_finalists_it_says_one_seed_and_no_test_pictures():
    text = card_of({"validation": OWN, "test": {}, "finalists": None, "baselines": BASELINES})
    assert "One training, one seed: no interval, and it was not measured on the test pictures." in text
    assert "Test pictures" not in text and "±" not in text
    assert table(text, "Validation pictures")["pool"] == {
        "distortion": "0.4",
        "perception": "",
        "embedding_agreement": "0.7",
    }


def test_data_limits_and_how_to_reproduce_are_those_of_the_config():
    text = card_of({"validation": OWN, "test": {}, "finalists": None, "baselines": {}})
    for part in (
        "18 for training, 5 for validation, 4 for the test; 16 fixed crops of each",
        "Trained on 18 pictures",
        "It is not CLIP",
        "No baseline was measured",
        "bf16",
        "commit c0ffee",
        "torch 2.14.1",
        "`loss.lambda_gp=10`",
        "python train.py data=sample 'training.betas=[0.5,0.9]'",
        "`" + "f" * 16 + "`",
        "-3 (10 of 12)",
    ):
        assert part in text
    assert "log_ratio" not in text
    other = card_of(None, data={"kind": "folder", "crops": 1, "pictures": None})
    assert "None are recorded" in other and "how many is no longer known; the centre crop of each" in other


def test_the_card_is_one_for_the_hub_and_its_example_holds():
    made = compressor(3, small_encoder())
    data = ModelCard(str(made.generate_model_card())).data
    assert (data.library_name, data.license) == ("toconv", "mit") and "token-compression" in data.tags
    call = re.search(r"compressor\.check_encoder\(.*?\)", str(made.generate_model_card()))[0]
    eval(call, {"compressor": made})


@pytest.mark.parametrize("init", ["pool", "pca", "linear"])
def test_a_compressor_that_no_sweep_made_has_a_card_too(init):
    text = str(compressor(3, small_encoder(), init).generate_model_card())
    assert "36 → 9 vision tokens" in text and "## Reproduce" not in text and "## Data" not in text


def test_what_it_was_given_as_its_loss_is_marked():
    results = {"validation": OWN, "test": {}, "finalists": None, "baselines": BASELINES}
    plain = card_of(results)
    text = card_of(results, loss={"loss.agreement_weight": 10.0})
    assert table(text, "Validation pictures")["**this compressor**"]["embedding_agreement"] == "0.85†"
    assert table(text, "Validation pictures")["pool"]["embedding_agreement"] == "0.7"
    assert "†" in text.split("0.85†")[1] and "†" not in plain


HOSTILE = "x` | </td><script>alert(1)</script> [a](javascript:b) ![c](http://d) \n\n```\n# e"


def test_what_a_card_quotes_is_no_markup_of_its_own():
    from markdown_it import MarkdownIt

    encoder = {**small_encoder(), **dict.fromkeys(("name", "architecture", "weights"), HOSTILE)}
    about = {**ABOUT, "sweep": HOSTILE, "trial": HOSTILE, "name": HOSTILE, "loss": {HOSTILE: HOSTILE}}
    about["reproduce"] = {
        **ABOUT["reproduce"],
        "settings": [f"data.root={HOSTILE}"],
        "commit": HOSTILE,
        "code": HOSTILE,
    }
    results = {"validation": OWN, "test": {}, "finalists": None, "baselines": {HOSTILE: BASELINES["pool"]}}
    text = card(compressor(3, small_encoder(), results=results, **about).config | {"encoder": encoder})
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text.split("---", 2)[2])
    assert "<script" not in html and 'href="javascript' not in html and "<img" not in html and "<h1>e" not in html
    plain = (
        MarkdownIt("commonmark").enable("table").render(card_of(results | {"baselines": BASELINES}).split("---", 2)[2])
    )
    assert {html.count(tag) - plain.count(tag) for tag in ("<table", "<tr", "<td", "<h1", "<h2")} == {0}
