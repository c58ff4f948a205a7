# SPDX-License-Identifier: Apache-2.0
"""When Python looks for garbage in cycles.

A look at everything stops everything for a tenth of a second at 100,000 bindings, which are no garbage, and by default
comes whenever they have become a quarter more.
"""

import gc

# Objects made, and not freed, until the youngest are looked at; how often that until the middle-aged are; and how often
# that until all are: after two and a half million, more than a snapshot of 100,000 bindings makes.
THRESHOLDS = 5000, 10, 50


def spare_full_collections() -> None:
    """Have what is there now never looked at again, and all seldom."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
