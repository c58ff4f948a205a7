// SPDX-License-Identifier: Apache-2.0
// Shows the figures at the top, home agents with their leases, and routers with their gates.

import { mastership } from "./cluster.js";
import { byId, rows, say, set } from "./dom.js";
import { bitRate, bytes, clock, count, duration, router } from "./format.js";
import { OFFLOADED } from "./loader.js";

export function showSystem(view) {
  if (view.loaded === null) return;
  showTiles(view);
  const bindings = view.homeAgents.reduce((total, agent) => total + agent.bindings, 0);
  rows(byId("agents"), view.homeAgents, (agent) => agent.home_agent, (agent) => agentCells(agent, bindings));
  rows(byId("routers"), view.routers, (each) => each.dpid, (each) => routerCells(each, mastership(view.cluster, each.dpid)));
}

function showTiles({ cluster, counts, homeAgents, routers, rates, offloaded }) {
  say(byId("count-direct"), count(counts.active));
  // A member counts what it knows: bindings and traffic on the routers of which it is master.
  const ofMember = cluster.cluster === null ? null : `on ${cluster.member}'s routers`;
  const idle = counts.idle > 0 ? `, and ${count(counts.idle)} idle` : "";
  say(byId("count-direct-note"), `${ofMember ?? "mobile nodes"}${idle}`);
  say(byId("saved-now-note"), ofMember ?? "past the home agents");
  say(byId("count-detour"), count(counts.partial + counts.pending + counts.held + counts.withheld));
  say(byId("count-detour-note"), counts.partial > 0 ? `${count(counts.partial)} of them partly direct` : "mobile nodes");
  const now = Object.values(OFFLOADED).map((key) => rates.of(key));
  say(byId("saved-now"), now.includes(null) ? "–" : bitRate(8 * (now[0] + now[1])));
  say(byId("saved-total"), bytes(offloaded.downlink + offloaded.uplink));
  ofAll("count-leases", homeAgents, (agent) => agent.status !== "expired");
  ofAll("count-routers", routers, (each) => each.connected);
  const drained = routers.filter((each) => each.draining).length;
  say(byId("count-routers-note"), drained > 0 ? `connected, ${drained} drained` : "connected");
}

function ofAll(id, items, isWell) {
  const well = items.filter(isWell).length;
  say(byId(id), `${well} of ${items.length}`);
  set(byId(id).parentElement, { "data-well": well === items.length });
}

function agentCells(agent, bindings) {
  const lapsed = agent.status === "expired";
  const lease = lapsed ? "has lapsed" : `${duration(agent.expires_in)} of ${agent.lease} s left`;
  const load = bindings > 0 ? `${count(agent.bindings)} (${Math.round((100 * agent.bindings) / bindings)} %)` : count(0);
  const pod = agent.owner === null ? "" : `, by pod ${agent.owner.name}`;
  return [
    { text: agent.home_agent, class: "address" },
    { text: `${agent.status}${pod}`, "data-well": agent.status === "up" },
    { text: lease, "data-well": !lapsed },
    { text: load, class: "figure" },
  ];
}

function routerCells(each, mastership) {
  const refused = each.refused_flows.length + each.refused_tunnels.length;
  const reasons = [...each.refused_flows, ...each.refused_tunnels].map(({ reason }) => reason);
  const gates = each.gates.map((gate) => `${gate.prefix}, ${gate.expires_in === null ? "no end" : `${duration(gate.expires_in)} left`}`);
  const connection = each.connected ? (each.draining ? "connected, drained" : "connected") : "not connected";
  const state = mastership === null ? connection : `${connection}; master: ${mastership.master ?? "none"}`;
  const why = mastership === null ? "" : `since ${clock(mastership.since)}: ${mastership.reason}`;
  const demand = each.install === "on-demand" ? ", flows on demand" : "";
  const agent = each.agent === "lost" ? ", its agent is silent" : "";
  return [
    { text: router(each.dpid), title: each.dpid },
    { text: state, title: why, "data-well": each.connected && !each.draining },
    { text: `${each.backend ?? "none"}${demand}${agent}`, title: each.on_demand_problem ?? "", "data-well": each.agent !== "lost" && each.backend !== null },
    { text: gates.length === 0 ? "none" : gates.join("; "), class: "address" },
    { text: refused === 0 ? "nothing" : `${refused}: ${reasons[0]}`, "data-well": refused === 0 },
  ];
}
