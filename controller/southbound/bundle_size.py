# SPDX-License-Identifier: Apache-2.0
"""Choose the size of bundles: after a refusal smaller ones are sent, until the flow at fault is alone in one."""


class BundleSize:
    """Halve with each refused bundle and double with each accepted one, up to `most` changes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.changes = most

    def refused(self, changes: int) -> None:
        """Record that a bundle of `changes` changes was refused, and none of it carried out."""
        self.changes = max(1, min(self.changes, changes // 2))

    def accepted(self) -> None:
        """Record that a bundle was carried out."""
        self.changes = min(self._most, 2 * self.changes)
