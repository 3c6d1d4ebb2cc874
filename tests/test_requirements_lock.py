"""What `make install` installs is what requirements.txt says, with all that it needs, each file by its checksum."""

import re

import pytest
from packaging.requirements import Requirement

from tests.repository import REPOSITORY

SUPPORTED = ("3.11", "3.12", "3.13")


def locked(name):
    """{package: (its requirement, its checksums)} of a lock file."""
    text = (REPOSITORY / name).read_text().replace("\\\n", " ")
    found = {}
    for line in filter(None, text.splitlines()):
        wanted, *hashes = re.split(r"\s+--hash=", line.strip())
        requirement = Requirement(wanted)
        found[requirement.name.lower().replace("_", "-")] = requirement, hashes
    return found


@pytest.mark.parametrize("name", ["requirements", "requirements-samples"])
def test_the_lock_has_every_requirement_at_its_version(name):
    lines = (REPOSITORY / f"{name}.txt").read_text().splitlines()
    found = locked(f"{name}.lock")
    for wanted in (Requirement(line) for line in lines if line and not line.startswith("#")):
        requirement, _ = found[wanted.name.lower().replace("_", "-")]
        assert requirement.specifier == wanted.specifier
        for version in SUPPORTED:
            assert not requirement.marker or requirement.marker.evaluate({"python_full_version": f"{version}.0"})


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-samples.lock"])
def test_each_is_one_version_with_checksums_and_no_address_of_a_registry(name):
    for requirement, hashes in locked(name).values():
        assert str(requirement.specifier).startswith("==") and requirement.url is None
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", found) for found in hashes)
    assert "://" not in (REPOSITORY / name).read_text()
