// SPDX-License-Identifier: Apache-2.0
// Lays out the controller's explanation of the path that the chosen mobile node's traffic takes.

import { pathBadge } from "./binding_table.js";
import { byId, el, keyed, rows, say } from "./dom.js";
import { bytes, clock, duration, router, sentence } from "./format.js";

export function showWhy(view) {
  const found = view.explanation;
  byId("why-none").hidden = view.chosen !== null;
  byId("why-problem").hidden = view.whyNot === null;
  say(byId("why-problem"), view.whyNot === null ? "" : sentence(view.whyNot));
  byId("why-found").hidden = found === null;
  if (found === null) return;
  say(byId("why-address"), found.home_address);
  pathBadge(byId("why-path"), found.path);
  say(byId("why-reason"), `${sentence(found.reason)}.`);
  say(byId("why-since"), found.since === null ? "" : `Since ${clock(found.since)}, ${ago(found.since)}`);
  byId("why-change-part").hidden = found.would_change.length === 0;
  keyed(
    byId("why-change"),
    found.would_change,
    (text) => text,
    (text) => el("li", {}, sentence(text)),
    () => {},
  );
  showFacts(found);
  byId("why-routers-part").hidden = Object.keys(found.routers).length === 0;
  rows(byId("why-routers"), Object.entries(found.routers), ([dpid]) => dpid, onRouter);
  rows(byId("why-updates"), found.updates.toReversed(), (update) => `${update.time} ${update.result}`, anUpdate);
}

function ago(time) {
  return `${duration((Date.now() - new Date(time).getTime()) / 1000)} ago`;
}

function showFacts({ binding, home_agent: agent }) {
  const lease = agent.status === "expired" ? "has lapsed" : `holds, ${duration(agent.expires_in)} left`;
  const facts = [
    ["Home agent", `${agent.home_agent} (${agent.status})`],
    ["Its bridge's lease", lease],
    ["Its binding cache", agent.snapshot === "held" ? "is known" : "has not come from the bridge"],
  ];
  if (binding !== null) {
    facts.unshift(
      ["Care-of address", binding.care_of_address],
      ["Binding expires in", binding.expires_in === null ? "has no lifetime" : duration(binding.expires_in)],
    );
  }
  const make = ([name]) => el("div", {}, el("dt", {}, name), el("dd"));
  keyed(byId("why-binding"), facts, ([name]) => name, make, (node, [, text]) => say(node.lastChild, text));
}

function onRouter([dpid, on]) {
  const gate = on.gate.open ? `open${on.gate.expires_in === null ? "" : `, ${duration(on.gate.expires_in)}`}` : "closed";
  const carried = { downlink: 0, uplink: 0 };
  for (const flow of on.flows) if (flow.kind in carried) carried[flow.kind] += flow.bytes;
  return [
    { text: router(dpid), title: dpid },
    { text: sentence(on.reason), "data-state": on.state },
    { text: gate, class: "gate" },
    { text: `${bytes(carried.downlink)} / ${bytes(carried.uplink)}`, class: "figure" },
  ];
}

function anUpdate(update) {
  const result = update.reason === null ? `${update.result} by ${update.source}` : `${update.result} by ${update.source}: ${update.reason}`;
  return [
    clock(update.time),
    { text: result, "data-result": update.result },
    { text: update.care_of_address ?? "–", class: "address" },
    { text: update.sequence ?? "–", class: "figure" },
  ];
}
