# SPDX-License-Identifier: Apache-2.0
"""Convert the cluster to its answer."""

from collections import Counter

from controller.cluster.view import View
from controller.events import rfc3339
from controller.rest.schemas import answers
from controller.rest.views.values import dpid_text


def cluster_view(view: View, address: str, with_routers: bool = True) -> answers.Cluster:
    """Return the answer for the cluster, members by name and routers by datapath id; the call has come to `address`."""
    mastered = Counter(each.master for each in view.routers.values())
    return answers.Cluster(
        cluster=view.cluster,
        member=view.member,
        address=address,
        etcd=None if view.etcd is None else answers.Etcd(view.etcd.reachable, rfc3339(view.etcd.since)),
        members=[
            answers.ClusterMember(name, member.url, rfc3339(member.started), member.version, mastered[name])
            for name, member in sorted(view.members.items())
        ],
        routers=[
            answers.RouterMastership(dpid_text(dpid), each.master, each.generation, rfc3339(each.since), each.reason)
            for dpid, each in sorted(view.routers.items())
            if with_routers
        ],
    )
