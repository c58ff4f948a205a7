# SPDX-License-Identifier: Apache-2.0
"""Make full garbage collections rare.

One stops the controller for a tenth of a second at 100,000 bindings, which are no garbage. By default there is one
whenever the number of objects has grown by a quarter.
"""

import gc

# Objects that are made and not freed before the youngest generation is collected, and collections of one generation
# before one of the next. All three: 2.5 million objects, more than a snapshot of 100,000 bindings makes.
THRESHOLDS = 5000, 10, 50


def make_full_collections_rare() -> None:
    """Freeze live objects and collect rarely."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
