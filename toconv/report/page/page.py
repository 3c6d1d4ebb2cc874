"""The page as a whole."""

from html import escape
from pathlib import Path

from toconv.report.content import Content
from toconv.report.page.fronts import the_front
from toconv.report.page.html import section
from toconv.report.page.importance import importance
from toconv.report.page.live import POLICY
from toconv.report.page.maps import error_maps
from toconv.report.page.overview import how_far, how_to_reproduce, overview
from toconv.report.page.recommended import which_compressor
from toconv.report.page.rows import every_row
from toconv.report.page.side_by_side import side_by_side
from toconv.report.page.trainings import trainings, what_failed
from toconv.report.page.what_to_take import what_to_take

SCRIPTS = ("page.js", "tables.js", "side_by_side.js")
SECTIONS = {  # anchor: heading, and what writes the rest
    "what-to-take": ("What to take", what_to_take),
    "overview": ("Overview", overview),
    "front": ("The front", the_front),
    "recommended": ("Which compressor to take", which_compressor),
    "error-maps": ("Where information is lost", error_maps),
    "importance": ("Importance of settings", importance),
    "trainings": ("How trainings went", trainings),
    "failed": ("What failed, what was pruned, what to do next", what_failed),
    "side-by-side": ("Two trials side by side", side_by_side),
    "rows": ("Every row", every_row),
    "reproduce": ("How to reproduce it", how_to_reproduce),
}


def page(content: Content) -> str:
    name, here = escape(content.sweep.file.name), Path(__file__)
    links = "".join(f"<li><a href=#{anchor}>{anchor.replace('-', ' ')}</a></li>" for anchor in SECTIONS)
    style = here.with_name("page.css").read_text()
    script = "".join(here.with_name(name).read_text() for name in SCRIPTS)
    body = "".join(section(anchor, title, write(content)) for anchor, (title, write) in SECTIONS.items())
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv=Content-Security-Policy content="{POLICY}">'
        f'<meta name=viewport content="width=device-width, initial-scale=1"><title>{name} – toconv</title>'
        f"<style>{style}</style></head><body><header><h1>{name}</h1><nav aria-label=Sections><ul>{links}</ul></nav>"
        f"{how_far(content)}</header><main>{body}</main><div id=reading role=status aria-live=polite hidden></div>"
        f"<script>{script}</script></body></html>\n"
    )
