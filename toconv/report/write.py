"""A sweep's report in its folder."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toconv.paths import write_atomic
from toconv.redaction import redact_each
from toconv.report.content import Content, gather
from toconv.report.figures import write_figures
from toconv.report.page.page import page
from toconv.sweep.driver import Driver


def write_report(driver: Driver, facts: Mapping[str, Any]) -> None:
    """Write figures/ and report.html. `facts` are versions, python, machine, git_commit, command as it was typed."""
    content = gather(driver, facts)
    write_figures(driver.paths.figures, content, content.error_maps)
    write_page(driver.paths.report, content)


def write_page(path: Path, content: Content) -> None:
    write_atomic(path, text_of(content))


def text_of(content: Content) -> str:
    """A report is passed on: no text of it holds a secret of an address."""
    return "".join(redact_each(re.split('([<>"])', page(content))))
