"""Defaults, then a sweep's settings, then the command line, merged once into typed settings.

The only module that knows Hydra. `compose` collects every mistake before it refuses, so that one run names them all:
unknown keys are found here, types and ranges by pydantic. What a shell hands over is read in Hydra's grammar, and
literally where that grammar does not take it (`a#b`, `/data/x (1)`); a setting that is text takes no number for it."""

import copy
import difflib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from toconv.encoder_catalogue import READ, completed
from toconv.errors import RequestError
from toconv.interpolation import broken_rules, is_interpolated
from toconv.paths import CONF
from toconv.plain_values import DEEPEST, MOST_VALUES, depth_of, is_plain
from toconv.redaction import secret_mistakes
from toconv.rules import cross_field_mistakes
from toconv.setting_names import takes_text
from toconv.settings import OF_THIS_MACHINE, Settings

LONGEST = 10_000  # characters of a value that are read in Hydra's grammar
SHOWN = 200  # characters of a value in a message
MOST_GUESSES = 20  # unknown keys that others are looked up for
KEY = re.compile(r"[\w$][\w$-]*([./][\w$-]+)*")
BARE = re.compile(r"[A-Za-z_/][\w./-]*", re.ASCII)  # needs no quotes within a list
WORDS_OF_VALUES = {"null", "true", "false", "nan", "inf"}


def groups() -> dict[str, list[str]]:
    """The config groups and the choices of each, as they lie in conf/."""
    return {d.name: sorted(f.stem for f in d.glob("*.yaml")) for d in sorted(CONF.iterdir()) if d.is_dir()}


def parse_overrides(texts: Iterable[str], words: Collection[str] = ()) -> dict[str, Any]:
    """`key=value` texts → {key: value}, in Hydra's grammar and literally where that does not take a value; `words` are
    keys that take text beside the settings that do. The last of a key wins. Raises RequestError that names every text
    that is no plain assignment."""
    values, mistakes = dict[str, Any](), []
    for text in texts:
        key, assigned, written = text.partition("=")
        rule = _no_assignment(key, assigned)
        override = None if rule else _parsed(written)
        is_text = key in words or takes_text(key)
        if not rule and not is_text and override and override.is_sweep_override():
            rule = "one value only; several values belong under grid: or search: of a sweep file"
        if rule:
            mistakes.append(f"{_shortened(text)}: {rule}")
        else:
            values[key] = _value(override, written, is_text)
    if mistakes:
        raise RequestError(*mistakes)
    return values


def _no_assignment(key: str, assigned: str) -> str:
    """The rule that a text breaks which assigns nothing; empty where it does."""
    if key[:1] in {"+", "~"} and KEY.fullmatch(key.lstrip("+~")):
        return "settings are changed, not added or deleted; write key=value"
    if assigned and "@" in key and KEY.fullmatch(key.replace("@", "")):
        return "must read key=value, without @"
    if not assigned or not KEY.fullmatch(key):
        return "must read key=value, e.g. training.epochs=4"
    return ""


def _parsed(written: str) -> Override | None:
    """A value in Hydra's grammar; None where that does not take it, or would take long over it."""
    if len(written) > LONGEST or depth_of(written) > DEEPEST:
        return None
    try:
        found = OverridesParser.create().parse_override(f"key={written}")
        return found if found.is_sweep_override() or is_plain(found.value()) else None
    except (HydraException, RecursionError, ValueError, ArithmeticError):
        return None


def _value(override: Override | None, written: str, is_text: bool) -> Any:
    if override is None or override.is_sweep_override():
        return written
    value = override.value()
    stripped = isinstance(value, str) and value == written.strip()  # of blanks that may be a name's
    return written if is_text and (stripped or not (value is None or isinstance(value, str))) else value


def override_text(key: str, value: Any) -> str:
    """`key=value` in the grammar of the command line: `parse_overrides` reads this value from it."""
    if isinstance(value, str):
        if parse_overrides([f"{key}={value}"]) == {key: value}:
            return f"{key}={value}"
        return f"{key}={QuotedString(value, Quote.single).with_quotes()}"
    return f"{key}={value_text(value)}"


def value_text(value: Any) -> str:
    """A value in the grammar of the command line, which says null, true and [a,b]."""
    if isinstance(value, str):
        bare = BARE.fullmatch(value) and value.lower() not in WORDS_OF_VALUES
        return value if bare else QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{value_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(value_text, value))}]"
    return str(value) if isinstance(value, float) else json.dumps(value)


def shown(value: Any) -> str:
    """A value in a message: as one types it, and not all of it where it is long."""
    if not is_plain(value):
        return f"a {type(value).__name__} of this size" if isinstance(value, int | list | dict) else str(value)
    return _shortened(value if isinstance(value, str) else value_text(value))


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"


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


def of_checkpoint(saved: Any) -> Settings:
    """The settings that a checkpoint holds, addresses and folders, which it does not hold, as in conf/. Raises
    ValidationError where they are none."""
    if not isinstance(saved, Mapping):
        return Settings.model_validate(saved)
    here = compose({}).model_dump(mode="json", include=OF_THIS_MACHINE)
    both = {key: {**saved[key], **here[key]} for key in here if isinstance(saved.get(key), Mapping)}
    return Settings.model_validate({**saved, **here, **both})


def check(
    *layers: Mapping[str, Any], between: bool = True, typed: Mapping[tuple[str, str], str] = {}
) -> tuple[Settings | None, list[str]]:
    """As `compose`, but returns the mistakes instead of raising; settings are None where there are some. Without
    `between`, rules between settings are left out. `typed` says how a file writes a value, {(setting, its value as
    `shown`): text}."""
    merged = {str(key): value for layer in layers for key, value in layer.items()}
    if told := secret_mistakes(merged):
        return None, told
    raw, mistakes, meant = resolved(merged)
    if raw is None or (told := secret_mistakes(flat(raw))):
        return None, mistakes + told
    mistakes += without(meant, cross_field_mistakes(raw)) if between else []
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        wrong = [found for found in error.errors(include_url=False) if not _unread(found)]
        return None, mistakes + readable(wrong, merged, typed)
    return (None if mistakes else settings), mistakes


def _unread(error: ErrorDetails) -> bool:
    """Whether it is about a setting that the encoder's library was to say: why it did not is told already."""
    return (
        error["input"] is None
        and error["loc"][0] == "encoder"
        and error["loc"][1] in {*READ, "architecture", "weights"}
    )


def without(meant: Collection[str], mistakes: Iterable[str]) -> list[str]:
    """The mistakes that are no consequence of an unknown key, which meant these settings."""
    return [mistake for mistake in mistakes if re.split("[:=]", mistake)[0] not in meant]


def resolved(merged: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[str], set[str]]:
    """conf/ with {dotted name or group: value} laid over it, as a tree of plain values that no range was held against,
    None where it does not resolve; the mistakes: unknown keys, choices and encoders; and the settings that those keys
    meant."""
    options, mistakes = groups(), []
    chosen = {key: value for key, value in merged.items() if key in options}
    for key in [key for key in chosen if str(chosen[key]) not in options[key]]:
        mistakes.append(f"{key}={shown(chosen.pop(key))}: must be one of {', '.join(options[key])}")
    raw = copy.deepcopy(_composed(frozenset(chosen.items())))
    given = {key: value for key, value in merged.items() if key not in options}
    unknown = _assign(raw, given)
    unresolved = _unresolved(raw, given)
    if unresolved:
        return None, [*mistakes, *unknown, *unresolved], set()
    raw = _resolved(raw, given)
    raw["encoder"], unread = completed(raw["encoder"])
    return raw, [*mistakes, *unknown, *unread], {names[0] for names in unknown.values() if names}


def overrides_of(settings: Settings) -> dict[str, Any]:
    """The choice of each group, and every setting that then differs from conf/: `compose` of it gives `settings`."""
    wanted, chosen = flat(settings.model_dump(mode="json")), {}
    for group, choices in groups().items():
        chosen[group] = min(
            choices, key=lambda choice: sum(key.startswith(f"{group}.") for key in _differing(wanted, {group: choice}))
        )
    return {**chosen, **_differing(wanted, chosen)}


def _differing(wanted: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    found = flat(_composed(frozenset(chosen.items())))
    return {key: value for key, value in wanted.items() if found.get(key, value) != value}  # a file may leave one out


@cache
def _composed(chosen: frozenset[tuple[str, Any]]) -> dict[str, Any]:
    """The defaults of these groups, for every caller the same object: a sweep asks for them once a trial and more."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra_compose("config", overrides=[f"{group}={choice}" for group, choice in sorted(chosen)])
    return cast(dict[str, Any], OmegaConf.to_container(config))


def _assign(raw: dict[str, Any], given: Mapping[str, Any]) -> dict[str, list[str]]:
    """Lay settings over the defaults, in place. Returns {mistake: the settings that its key may have meant}."""
    leaves, mistakes = list(flat(raw)), dict[str, list[str]]()
    for key, value in given.items():
        below = [leaf for leaf in flat(raw) if leaf.startswith(f"{key}.")] if key not in leaves else []
        if below:
            mistakes[f"{key}: is a group of settings; set one of {', '.join(below)}"] = below
        elif key not in leaves:
            near = _near(key, leaves) if len(mistakes) < MOST_GUESSES else []
            guess = f"; did you mean {' or '.join(near)}?" if near else ""
            mistakes[f"{_shortened(key)}: no such setting{guess}"] = near
        elif not is_plain(value):
            mistakes[
                f"{key}={shown(value)}: no setting holds more than {MOST_VALUES} values, or lists {DEEPEST} deep"
            ] = []
        else:
            *path, name = key.split(".")
            group = raw
            for part in path:
                group = group[part]
            group[name] = value
    return mistakes


def _near(key: str, leaves: Collection[str]) -> list[str]:
    """Settings that a key may have meant."""
    if len(key) > SHOWN:
        return []
    near = difflib.get_close_matches(key, leaves, n=3, cutoff=0.5)
    end = key.rsplit(".", 1)[-1]
    return near + [leaf for leaf in leaves if leaf.rsplit(".", 1)[-1] == end and leaf not in near]


def _unresolved(raw: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What `${…}` in values given does not stand for."""
    if not any(is_interpolated(value_text(value)) for value in given.values() if is_plain(value)):
        return []
    texts = {key: value_text(value) if is_plain(value) else "" for key, value in flat(raw).items()}
    return [f"{key}={shown(given[key])}: {rule}" for key, rule in broken_rules(texts, given).items()]


def _resolved(raw: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """With what `${…}` stands for."""
    if not any(is_interpolated(value_text(value)) for value in given.values() if is_plain(value)):
        return raw
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(raw), resolve=True))


def readable(errors: Iterable[ErrorDetails], given: Collection[str], typed: Mapping[tuple[str, str], str]) -> list[str]:
    """pydantic's errors as `key=value: rule`, each key (one of those `given`, where one is) once, as it was `typed`."""
    rules: dict[str, list[str]] = {}
    for error in errors:
        path = [str(part) for part in error["loc"] if part != "[key]"]
        whole = ".".join(path)
        key = next((".".join(path[:n]) for n in range(len(path), 0, -1) if ".".join(path[:n]) in given), whole)
        value, rule = shown(error["input"]), error["msg"].removeprefix("Value error, ")
        told = typed.get((key, value), value)
        if error["type"] in {"string_type", "path_type"} and not isinstance(error["input"], list | Mapping):
            rule = f'must be text, which it is in quotes: "{told}"'
            rule += "" if told == value else f"; without them it is read as {value}"
        if error["type"] == "missing" and isinstance(error["input"], list | tuple):
            rule = f"must have more than {len(error['input'])} values"
        bare = error["loc"][-1:] == ("[key]",) or isinstance(error["input"], Mapping)
        where = key if bare else f"{key}={told}"
        rules.setdefault(where or "sweep file", []).append(rule[:1].lower() + rule[1:])
    return [f"{where}: {', or '.join(dict.fromkeys(found))}" for where, found in rules.items()]
