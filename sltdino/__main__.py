"""`python -m sltdino`."""

import sys

from sltdino.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
