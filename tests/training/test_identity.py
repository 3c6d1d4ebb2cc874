"""What a trial's name depends on: every setting, one by one."""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from toconv import config
from toconv.setting_names import changes_a_number
from toconv.settings import Settings
from toconv.training import identity
from toconv.training.identity import trial_id

FINGERPRINT = "0123456789abcdef"
BASE = config.compose(
    {
        "training.epochs": 3,
        "training.micro_batch": 8,
        "hardware.compile": False,
        "hardware.device": "cpu",
        "hardware.mixed_precision": False,
    }
)
WHERE_NONE = {
    "model.compressor.match": "flops",  # a value of each setting that BASE leaves open
    "data.train_pictures": 5,
    "data.val_pictures": 5,
    "data.test_pictures": 5,
    "data.root": Path("pictures"),
    "data.imagenet_root": Path("imagenet"),
    "model.compressor.grid_sizes": (4, 6),
    "loss.log_ratio": -1.5,
    "encoder.revision": "0" * 40,
    "hardware.threads": 3,
    "store.local_cache_gb": 2.5,
    "store.url": "file:///elsewhere",
    "experiment.name": "another",
    "experiment.tracking_uri": "sqlite:///other.db",
    "resume": Path("latest.pt"),
}


def leaves(group: Any, above: str = "") -> dict[str, tuple[Any, Any]]:
    """{dotted name: (type, value)} of all settings of a group."""
    found = {}
    for name, field in type(group).model_fields.items():
        value = getattr(group, name)
        nested = hasattr(value, "model_fields")
        found |= leaves(value, f"{above}{name}.") if nested else {above + name: (field.annotation, value)}
    return found


LEAVES = leaves(BASE)


def another(key: str) -> Any:
    """A value that the setting does not have."""
    of, value = LEAVES[key]
    if get_origin(of) is Literal:
        return next(choice for choice in get_args(of) if choice != value)
    match value:
        case None:
            return WHERE_NONE[key]
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value / 2 + 0.001
        case tuple():
            return (value[0] / 2 + 0.001, *value[1:])
        case Path():
            return value / "other"
    return f"{value}_other"


def changed(key: str) -> Settings:
    """BASE with another value of one setting."""

    def replaced(group: Any, name: str, *below: str) -> Any:
        return group.model_copy(update={name: replaced(getattr(group, name), *below) if below else another(key)})

    return replaced(BASE, *key.split("."))


def test_the_settings_tried_here_are_all():
    assert {key.partition(".")[0] for key in LEAVES} == set(Settings.model_fields)
    assert {key for key, (_, value) in LEAVES.items() if value is None} == set(WHERE_NONE)
    assert all(changed(key) != BASE for key in LEAVES)


@pytest.mark.parametrize(
    "key", [k for k in LEAVES if k.startswith(("model.", "loss.", "training.")) and changes_a_number(k)]
)
def test_each_setting_of_a_training_names_another_trial(key):
    assert trial_id(changed(key), FINGERPRINT) != trial_id(BASE, FINGERPRINT)


PRECISION = ("hardware.mixed_precision", "hardware.tf32")


@pytest.mark.parametrize("key", [k for k in LEAVES if not changes_a_number(k) and k not in PRECISION])
def test_a_setting_that_changes_no_number_names_the_same_trial(key):
    assert trial_id(changed(key), FINGERPRINT) == trial_id(BASE, FINGERPRINT)


@pytest.mark.parametrize("key", [k for k in LEAVES if k.startswith(("encoder.", "data.", "store."))])
def test_of_encoder_and_pictures_the_fingerprint_of_their_tokens_counts(key):
    assert trial_id(changed(key), FINGERPRINT) == trial_id(BASE, FINGERPRINT) != trial_id(BASE, "fedcba9876543210")


def test_the_precision_counts_by_what_it_comes_to(monkeypatch):
    def named(**hardware):
        return trial_id(BASE.model_copy(update={"hardware": BASE.hardware.model_copy(update=hardware)}), FINGERPRINT)

    fp32, bf16, tf32 = named(mixed_precision=False), named(mixed_precision=True), named(tf32=True)
    assert len({fp32, bf16, tf32}) == 3
    for fast, expected in ((True, bf16), (False, fp32)):
        monkeypatch.setattr("toconv.hardware.bf16_is_fast", lambda _, fast=fast: fast)
        assert named(mixed_precision="auto") == expected


def test_another_training_code_names_another_trial(monkeypatch):
    before = trial_id(BASE, FINGERPRINT)
    monkeypatch.setattr(identity, "training_code", lambda: "0" * 12)
    assert trial_id(BASE, FINGERPRINT) != before


def test_a_name_is_twelve_hex_digits():
    name = trial_id(BASE, FINGERPRINT)
    assert len(name) == 12 and set(name) <= set("0123456789abcdef")
