# SPDX-License-Identifier: Apache-2.0
"""The directory that this checkout is in."""

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
