"""`python -m tests.absent NAME,NAME MODULE ARGUMENT …`: run a module as where these libraries are not installed."""

import runpy
import sys
from importlib.abc import MetaPathFinder


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
    sys.meta_path[:] = [Without(names.split(","), [*sys.meta_path])]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
