"""`python -m tests.absent NAME,NAME MODULE ARGUMENT …`: run a module where of all installed libraries these alone are
there, and what they need."""

import runpy
import sys
from importlib.abc import MetaPathFinder
from importlib.metadata import distributions, packages_distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = "toconv"


def needed(names):
    """Distributions of these names and all that they need, but extras."""
    found, left = set(), [canonicalize_name(name) for name in names]
    requires = {canonicalize_name(one.name): one.requires or [] for one in distributions()}
    while left:
        if (name := left.pop()) in requires and name not in found:
            found.add(name)
            asked = map(Requirement, requires[name])
            left += [canonicalize_name(r.name) for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def others(names):
    """The modules of all installed distributions but `needed` ones and ours."""
    there = needed(names) | {OURS}
    of = {module: {*map(canonicalize_name, by)} for module, by in packages_distributions().items()}
    return {module for module, by in of.items() if not by & there}


class Without(MetaPathFinder):
    """All that the finders find but these packages: for importlib too they are not there."""

    def __init__(self, names, finders):
        self.names, self.finders = names, finders

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in self.names:
            return None
        found = (finder.find_spec(fullname, path, target) for finder in self.finders)
        return next((spec for spec in found if spec is not None), None)


if __name__ == "__main__":
    _, names, module, *arguments = sys.argv
    absent = others(names.split(","))
    for name in [name for name in sys.modules if name.partition(".")[0] in absent]:
        del sys.modules[name]  # of what looked for them
    sys.meta_path[:] = [Without(absent, [*sys.meta_path])]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
