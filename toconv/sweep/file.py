"""What a sweep file says: its settings, its cells, its space, its budget. Needs no torch and no Ray."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from toconv import config
from toconv.errors import RequestError
from toconv.redaction import redact, secret_mistakes
from toconv.settings import EPOCHS, GRID_SIZE, GRID_SIZES, SEED, Settings
from toconv.sweep.feasible import Survey, combination_mistakes, survey_cells
from toconv.sweep.schema import SECTIONS, SweepFile, readable
from toconv.sweep.space import condition_mistakes, size, start_mistakes, twice_mistakes
from toconv.sweep.yaml_text import read_document

OF_TOKENS = ("data", "encoder", "store")  # groups of settings
OF_TOCONV = ("tokens", "bench")  # folders of outputs/: token stores, and what benchmarks write


@dataclass(frozen=True)
class Cell:
    """One point of the enumerated grid: its own search, its own budget."""

    name: str
    fixed: Mapping[str, Any]


@dataclass(frozen=True)
class Sweep:
    """A sweep as resolved: the file with the command line laid over it."""

    file: SweepFile
    overrides: Mapping[str, Any]  # sweep settings and command line; trials' parameters come on top
    base: Settings  # with the first value of everything enumerated or searched
    question: str = ""  # the comment that the sweep file begins with

    def cells(self) -> list[Cell]:
        return [Cell(_cell_name(fixed), fixed) for fixed in grid_points(self.file.grid)]

    @cached_property
    def surveys(self) -> list[Survey]:
        """Of each cell, in the order of `cells`."""
        return survey_cells(self.overrides, grid_points(self.file.grid), self.file.search)

    def settings(self, params: Mapping[str, Any]) -> Settings:
        """The settings of a trial with these parameters (grid axes included)."""
        return config.compose(self.overrides, params)

    def planned_trials(self) -> int:
        """Trials that the search will run."""
        return sum(self.planned.values())

    @cached_property
    def planned(self) -> dict[str, int]:
        """By cell: `trials` in each, fewer where the space is smaller."""
        return {cell.name: self._planned(cell, survey) for cell, survey in zip(self.cells(), self.surveys, strict=True)}

    def _planned(self, cell: Cell, survey: Survey) -> int:
        most = size(self.file.search, self.known(cell), self.file.trials)
        enumerated = survey.whole and all(d.values() is not None for d in self.file.search.values())
        return min(most, survey.allowed) if enumerated else most

    def known(self, cell: Cell) -> dict[str, Any]:
        """The settings of a cell that are not searched, by dotted names: what conditions may refer to."""
        values = {**config.flat(self.base.model_dump(mode="json")), **cell.fixed}
        return {key: value for key, value in values.items() if key not in self.file.search}

    def searched(self) -> list[str]:
        """Every setting that differs between trials, grid axes first."""
        return [*self.file.grid, *self.file.search]

    def tokens(self, params: Mapping[str, Any]) -> int:
        """k² of a trial with these parameters."""
        return int({**self.given, **params}[GRID_SIZE]) ** 2

    def unsearched(self) -> dict[str, Any]:
        """What the searched settings with a condition are in trials in which it does not hold."""
        return {key: self.given[key] for key, d in self.file.search.items() if d.when}

    @cached_property
    def given(self) -> dict[str, Any]:
        """Every setting as the file and the command line have it, nothing enumerated or searched."""
        tree, *_ = config.resolved(self.overrides)
        assert tree is not None  # load_sweep has resolved it
        return config.flat(tree)

    def epochs(self, params: Mapping[str, Any]) -> int:
        """Of a trial with these parameters."""
        return int(params.get(EPOCHS, self.base.training.epochs))

    def epochs_of_cells(self) -> dict[str, int]:
        """{cell: a trial's epochs}, where the file enumerates them; a trial that draws them has them itself."""
        return {cell.name: self.epochs(cell.fixed) for cell in self.cells() if EPOCHS in cell.fixed}

    def grid_sizes(self) -> list[int]:
        """Every k that a trial of this sweep can have or, where it is nested, is measured at besides, rising."""
        space = self.file.search.get(GRID_SIZE)
        found = self.file.grid.get(GRID_SIZE, [] if space and not space.when else [self.given[GRID_SIZE]])
        searched = space.values() or range(int(space.range[0]), int(space.range[1]) + 1) if space else ()
        return sorted({int(k) for k in itertools.chain(found, searched, *self._nested())})

    def _nested(self) -> list[Sequence[int]]:
        """Every list of k that a nested trial of this sweep can have."""
        space, given = self.file.search.get(GRID_SIZES), self.base.model.compressor.grid_sizes
        found = space.choices if space else self.file.grid.get(GRID_SIZES, [given])
        return [sizes for sizes in found or [] if sizes]


def load_sweep(path: Path, texts: list[str]) -> Sweep:
    """Read a sweep file and the command line's `key=value`s. The sweep's own keys and settings of conf/ are overridden
    alike; a setting given on the command line that the file enumerates or searches is fixed to that value. Raises
    RequestError that names every mistake."""
    document, given = read_document(path), config.parse_overrides(texts, words={"name"})
    content = dict(document.content)
    if told := secret_mistakes(config.flat(content) | given):
        raise RequestError(*told)
    own = {key: value for key, value in given.items() if key.split(".")[0] in SweepFile.model_fields}
    line = {key: value for key, value in given.items() if key not in own}
    mistakes = _apply(content, own)
    for section in ("grid", "search"):
        if isinstance(content.get(section), dict):
            content[section] = {key: v for key, v in content[section].items() if key not in line}
    starts = content.get("start_with")
    if isinstance(starts, list) and all(isinstance(start, dict) for start in starts):
        left = [{key: v for key, v in start.items() if key not in line} for start in starts]
        content["start_with"] = [start for start, before in zip(left, starts, strict=True) if start or not before]
    try:
        file = SweepFile.model_validate(content)
    except ValidationError as error:
        mistakes += readable(error, document.typed)
        _, more = config.check(_section(content, "settings"), line, _first_values(content), typed=document.typed)
        raise RequestError(*dict.fromkeys([*mistakes, *more])) from None
    overrides = {**file.settings, **line}
    base, more = _base(file, overrides, document.typed)
    mistakes += more + start_mistakes(file.search, file.start_with) + [*_of_single_trainings(overrides)]
    if file.name in OF_TOCONV:
        mistakes.append(f"name={file.name}: is a folder of toconv's own below outputs/; choose another name=")
    if base is not None:
        mistakes += condition_mistakes(file.search, config.flat(base.model_dump(mode="json")))
    if mistakes or base is None:
        raise RequestError(*dict.fromkeys(mistakes))
    return Sweep(file, overrides, base, redact(leading_comment(document.text)))


def _of_single_trainings(overrides: Mapping[str, Any]) -> Iterator[str]:
    """Settings that a sweep does not take."""
    if overrides.get("resume"):
        yield f"resume={overrides['resume']}: is for train.py; a sweep goes on by itself where it stopped"
    if overrides.get("hardware.cuda_device"):
        yield (
            f"hardware.cuda_device={overrides['hardware.cuda_device']}: is for train.py; Ray gives each trial a GPU, "
            "which it sees as its only one; CUDA_VISIBLE_DEVICES says which GPUs a sweep has"
        )


def read_yaml(path: Path) -> dict[str, Any]:
    """The content of a sweep file as it stands there, unchecked. Raises RequestError where it is no YAML."""
    return read_document(path).content


def leading_comment(text: str) -> str:
    """The lines that begin with # before anything else, as one paragraph."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.lstrip("# ").rstrip() for line in lines).strip()


def _apply(content: dict[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Lay the command line's sweep keys over the file's content, in place."""
    mistakes = []
    for key, value in own.items():
        root, _, rest = key.partition(".")
        if not rest:
            content[root] = value
        elif root in SECTIONS:
            section = content.get(root)
            content[root] = {**(section if isinstance(section, dict) else {}), rest: value}
        else:
            mistakes.append(f"{key}: {root} has no parts; write {root}=value")
    return mistakes


def _base(
    file: SweepFile, overrides: Mapping[str, Any], typed: Mapping[tuple[str, str], str]
) -> tuple[Settings | None, list[str]]:
    """The settings of the first point that a training accepts, and every mistake of the space: each value must be one
    that its setting takes, and stand in some combination that the rules between settings allow."""
    first = _first_point(file)
    _, mistakes = config.check(overrides, first, between=False, typed=typed)
    mistakes += _value_mistakes(file, overrides, set(mistakes), typed)
    surveys = survey_cells(overrides, grid_points(file.grid), file.search)
    mistakes += config.without(config.resolved({**overrides, **first})[2], combination_mistakes(surveys, file.search))
    mistakes += _axes_of_tokens([*file.grid, *file.search])
    mistakes += twice_mistakes("grid", file.grid)
    mistakes += twice_mistakes("search", {key: d.choices for key, d in file.search.items() if d.choices is not None})
    if mistakes:
        return None, mistakes
    base, refused = config.check(overrides, first)
    return (config.check(overrides, surveys[0].first or {})[0] if refused else base), _finalist_mistakes(file, base)


def _axes_of_tokens(axes: list[str]) -> list[str]:
    """All trials of a sweep share its tokens."""
    return [
        f"{key}: decides the tokens, which all trials of a sweep share; give it one value, and each value a sweep"
        for key in axes
        if key.partition(".")[0] in OF_TOKENS
    ]


def _value_mistakes(
    file: SweepFile, overrides: Mapping[str, Any], known: set[str], typed: Mapping[tuple[str, str], str]
) -> list[str]:
    """Every enumerated or searched value must be one that its setting takes."""
    candidates = [(key, v) for key, values in file.grid.items() for v in values]
    candidates += [(key, v) for key, d in file.search.items() for v in d.extremes()]
    found = []
    for key, value in candidates:
        _, mistakes = config.check(overrides, _first_point(file), {key: value}, between=False, typed=typed)
        found += [m for m in mistakes if m not in known]
    return found


def _finalist_mistakes(file: SweepFile, base: Settings | None) -> list[str]:
    """Seeds of finalists follow the searched trainings', and are seeds too."""
    if base is None or file.finalists is None:
        return []
    last = base.training.seed + file.finalists.seeds
    _, wrong = config.check({SEED: last}, between=False)
    return [f"finalists.seeds={file.finalists.seeds}: the last of them trains with {m}" for m in wrong]


def _first_point(file: SweepFile) -> dict[str, Any]:
    """The first value of everything enumerated or searched: a sweep need not say them under settings too."""
    return {
        **{key: values[0] for key, values in file.grid.items()},
        **{key: d.extremes()[0] for key, d in file.search.items()},
    }


def grid_points(grid: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Every point of the enumerated grid, the last setting changing fastest."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _cell_name(fixed: Mapping[str, Any]) -> str:
    if not fixed:
        return "all"
    return ",".join(f"{'k' if key == GRID_SIZE else key.rsplit('.', 1)[-1]}={value}" for key, value in fixed.items())


def _section(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A section of a file as far as it is one."""
    found = content.get(name)
    return {key: v for key, v in found.items() if isinstance(key, str)} if isinstance(found, dict) else {}


def _first_values(content: Mapping[str, Any]) -> dict[str, Any]:
    """As `_first_point`, of a file that has mistakes, so that its settings are not told to be wrong without it."""
    choices = {key: d.get("choices") for key, d in _section(content, "search").items() if isinstance(d, dict)}
    axes = {**_section(content, "grid"), **choices}
    return {key: values[0] for key, values in axes.items() if isinstance(values, list) and values}
