# SPDX-License-Identifier: Apache-2.0
"""`python -m hoaflow.router` is `hoaflow-router`."""

import sys

from hoaflow.router.cli import main

if __name__ == "__main__":
    sys.exit(main())
