# SPDX-License-Identifier: Apache-2.0
"""`python -m router` is `hoaflow-router`."""

import sys

from router.cli import main

if __name__ == "__main__":
    sys.exit(main())
