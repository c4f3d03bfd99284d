"""``python -m upstairs`` is the command ``upstairs``."""

from __future__ import annotations

import sys

from upstairs.cli import main

if __name__ == "__main__":
    sys.exit(main())
