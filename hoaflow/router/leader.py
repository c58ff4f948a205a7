# SPDX-License-Identifier: Apache-2.0
"""Choose the controller whose tunnel list a router's kernel follows. Pure.

All members of a cluster have the same bindings, from the same bridges. Yet their lists differ for a moment after every
change, one may lag behind, and one that has restarted has an empty list. A tunnel that is removed too early loses
packets; one that is kept too long sends them to a former care-of address. So:

1. The kernel follows one list as a whole: that of the router's **master**. The flows that lead packets into the kernel
   are the master's, and it keeps its gates open only while its list has all that the bridges have (freshness), so a
   master that lags behind closes them.
2. A member that says it is the master is believed unless another one knows of a newer master: of a higher generation.
3. Where no master is known, or it does not answer, the list followed so far is followed on while its member answers;
   else that of another member that answers. If none answers, the kernel stays as it is.
4. A list removes what it does not name only of home agents whose whole binding cache its member knows
   (`DesiredTunnels.complete`). One that restarted removes nothing before that.
5. A list is acknowledged to its member as far as the kernel carries it (`Member.settle`), whichever list is followed.
   So each member knows into which of its own tunnels it may send packets when it becomes the master, and one whose list
   differs waits for the acknowledgement until the lists agree, or its own one is followed.
6. What another list has removed may stay in the kernel: packets get there by the master's flows only.
"""

from collections.abc import Sequence

from hoaflow.router.member import Member


def choose_leader(members: Sequence[Member], former: Member | None) -> Member | None:
    """Return the member whose list is to be followed, given the former one; None before any has given its list."""
    able = [member for member in members if member.answers and member.listed]
    newest = max((member.generation for member in members), default=0)
    masters = [member for member in able if member.master and member.generation == newest]
    for candidates in (masters, able):
        if candidates:
            return former if former in candidates else candidates[0]
    return former
