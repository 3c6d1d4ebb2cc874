"""A user's function on an exported compressor, in a process of its own.

`python -m toconv.export.call_function PACKAGE.MODULE:FUNCTION EXPORT OUTPUT`. The function is given the export's folder
as a pathlib.Path, and returns {name: number}."""

import json
import sys
from pathlib import Path

from toconv.settings import named_object

if __name__ == "__main__":
    function, export, output = sys.argv[1:]
    found = named_object(function)(Path(export))
    Path(output).write_text(json.dumps(found, default=float))  # numbers of numpy and torch too
