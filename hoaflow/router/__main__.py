# SPDX-License-Identifier: Apache-2.0
"""Run `hoaflow-router` by `python -m hoaflow.router`."""

import sys

from hoaflow.router.cli import main

if __name__ == "__main__":
    sys.exit(main())
