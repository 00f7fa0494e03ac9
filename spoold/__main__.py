"""python -m spoold."""

import sys

from spoold.daemon import main

if __name__ == "__main__":
    sys.exit(main())
