"""Settings by their dotted names: the type of one, its value from a text, and whether a metric depends on it."""

from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from toconv.settings import USED_PICTURES, Group, Settings

CHANGE_NO_NUMBER = (  # settings, and groups of them, that no metric depends on
    "hardware.",
    "experiment.",
    "resume",
    *("data.tokens_dir", "data.workers", *USED_PICTURES),
    *("store.local_cache_gb", "store.url"),
    *("training.micro_batch", "training.log_every", "training.checkpoint_every", "training.keep_last_n"),
)


def changes_a_number(key: str) -> bool:
    """Whether a metric of some training depends on the setting of this dotted name."""
    return not key.startswith(CHANGE_NO_NUMBER)


def parse_setting(key: str, text: str) -> Any:
    """The value of a setting from its text, as `str` writes it; the type is the one that its group declares."""
    adapter = TypeAdapter(_declared(key))
    return adapter.validate_json(text) if text.startswith("[") else adapter.validate_strings(text)


def takes_text(key: str) -> bool:
    """Whether a setting is a text or a path that anybody may choose, so that `2024` is one too."""
    try:
        return bool({str, Path} & _alternatives(_declared(key)))
    except KeyError:
        return False


def as_declared(key: str, value: Any) -> Any:
    """The value as the setting of this dotted name holds it (1.0 is 1 where it is a whole number); `value` itself where
    it is none of its values, or there is no such setting."""
    try:
        return TypeAdapter(_declared(key)).validate_python(value)
    except (KeyError, ValidationError):
        return value


def number_type(key: str) -> type | None:
    """int or float where the setting of this dotted name is a number, else None. Raises KeyError where there is none of
    that name."""
    kinds = _alternatives(_declared(key))
    return next((kind for kind in (int, float) if kind in kinds), None)


def _declared(key: str) -> Any:
    """The type of a setting. Raises KeyError where there is none of that name."""
    group: Any = Settings
    for part in key.split("."):
        if not (isinstance(group, type) and issubclass(group, Group)):
            raise KeyError(key)
        group = group.model_fields[part].annotation
    return group


def _alternatives(annotation: Any) -> set[Any]:
    """The types that a value may have."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return {kind for part in get_args(annotation) for kind in _alternatives(part)}
    return {annotation}
