"""`toconv ls`: the sweeps of the outputs folder, and how each stands."""

import json
import time

from toconv.errors import DamagedFile, ExitCode, MachineryError, RequestError
from toconv.paths import OUTPUTS, SweepPaths
from toconv.progress import console, duration
from toconv.sweep.status import Status, look, sweeps

USAGE = """
usage: toconv ls [--json]

A line for each sweep of outputs/: its name, whether it runs, how many of its trials have ended.

  --json       one JSON object a sweep, a line each, as of `toconv status --json`
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on an argument that is no option."""
    if set(arguments) - {"--json"}:
        raise RequestError(f"not understood: {' '.join(arguments)}\n{USAGE.strip()}")
    found = sweeps()
    for paths in found:
        try:
            status = look(paths)
            line = json.dumps(status.as_json()) if arguments else _line(paths, status)
        except (RequestError, FileNotFoundError):
            if paths in sweeps():  # else it was removed since they were listed
                raise
        except (DamagedFile, MachineryError) as error:
            console.print(json.dumps({"name": paths.root.name, "error": str(error)}) if arguments else str(error))
        else:
            console.print(line)
    if not found and not arguments:
        console.print(f"{OUTPUTS.resolve()} holds no sweep")
    return ExitCode.DONE


def _line(paths: SweepPaths, status: Status) -> str:
    files = [path for path in (paths.running, paths.study, paths.request) if path.exists()]
    changed = max((path.stat().st_mtime for path in files), default=time.time())
    failed = f", {len(status.failed)} failed" if status.failed else ""
    when = f"; {duration(time.time() - changed)} ago"
    return f"{status.name:<24} {status.standing:<9} {status.ended}{failed}{when}"
