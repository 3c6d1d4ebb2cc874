"""One training for several k, at each of them: beside what was trained for that k alone and the linear code."""

from collections.abc import Iterator, Mapping

from toconv.analysis.records import baselines_at
from toconv.analysis.seeds import SeedGroup, best_at_each
from toconv.evaluation.metrics import HELD_OUT, Place, by_size, names_in, of_size
from toconv.report.content import Content
from toconv.report.front_data import DISTORTION
from toconv.report.page.html import row, table

BASELINE = "linear"
NOTE = (
    "One training serves every number of tokens: one is drawn in each step, and each is measured at the end. Its own "
    "row, and what is recommended, count it at one of them alone. Beside it stand, at the same number of tokens, the "
    "best that was trained for it alone, by validation distortion, and the linear code."
)
TITLE = "One training for all grid sizes"

Line = tuple[int, str, Mapping[str, object]]  # tokens, of whom, metrics by name


def nested(content: Content) -> str:
    """ "" where no trial is nested."""
    alone = best_at_each([g for g in content.seed_groups if not _sizes(g)], DISTORTION.name, DISTORTION)
    singles = {tokens: group for tokens, (group, _) in alone.items()}
    lines = [line for group in content.seed_groups if _sizes(group) for line in _lines(content, group, singles)]
    if not lines:
        return ""
    wanted = [name for split in HELD_OUT for name in names_in(Place.HEADLINE, split)]
    names = [name for name in wanted if any(name in found for _, _, found in lines)]
    heads = ["tokens", "compressor", *names]
    rows = [row([tokens, who, *map(found.get, names)], heads) for tokens, who, found in lines]
    return f"<h3>{TITLE}</h3><p>{NOTE}</p>" + table(heads, rows, TITLE, "prose")


def _sizes(group: SeedGroup) -> dict[int, dict[str, float]]:
    """What a nested group has at other k than its own; {} of any other group."""
    return by_size(group.runs[0].values)


def _lines(content: Content, group: SeedGroup, singles: Mapping[int, SeedGroup]) -> Iterator[Line]:
    others = {k**2: {name: of_size(k, name) for name in found} for k, found in _sizes(group).items()}
    own = {name: name for name in group.runs[0].values}
    for tokens, names in sorted({**others, group.tokens: own}.items()):
        yield tokens, f"nested: {_of(group)}", {name: group.estimate(called) for name, called in names.items()}
        if single := singles.get(tokens):
            yield tokens, f"alone: {_of(single)}", {name: single.estimate(name) for name in single.runs[0].values}
        if baseline := baselines_at(content.baselines, tokens).get(BASELINE):
            yield tokens, BASELINE, baseline.values


def _of(group: SeedGroup) -> str:
    return f"{group.name}, {group.evidence}"
