"""`${…}` in values of a request: it stands for another setting, and for nothing of the machine that reads it."""

import re
from collections.abc import Collection, Mapping

MOST_CHARACTERS = 10_000  # of a value with what it stands for
RESOLVER = re.compile(r"\$\{\s*(([A-Za-z_][\w.-]*)\s*:[^${}]*)")  # of OmegaConf's: a function and what it is given
STANDS_FOR = re.compile(r"\$\{([^${}]*)\}")


def is_interpolated(text: str) -> bool:
    return "${" in text


def broken_rules(texts: Mapping[str, str], given: Collection[str]) -> dict[str, str]:
    """{setting: rule} of those `given` in which `${…}` does not name a setting, or stands for more text than one may
    have. `texts` are all settings' values."""
    found = {key: _rule(texts, texts[key]) for key in given if key in texts}
    lengths: dict[str, int] = {}
    for key in found:
        if not found[key] and STANDS_FOR.search(texts[key]) and _length(key, texts, lengths) > MOST_CHARACTERS:
            found[key] = f"stands for itself, or for more than {MOST_CHARACTERS} characters"
    return {key: rule for key, rule in found.items() if rule}


def _rule(known: Collection[str], text: str) -> str:
    if found := RESOLVER.search(text):
        whole, name = found[1][:200], found[2]
        return f"${{…}} stands for a setting; {whole} is none: {name} would read this machine or run code"
    if is_interpolated(STANDS_FOR.sub("", text)):
        return "${…} must name a setting and end with a brace"
    unknown = [name for name in STANDS_FOR.findall(text) if name not in known]
    return f"${{…}} stands for a setting; {unknown[0][:200]} is none" if unknown else ""


def _length(key: str, texts: Mapping[str, str], lengths: dict[str, int]) -> int:
    """Characters of a value with what it stands for; more than MOST_CHARACTERS where it stands for itself."""
    if key not in lengths:
        lengths[key] = MOST_CHARACTERS + 1  # while it is looked at
        text = texts[key]
        named = (name for name in STANDS_FOR.findall(text) if name in texts)
        lengths[key] = len(text) + sum(_length(name, texts, lengths) for name in named)
    return lengths[key]
