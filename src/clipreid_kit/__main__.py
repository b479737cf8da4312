"""Run the ``clipreid`` command: ``python -m clipreid_kit``."""

import sys

from clipreid_kit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
