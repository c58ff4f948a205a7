# SPDX-License-Identifier: Apache-2.0
"""An nftables table that is wholly ours, declared in nft's own language: made, compared as a whole, and removed."""

from __future__ import annotations

from typing import NamedTuple

from hoaflow.tunnel import nft
from hoaflow.tunnel.look import Look
from hoaflow.tunnel.namespace import Namespace


class Table(NamedTuple):
    """A table. Nothing in it but what `text` says; calls are idempotent and raise NftError.

    `text`: a ruleset that makes the table where there is none. `what` names it for operators. `terse`: the elements of
    its sets are not part of the declaration; `text` may then be loaded into the table that is there, which keeps them.
    """

    family: str
    name: str
    text: str
    what: str = ""
    terse: bool = False

    def __str__(self) -> str:
        return self.what or f"nftables table {self.family} {self.name}"

    def put(self, namespace: Namespace) -> bool:
        """Make the table what it is to be; False if it is so already."""
        if self.is_there(namespace):
            return False
        if self.terse:
            try:
                nft.load(namespace, self.text)
                if self.is_there(namespace):
                    return True
            except nft.NftError:
                pass  # it does not fit into what is there
        nft.load(namespace, f"{self._deletion}{self.text}")
        return True

    def remove(self, namespace: Namespace) -> bool:
        """Remove the table; False if there is none."""
        if (self.family, self.name) not in nft.tables(namespace):
            return False
        nft.load(namespace, self._deletion)
        return True

    def is_there(self, namespace: Namespace) -> bool:
        """Whether the table is there and says what it is to say, no more and no less."""
        with Look() as look:
            return self.difference(namespace, look) is None

    def difference(self, namespace: Namespace, look: Look) -> str | None:
        """Say how the table that is there differs, in one word or two; None when it doesn't."""
        found = look.nft_table(namespace, self.family, self.name, self.terse)
        if found is None:
            return "missing"
        try:
            wanted = nft.meaning(namespace, self.family, self.name, self.text, self.terse)
        except nft.NftError:  # an interface that it names is missing, too: so it is not as declared either
            return "not as declared"
        return None if found == wanted else "not as declared"

    @property
    def _deletion(self) -> str:
        # Made first, as nft refuses to delete what is not there.
        return f"table {self.family} {self.name}\ndelete table {self.family} {self.name}\n"
