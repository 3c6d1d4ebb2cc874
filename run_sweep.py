"""`toconv sweep` of this checkout."""

import sys

from toconv.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))
