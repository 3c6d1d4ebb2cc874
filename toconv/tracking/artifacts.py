"""Files of a sweep among a run's artifacts, where these lie in a folder of this disk."""

from pathlib import Path

from toconv.paths import link, write_atomic
from toconv.redaction import redact


def place(path: Path, target: Path) -> None:
    """Make `target` a link to `path`, a copy without passwords where it holds settings, or nothing where there is no
    such file."""
    if not path.exists():
        target.unlink(missing_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".yaml":
        write_atomic(target, redact(path.read_text()))
    else:
        link(path, target)
