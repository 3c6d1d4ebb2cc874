"""A finished sweep, and its report in a browser."""

import csv

import pytest

from tests.browser import DESKTOP, browser, load
from toconv.paths import SweepPaths


@pytest.fixture(scope="package")
def sweep(finalists):
    """A finished sweep with finalists: its file and its folder."""
    return finalists.file, SweepPaths(finalists.root)


@pytest.fixture(scope="package")
def results(sweep):
    with sweep[1].results.open() as file:
        return {row["trial_id"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="package")
def desk(sweep):
    """One browser for the tests that leave the page as they found it, or load it anew."""
    with browser(*DESKTOP) as driver:
        yield driver


@pytest.fixture
def page(desk, sweep):
    load(desk, sweep[1].report.as_uri())
    return desk
