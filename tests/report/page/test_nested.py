"""The table of trainings that serve several grid sizes, from records whose answers are known."""

import re

from tests.records import baselines, record
from tests.report.test_report import content
from toconv.report.page.fronts import the_front
from toconv.report.page.nested import TITLE, nested
from toconv.settings import SEED


def of_seed(seed, at_four, own):
    values = {"distortion": own, "perception": 0.1, "k4_distortion": at_four}
    return record(f"n{seed}", 36, own, params={SEED: seed}, values=values)


RECORDS = [
    of_seed(0, 0.30, 0.20),
    of_seed(1, 0.34, 0.22),
    record("four", 16, 0.31),
    *baselines(16, linear=0.33, pool=0.5),
    *baselines(36, linear=0.23),
]


def rows(text):
    """[tokens, compressor, distortion] of each row."""
    lines = re.findall(r"<tr>(<td.*?)</tr>", text)
    return [[re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?</td>", line)][:3] for line in lines]


def test_a_nested_training_stands_at_each_k_beside_the_single_one_and_the_linear_code():
    found = rows(nested(content(RECORDS)))
    assert [(tokens, who.partition(":")[0]) for tokens, who, _ in found] == [
        ("16", "nested"),
        ("16", "alone"),
        ("16", "linear"),
        ("36", "nested"),
        ("36", "linear"),
    ]
    means = [distortion.partition(" ")[0] for _, _, distortion in found]
    assert means == ["0.32", "0.31", "0.33", "0.21", "0.23"]
    assert "±" in found[0][2] and "2 seeds" in found[0][1] and "±" not in found[1][2]


def test_a_sweep_without_nested_trainings_has_no_such_table():
    plain = content([r for r in RECORDS if not r.trial_id.startswith("n")])
    assert nested(plain) == "" and TITLE not in the_front(plain) and TITLE in the_front(content(RECORDS))
