# SPDX-License-Identifier: Apache-2.0
"""Keep what the host's settings were before this program changed them where a killed process can't lose it.

They are comments in an nftables table without hooks, which no packet meets. It belongs to the network namespace, as the
settings do, and is gone with it, or after a boot: a file could survive what it tells of, and needs a place to write to.
"""

from collections.abc import Mapping

from hoaflow.tunnel import nft
from hoaflow.tunnel.actual_state import ActualState

FAMILY, TABLE = "inet", "hoaflow_former_settings"


def recorded(actual: ActualState) -> dict[str, str]:
    """Return the former value of each setting that was changed, by its name (`net.ipv6.conf.all.forwarding`)."""
    comments = actual.nft_comments(None, FAMILY, TABLE)
    return {name: value for name, _, value in (comment.rpartition("=") for comment in comments)}


def record(settings: Mapping[str, str]) -> None:
    """Replace the record. Raises NftError."""
    rules = "".join(f'continue comment "{name}={value}"\n' for name, value in sorted(settings.items()))
    table = f"table {FAMILY} {TABLE} {{\nchain settings {{\n{rules}}}\n}}\n"
    # Made first, as nft refuses to delete what is not there.
    nft.load(None, f"table {FAMILY} {TABLE}\ndelete table {FAMILY} {TABLE}\n{table if settings else ''}")
