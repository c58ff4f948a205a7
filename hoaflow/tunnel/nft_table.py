# SPDX-License-Identifier: Apache-2.0
"""Make, compare and remove an nftables table as a whole, as declared in nft's own language."""

from typing import NamedTuple

from hoaflow.tunnel import nft
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.namespace import Namespace


class Table(NamedTuple):
    """A table that says exactly what `text` says. Calls are idempotent and raise NftError.

    `text`: a ruleset that makes the table where there is none. `what`: its name for operators. `terse`: the elements of
    its sets are not declared, and loading `text` into the existing table keeps them.
    """

    family: str
    name: str
    text: str
    what: str = ""
    terse: bool = False

    def __str__(self) -> str:
        return self.what or f"nftables table {self.family} {self.name}"

    def put(self, namespace: Namespace) -> bool:
        """Make the table as declared; returns False if it was."""
        if self.is_there(namespace):
            return False
        if self.terse:
            try:
                nft.load(namespace, self.text)
                if self.is_there(namespace):
                    return True
            except nft.NftError:
                pass  # the existing table contradicts it
        nft.load(namespace, f"{self._deletion}{self.text}")
        return True

    def remove(self, namespace: Namespace) -> bool:
        """Remove the table; returns False if there was none."""
        if (self.family, self.name) not in nft.tables(namespace):
            return False
        nft.load(namespace, self._deletion)
        return True

    def is_there(self, namespace: Namespace) -> bool:
        """Tell whether the table exists and is exactly as declared."""
        with ActualState() as actual:
            return self.difference(namespace, actual) is None

    def difference(self, namespace: Namespace, actual: ActualState) -> str | None:
        """Return how the existing table differs ("missing", "not as declared"), or None."""
        found = actual.nft_table(namespace, self.family, self.name, self.terse)
        if found is None:
            return "missing"
        try:
            wanted = nft.meaning(namespace, self.family, self.name, self.text, self.terse)
        except nft.NftError:  # an interface that it names is missing
            return "not as declared"
        return None if found == wanted else "not as declared"

    @property
    def _deletion(self) -> str:
        # Made first, as nft refuses to delete what is not there.
        return f"table {self.family} {self.name}\ndelete table {self.family} {self.name}\n"
