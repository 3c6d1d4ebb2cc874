"""What the page has beyond itself while `toconv watch` serves it: news of its sweep, and itself anew."""

from html import escape
from pathlib import Path

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
HERE = "connect-src 'self'"  # what a page that is served may ask for
END = "</body>"


def live(page: str, written: str | None) -> str:
    """A report as it is served; `written` says which one, as its news does: None where there is none yet."""
    script, which = Path(__file__).with_name("live.js").read_text(), f" data-written={written}" if written else ""
    return page.replace(POLICY, f"{POLICY}; {HERE}", 1).replace(END, f"<script{which}>{script}</script>{END}", 1)


def waiting(name: str) -> str:
    """What is served before there is a report."""
    style = Path(__file__).with_name("page.css").read_text()
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv=Content-Security-Policy content="{POLICY}">'
        f'<meta name=viewport content="width=device-width, initial-scale=1"><title>{escape(name)} – toconv</title>'
        f"<style>{style}</style></head><body><header><h1>{escape(name)}</h1></header><main><p>There is no report yet: "
        f"it comes soon after the first trial has ended, and this page then shows it.</p></main>{END}</html>\n"
    )
