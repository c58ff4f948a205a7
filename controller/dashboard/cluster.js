// SPDX-License-Identifier: Apache-2.0
// Shows the members of the cluster, and which routers each is master of; nothing for a controller by itself.

import { byId, rows, say } from "./dom.js";
import { clock, router } from "./format.js";

export function showCluster({ cluster }) {
  byId("cluster").hidden = cluster === null || cluster.cluster === null;
  if (byId("cluster").hidden) return;
  const etcd = cluster.etcd.reachable ? "etcd answers" : "etcd does not answer: masters stay, but none is replaced if it fails";
  say(byId("cluster-words"), `${cluster.cluster}, as ${cluster.member} knows it; ${etcd} since ${clock(cluster.etcd.since)}.`);
  rows(byId("members"), cluster.members, (member) => member.name, (member) => memberCells(member, cluster.routers));
}

// Returns who is master of a router, since when and why; null for a controller by itself.
export const mastership = (cluster, dpid) => cluster?.routers.find((each) => each.dpid === dpid) ?? null;

function memberCells(member, routers) {
  const own = routers.filter((each) => each.master === member.name);
  return [
    { text: member.name, title: member.url ?? "" },
    { text: clock(member.started) },
    { text: own.length === 0 ? "no router" : own.map((each) => router(each.dpid)).join(", ") },
  ];
}
