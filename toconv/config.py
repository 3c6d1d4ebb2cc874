"""Defaults, then a sweep's settings, then the command line, merged once into typed settings.

The only module that knows Hydra. `compose` collects every mistake before it refuses, so that one run names them all:
Hydra finds the first unknown key, pydantic the types and ranges it lets pass."""

import copy
import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from toconv.errors import RequestError, first_line
from toconv.paths import CONF
from toconv.settings import Settings, cross_field_mistakes


def groups() -> dict[str, list[str]]:
    """The config groups and the choices of each, as they lie in conf/."""
    return {d.name: sorted(f.stem for f in d.glob("*.yaml")) for d in sorted(CONF.iterdir()) if d.is_dir()}


def parse_overrides(texts: Iterable[str]) -> dict[str, Any]:
    """`key=value` texts → {key: value}, in Hydra's grammar. The last of a key wins. Raises RequestError that names
    every text that is no plain assignment."""
    parser, values, mistakes = OverridesParser.create(), {}, []
    for text in texts:
        try:
            override = parser.parse_override(text)
        except HydraException:
            mistakes.append(f"{text}: must read key=value, e.g. training.epochs=4")
            continue
        if override.is_add() or override.is_delete() or override.is_force_add():
            mistakes.append(f"{text}: settings are changed, not added or deleted; write key=value")
        elif override.is_sweep_override():
            mistakes.append(f"{text}: one value only; several values belong under grid: or search: of a sweep file")
        elif override.package is not None:
            mistakes.append(f"{text}: must read key=value, without @")
        else:
            values[override.key_or_group] = override.value()
    if mistakes:
        raise RequestError(*mistakes)
    return values


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of settings by dotted names; lists are values."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def compose(*layers: Mapping[str, Any]) -> Settings:
    """conf/ with the layers of {dotted key or group: value} laid over it, the last winning. Raises RequestError with
    every mistake: unknown keys and choices, wrong types, values out of range."""
    settings, mistakes = check(*layers)
    if mistakes or settings is None:
        raise RequestError(*mistakes)
    return settings


def check(*layers: Mapping[str, Any], between: bool = True) -> tuple[Settings | None, list[str]]:
    """As `compose`, but returns the mistakes instead of raising; settings are None where there are some. Without
    `between`, rules between settings are left out."""
    merged = {key: value for layer in layers for key, value in layer.items()}
    raw, mistakes = resolved(merged)
    if raw is None:
        return None, mistakes
    mistakes += cross_field_mistakes(raw) if between else []
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        return None, mistakes + [_readable(e, merged) for e in error.errors()]
    return (None if mistakes else settings), mistakes


def resolved(merged: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[str]]:
    """conf/ with {dotted name or group: value} laid over it, as a tree of plain values that no range was held against;
    None where it does not resolve. And the mistakes: unknown keys and choices."""
    options, mistakes = groups(), []
    chosen = {key: value for key, value in merged.items() if key in options}
    for key in [key for key in chosen if str(chosen[key]) not in options[key]]:
        mistakes.append(f"{key}={chosen.pop(key)}: must be one of {', '.join(options[key])}")
    config = copy.deepcopy(_composed(frozenset(chosen.items())))
    for key, value in merged.items():
        if key not in options:
            mistakes += _assign(config, key, value)
    try:
        return _plain(config, resolve=True), mistakes
    except OmegaConfBaseException as error:
        return None, [*mistakes, f"settings do not resolve: {first_line(error)}"]


def overrides_of(settings: Settings) -> dict[str, Any]:
    """The choice of each group, and every setting that then differs from conf/: `compose` of it gives `settings`."""
    wanted, chosen = flat(settings.model_dump(mode="json")), {}
    for group, choices in groups().items():
        chosen[group] = min(
            choices, key=lambda choice: sum(key.startswith(f"{group}.") for key in _differing(wanted, {group: choice}))
        )
    return {**chosen, **_differing(wanted, chosen)}


def _differing(wanted: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    found = flat(_plain(_composed(frozenset(chosen.items()))))
    return {key: value for key, value in wanted.items() if found[key] != value}


def _plain(config: DictConfig, resolve: bool = False) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=resolve))


@cache
def _composed(chosen: frozenset[tuple[str, Any]]) -> DictConfig:
    """The defaults of these groups, for every caller the same object: a sweep asks for them once a trial and more."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra_compose("config", overrides=[f"{group}={choice}" for group, choice in sorted(chosen)])


def _assign(config: DictConfig, key: str, value: Any) -> list[str]:
    leaves = list(flat(_plain(config)))
    if key in leaves:
        OmegaConf.update(config, key, value, merge=False)
        return []
    if any(leaf.startswith(f"{key}.") for leaf in leaves):
        return [f"{key}: is a group of settings; set one of {', '.join(x for x in leaves if x.startswith(key + '.'))}"]
    near = difflib.get_close_matches(key, leaves, n=3, cutoff=0.5)
    near += [leaf for leaf in leaves if leaf.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1] and leaf not in near]
    return [f"{key}: no such setting" + (f"; did you mean {' or '.join(near)}?" if near else "")]


def _readable(error: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """One pydantic error as `key=value: rule`."""
    path = [str(part) for part in error["loc"]]
    key = next((".".join(path[:n]) for n in range(len(path), 0, -1) if ".".join(path[:n]) in given), ".".join(path))
    rule = error["msg"][0].lower() + error["msg"][1:]
    return f"{key}={error['input']}: {rule}"
