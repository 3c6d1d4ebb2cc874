"""`toconv train` of this checkout."""

import sys

from toconv.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
