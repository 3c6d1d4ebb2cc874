"""The keys of a sweep file, and what is wrong with a file that has others."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator

from toconv import config
from toconv.evaluation.metrics import Place, names_in, objectives
from toconv.ranges import SMALLEST_SHARE, Countable, Positive, Real, Text, Whole
from toconv.settings import Group
from toconv.sweep.constraints import bound
from toconv.sweep.notify import Notify
from toconv.sweep.own_measure import OwnMeasure
from toconv.sweep.space import MOST_VALUES, Choices, Distribution, Space, as_settings_take_them
from toconv.sweep.stopping import StopWhen
from toconv.sweep.yaml_text import FOR_ANCHORS
from toconv.tracking_address import database_address

MOST_CELLS, MOST_TRIALS = 10_000, 100_000  # of a sweep, all cells together
SECTIONS = {
    "settings",
    "grid",
    "search",
    "objectives",
    "constraints",
    "early_stopping",
    "resources",
    "budget",
    "cluster",
    "storage",
    "limits",
    "finalists",
    "evaluation",
    "notify",
    "stop_when",
}


class EarlyStopping(Group):
    after_epochs: Positive
    keep: Annotated[Real, Field(gt=0, lt=1)]


class Resources(Group):
    gpu: Annotated[Countable, Field(ge=0, le=1024)] = 1
    cpu: Annotated[Countable, Field(ge=SMALLEST_SHARE, le=10_000)] = 1
    accelerator: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None  # the GPU's kind, by Ray's name


class Budget(Group):
    hours: Annotated[Real, Field(gt=0, le=10**6)] | None = None
    gpu_hours: Annotated[Real, Field(gt=0, le=10**9)] | None = None


class Limits(Group):
    trial_minutes: Annotated[Real, Field(gt=0, le=10**6)] | None = None


class Finalists(Group):
    seeds: Annotated[Whole, Field(ge=1, le=1000)]


def cluster_address(text: str) -> str:
    """`text` as it is. Raises ValueError where no cluster of Ray's has it for an address."""
    host, _, port = text.removeprefix("ray://").rpartition(":")
    is_host = host and "://" not in host and "@" not in host
    if text in {"auto", "local"} or (is_host and port.isdecimal() and 0 < int(port) < 2**16):
        return text
    raise ValueError('must be HOST:PORT of a cluster\'s first machine, ray://HOST:PORT, "auto" or "local"')


class ClusterDoors(Group):
    listen: bool = False  # a Ray cluster of the sweep's own, on all addresses of the machine
    address: Annotated[str, AfterValidator(cluster_address)] | None = None  # of one to join; null: RAY_ADDRESS


class Storage(Group):
    study: Annotated[Text, AfterValidator(database_address)] | None = None  # null: study.db of the sweep's folder


class SweepFile(Group):
    """The keys of a sweep file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$")]  # no option of a command's
    settings: dict[str, Any] = {}
    grid: dict[str, Choices] = {}
    search: Space = {}
    start_with: list[dict[str, Any]] = []
    learn_from: list[Annotated[Text, Field(max_length=4000)]] = []
    evaluation: OwnMeasure | None = None  # before the objectives, which may be of it
    objectives: Annotated[dict[str, Literal["minimize", "maximize"]], Field(min_length=1)]
    constraints: dict[str, Annotated[str, AfterValidator(bound)]] = {}
    trials: Annotated[Whole, Field(ge=1, le=MOST_TRIALS)]
    sampler: Literal["tpe", "gp", "nsga2", "random", "grid"] = "tpe"
    early_stopping: EarlyStopping | None = None
    resources: Resources = Resources()
    budget: Budget = Budget()
    cluster: ClusterDoors = ClusterDoors()
    storage: Storage = Storage()
    limits: Limits = Limits()
    stop_when: StopWhen | None = None  # in each cell
    finalists: Finalists | None = None
    baselines: bool = True
    notify: Notify | None = None

    @field_validator("early_stopping", "finalists", "evaluation", "notify", "stop_when", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        return None if value == "none" else value

    @field_validator("settings", "grid", "search", "start_with", "learn_from", "constraints", mode="before")
    @classmethod
    def _empty(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.model_fields[info.field_name or ""].default if value is None else value

    @field_validator("search")
    @classmethod
    def _typed(cls, value: Space) -> Space:
        return as_settings_take_them(value)

    @field_validator("objectives")
    @classmethod
    def _measured(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        """Of our own metrics, and of the user's where each trial has them."""
        if "evaluation" not in info.data:  # which is wrong itself, and is told of
            return value
        own: OwnMeasure | None = info.data["evaluation"]
        known = [*objectives(), *(own.metric if own and own.on == "trials" else ())]
        wrong = [name for name in value if name not in known]
        if early := [name for name in wrong if own and name in own.metric]:
            raise ValueError(f"{', '.join(early)}: of finalists alone; an objective needs evaluation.on=trials")
        if wrong:
            raise ValueError(f"{config.shown(', '.join(wrong))}: must be one of {', '.join(known)}")
        return value

    @field_validator("constraints")
    @classmethod
    def _of_what_is_measured(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        own: OwnMeasure | None = info.data.get("evaluation")
        known = [*names_in(Place.TABLE), *(own.metric if own and own.on == "trials" else ())]
        if wrong := [name for name in value if name not in known]:
            raise ValueError(f"{config.shown(', '.join(wrong))}: must be one of {', '.join(known)}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> SweepFile:
        both = sorted(set(self.grid) & set(self.search))
        if both:
            raise ValueError(f"{', '.join(both)}: under grid or under search, not both")
        if self.sampler == "grid":
            endless = [key for key, d in self.search.items() if d.values() is None]
            if endless:
                raise ValueError(
                    f"sampler: grid needs choices or a step, and at most {MOST_VALUES} values, for {', '.join(endless)}"
                )
            points = math.prod(len(d.values() or ()) for d in self.search.values())
            if points > MOST_TRIALS:
                raise ValueError(f"sampler: grid has {points} points in each cell; at most {MOST_TRIALS} can be walked")
        cells = math.prod(map(len, self.grid.values()))
        if cells > MOST_CELLS or cells * self.trials > MOST_TRIALS:
            raise ValueError(
                f"trials: {cells} cell(s) with {self.trials} trials each; a sweep has at most {MOST_CELLS} cells and "
                f"{MOST_TRIALS} trials in all of them"
            )
        if self.evaluation and self.evaluation.on == "finalists" and self.finalists is None:
            raise ValueError("evaluation.on=finalists: needs finalists: {seeds: …}; or have it on trials")
        return self

    @property
    def own_objectives(self) -> list[str]:
        """Those that the user's own evaluation measures."""
        return [name for name in self.objectives if self.evaluation and name in self.evaluation.metric]


def readable(error: ValidationError, typed: Mapping[tuple[str, str], str]) -> list[str]:
    """Every mistake. A key that is not known and close to one that is missing is one mistake, not two."""
    errors = error.errors(include_url=False)
    missing = {e["loc"]: str(e["loc"][-1]) for e in errors if e["type"] == "missing"}
    mistakes = []
    for unknown in [e for e in errors if e["type"] == "extra_forbidden"]:
        *path, key = unknown["loc"]
        beside = {loc: name for loc, name in missing.items() if list(loc[:-1]) == path}
        near = difflib.get_close_matches(str(key)[: config.SHOWN], [*beside.values(), *_keys(path)], n=1, cutoff=0.7)
        missing = {loc: name for loc, name in missing.items() if loc not in beside or name not in near}
        where = ".".join(map(str, unknown["loc"]))
        mistakes.append(
            f"{config.shown(where)}: no such key" + (f"; did you mean {near[0]}?" if near else f"; {_known(path)}")
        )
    rest = [e for e in errors if e["type"] != "extra_forbidden" and (e["type"] != "missing" or e["loc"] in missing)]
    return mistakes + config.readable(rest, (), typed)


def _known(path: list[int | str]) -> str:
    known = ", ".join(_keys(path))
    if path:
        return f"{'.'.join(map(str, path))} has {known}"
    return f"a sweep file has {known}, and {FOR_ANCHORS}… for what anchors alone use"


def _keys(path: list[int | str]) -> list[str]:
    """The keys that may stand at a place of a sweep file where not every text may."""
    kinds: dict[str, type[Group]] = {
        "early_stopping": EarlyStopping,
        "resources": Resources,
        "budget": Budget,
        "cluster": ClusterDoors,
        "storage": Storage,
        "limits": Limits,
        "finalists": Finalists,
        "evaluation": OwnMeasure,
        "notify": Notify,
        "stop_when": StopWhen,
        "search": Distribution,
    }
    return list((kinds[str(path[0])] if path else SweepFile).model_fields)
