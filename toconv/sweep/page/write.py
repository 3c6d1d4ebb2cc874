"""The page as a whole."""

from __future__ import annotations

from html import escape
from pathlib import Path

from toconv.paths import write_atomic
from toconv.sweep.page.asked import how_to_reproduce, what_was_asked
from toconv.sweep.page.choice import which_compressor
from toconv.sweep.page.content import Content
from toconv.sweep.page.fronts import the_front
from toconv.sweep.page.heat import where_it_is_lost
from toconv.sweep.page.mattered import what_mattered
from toconv.sweep.page.rows import every_row
from toconv.sweep.page.trainings import how_trainings_went, what_failed
from toconv.sweep.run_facts import redact

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
SECTIONS = (what_was_asked, the_front, which_compressor, where_it_is_lost, what_mattered, how_trainings_went,
            what_failed, every_row, how_to_reproduce)
LINKS = {"asked": "asked", "front": "front", "take": "which to take", "lost": "what is lost",
         "mattered": "what mattered", "trainings": "trainings", "failed": "failed",
         "rows": "every row", "again": "reproduce"}


def write_report(path: Path, content: Content) -> None:
    """Write report.html. A report is passed on: it holds no password of an address that was given as a setting."""
    write_atomic(path, redact(page(content)))


def page(content: Content) -> str:
    name, here = escape(content.sweep.file.name), Path(__file__)
    links = "".join(f"<li><a href=#{anchor}>{label}</a></li>" for anchor, label in LINKS.items())
    style, script = (here.with_name(f"page.{kind}").read_text() for kind in ("css", "js"))
    body = "".join(section(content) for section in SECTIONS)
    return (f'<!doctype html><html lang=en><head><meta charset=utf-8>'
            f'<meta http-equiv=Content-Security-Policy content="{POLICY}">'
            f'<meta name=viewport content="width=device-width, initial-scale=1"><title>{name} – toconv</title>'
            f"<style>{style}</style></head><body><header><h1>{name}</h1><nav aria-label=Sections><ul>{links}</ul></nav>"
            f"</header><main>{body}</main><div id=reading role=status aria-live=polite hidden></div>"
            f"<script>{script}</script></body></html>\n")
