from benchmarks.gpu import page
from benchmarks.gpu.launches import HOST_WAITS
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.results import CUT_OFF, DONE, NOT_RUN
from tests.repository import REPOSITORY

PAGE = REPOSITORY / "docs" / "performance_gpu.md"


def run(**rows):
    parts = {part.name: {"state": NOT_RUN, "rows": []} for part in PARTS}
    parts |= {name: {"state": DONE, "rows": found} for name, found in rows.items()}
    return {"started": "2026-01-01 12:00", "tiny": False, "seconds": 300.0, "parts": parts}


def test_the_page_in_docs_names_a_card_or_says_that_none_was_at_hand():
    written = PAGE.read_text()
    assert written == page.text(None) if page.NO_GPU in written else "power limit" in written


def test_goals_are_held_against_the_rows_of_the_run():
    size = {"k": 6, "batch": 256, "precision": "bf16"}
    text = page.text(
        run(
            card=[{"what": "card", "value": "NVIDIA H100"}, {"what": "power limit", "value": "700 W"}],
            step=[size | {"share": 0.4}, size | {"batch": 512, "share": 0.9}],
            graph=[size | {"share": 0.72}, size | {"error": "OutOfMemoryError: no"}],
            launches=[{"what": HOST_WAITS, "value": 2}],
        )
    )
    assert "NVIDIA H100, power limit 700 W" in text
    lines = [line for line in text.splitlines() if "≥" in line or "≤" in line]
    assert "| 0.72 | ≥ 0.7 | met |" in lines[0] and "| 2 | ≤ 1 | **not met** |" in lines[1]
    assert all(f"| {NOT_RUN} |" in line for line in lines[2:])
    assert "| 6 | 256 | bf16 |  | OutOfMemoryError: no |" in text


def test_a_part_says_why_it_was_not_done():
    content = run(reading=[{"how": "store written"}])
    content["parts"]["reading"] |= {"state": CUT_OFF, "error": "cut off after 80 s"}
    text = page.text(content)
    assert "Cut off: cut off after 80 s." in text and "| store written |" in text
