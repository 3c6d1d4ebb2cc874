"""Tables, figures and choices of the page. Whatever comes from outside is escaped here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from toconv.analysis.seeds import Estimate
from toconv.evaluation.metrics import GIVEN, GIVEN_NOTE


class Html(str):
    """Text that is markup already."""


@dataclass(frozen=True)
class View:
    """One of several figures at one place: what was chosen to see it."""

    keys: Mapping[str, str]
    content: str
    extra: bool = False  # seen by choice alone: without a script and on paper it would say nothing new


def shown(value: Estimate | None) -> str:
    """`0.2571 ± 0.0012`"""
    if value is None:
        return "–"
    half = "" if value.half_width is None else f" ± {value.half_width:.2g}"
    return f"{value.mean:.4g}{half}{GIVEN if value.given else ''}"


def cell(value: object, name: str = "") -> str:
    """A number keeps its value in full in `data-value`."""
    named = f' data-name="{escape(name)}"' if name else ""
    if value is None or value == "":
        return f"<td{named}></td>"
    if isinstance(value, Html):
        return f"<td{named}>{value}</td>"
    if isinstance(value, Estimate):
        half = "" if value.half_width is None else f' data-half="{value.half_width!r}"'
        return f'<td class=n{named} data-value="{value.mean!r}"{half}>{shown(value)}</td>'
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return f'<td class=n{named} data-value="{value!r}">{text}</td>'
    return f"<td{named}>{escape(str(value))}</td>"


def row(values: Sequence[object], heads: Sequence[str], attributes: str = "") -> str:
    return f"<tr{attributes}>{''.join(cell(v, h) for v, h in zip(values, heads, strict=True))}</tr>"


def table(heads: Sequence[str], rows: Iterable[str], caption: str, style: str = "sortable") -> str:
    """In a box that scrolls by itself; with the style `sortable` its headings sort. `rows` come from `row`."""
    rows = list(rows)
    if any(GIVEN in cells for cells in rows):
        caption = f"{caption}. {GIVEN_NOTE}"
    head = "".join(f'<th scope=col data-name="{escape(h)}">{escape(h)}</th>' for h in heads)
    return (
        f'<div class=scroll tabindex=0 role=region aria-label="{escape(caption)}"><table class="{style}">'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "</div>"
    )


def details(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def figure(drawing: str, caption: str, link: Html) -> str:
    """`link` leads to its numbers."""
    return f"<figure>{drawing}<figcaption>{escape(caption)} {link}</figcaption></figure>"


def panels(figures: Iterable[str], link: Html) -> str:
    """Figures side by side, whose numbers are in one file."""
    return f"<div class=plots><div class=panels>{''.join(figures)}</div><p class=data>{link}</p></div>"


def paragraphs(lines: Iterable[str], style: str = "") -> str:
    found = [f"<li>{escape(line)}</li>" for line in lines]
    return f'<ul class="{style}">{"".join(found)}</ul>' if found else ""


def command(text: str) -> str:
    """A command to copy."""
    return f"<div class=command><pre tabindex=0><code>{escape(text)}</code></pre></div>"


def section(anchor: str, title: str, content: str) -> str:
    return (
        f'<section id={anchor} aria-labelledby="{anchor}-title"><h2 id="{anchor}-title">{escape(title)}</h2>'
        f"{content}</section>"
    )


def views(choices: Mapping[str, Mapping[str, str]], found: Sequence[View]) -> str:
    """Buttons for each key of `choices` ({key: {value: label}}), and the figure that they choose; the first one at
    first. Without a script, and on paper, all figures are there."""
    first = found[0].keys
    groups = "".join(_buttons(key, values, first[key]) for key, values in choices.items() if len(values) > 1)
    figures = []
    for view in found:
        style = " ".join(["view", *["extra"] * view.extra, *["on"] * (view.keys == first)])
        data = "".join(f' data-{key}="{escape(value)}"' for key, value in view.keys.items())
        figures.append(f'<div class="{style}"{data}>{view.content}</div>')
    return f"<div class=views><div class=choices hidden>{groups}</div>{''.join(figures)}</div>"


def _buttons(key: str, values: Mapping[str, str], chosen: str) -> str:
    buttons = "".join(
        f'<button type=button data-key="{key}" data-value="{escape(value)}" '
        f"aria-pressed={'true' if value == chosen else 'false'}>{escape(label)}</button>"
        for value, label in values.items()
    )
    return f'<div role=group aria-label="{escape(key)}"><span>{escape(key)}</span>{buttons}</div>'
