# SPDX-License-Identifier: Apache-2.0
"""How large bundles are: a switch that refuses one for a flow in it gets smaller ones, until that flow is alone."""


class BundleSize:
    """Halves with each bundle that is refused and doubles with each that is taken, up to ``most`` changes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.changes = most

    def refused(self, changes: int) -> None:
        """One of so many changes was refused, and nothing of it is done."""
        self.changes = max(1, min(self.changes, changes // 2))

    def taken(self) -> None:
        """One was carried out."""
        self.changes = min(self._most, 2 * self.changes)
