// SPDX-License-Identifier: Apache-2.0
// Events in words. Their fields: docs/logs-and-events.md.

import { router } from "./format.js";

const WORDS = {
  "binding-added": (e) => `${e.home_address} is at ${e.care_of_address}`,
  "binding-changed": (e) => `${e.home_address} has moved to ${e.care_of_address}`,
  "binding-active": (e) => `${e.home_address} goes direct to ${e.care_of_address}`,
  "binding-removed": (e) => `${e.home_address} no longer has a binding (${e.reason})`,
  "binding-refused": (e) => `a binding of ${e.home_address} was refused: ${e.reason}`,
  "binding-withheld": (e) => `the bridge leaves ${e.home_address} to its home agent: ${e.reason}`,
  "binding-held": (e) => `${e.home_address} stays on its home agent's path: ${e.reason}`,
  "home-agent-announced": (e) => `home agent ${e.home_agent} is ${e.status}, lease ${e.lease} s`,
  "home-agent-owned": (e) => `home agent ${e.home_agent} is served by pod ${e.owner} now`,
  "home-agent-synced": (e) => `home agent ${e.home_agent} has sent its binding cache: ${e.bindings} bindings`,
  "bindings-updated": (e) => `a ${e.source} has changed ${e.changes} bindings; not all of them are listed here`,
  "lease-lapsed": (e) => `the lease of home agent ${e.home_agent} has lapsed: all its traffic goes via it`,
  "home-agent-forgotten": (e) => `home agent ${e.home_agent} is forgotten`,
  "router-connected": (e) => `${router(e.router)} is connected`,
  "router-disconnected": (e) => `${router(e.router)} is no longer connected`,
  "router-standby": (e) => `${router(e.router)} is connected, and another controller writes to it, or none yet`,
  "router-of-another-cluster": (e) => `controllers of another cluster write to ${router(e.router)}: it is left alone`,
  "router-taken-by-stranger": (e) => `a controller that is not of the cluster has taken ${router(e.router)}`,
  "mastership-taken": (e) => `this controller is master of ${router(e.router)} now`,
  "mastership-lost": (e) => `this controller is no longer master of ${router(e.router)} (${e.reason})`,
  "master-changed": (e) => `${e.master} is master of ${router(e.router)} now: ${e.reason}`,
  "member-joined": (e) => `${e.member} has joined the cluster`,
  "member-left": (e) => `etcd has ${e.member} in the cluster no more: others take its routers over`,
  "member-name-taken": (e) => `another controller has the name ${e.member}: this one gets no routers`,
  "member-url-shared": (e) => `${e.members} have the same member_url, ${e.url}: calls for one of them reach another`,
  "etcd-reachable": () => "etcd answers again",
  "etcd-unreachable": (e) => `etcd does not answer: ${e.reason}`,
  "switch-turned-away": (e) => `${router(e.router)} was disconnected: too many switches without a tunnel agent`,
  "router-drained": (e) => `${router(e.router)} is drained: its traffic goes via the home agents`,
  "router-undrained": (e) => `${router(e.router)} is back in service`,
  "router-forgotten": (e) => `${router(e.router)} is forgotten`,
  "agent-lost": (e) => `the tunnel agent of ${router(e.router)} has fallen silent`,
  "agent-changed": (e) => `the tunnel agent of ${router(e.router)} has announced another backend or other endpoints`,
  "meters-lost": (e) => `something else has removed or changed meters of ${router(e.router)}: they are made again`,
  "on-demand-unsupported": (e) => `${router(e.router)} gets the flows of all bindings, not on demand: ${e.reason}`,
  "tunnel-failed": (e) => `no tunnel for ${e.home_address} on ${router(e.router)}: ${e.reason}`,
  "flow-rejected": (e) => `${router(e.router)} refuses a flow for ${e.serves ?? "itself"}: ${e.reason}`,
  "table-full": (e) => `${router(e.router)} has no room left in its table ${e.table}`,
  "table-has-room": (e) => `${router(e.router)} has room again in its table ${e.table}`,
  "drift-repaired": (e) => `${router(e.router)}: ${e.flows} flows that somebody had changed were repaired`,
  reset: () => "some events were missed",
};

// Events that an operator should look into.
export const TROUBLE = new Set([
  "binding-refused",
  "lease-lapsed",
  "router-disconnected",
  "switch-turned-away",
  "router-of-another-cluster",
  "router-taken-by-stranger",
  "member-left",
  "member-name-taken",
  "member-url-shared",
  "etcd-unreachable",
  "agent-lost",
  "agent-changed",
  "meters-lost",
  "on-demand-unsupported",
  "tunnel-failed",
  "flow-rejected",
  "table-full",
  "drift-repaired",
]);

export function inWords(name, event) {
  return Object.hasOwn(WORDS, name) ? WORDS[name](event) : `${name} ${JSON.stringify(event)}`;
}
