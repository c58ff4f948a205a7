// SPDX-License-Identifier: Apache-2.0
// Selects what the picture draws, up to a limit of each kind; the chosen mobile node is always included.

import { PATH_OF_STATE, link } from "./format.js";
import { onRouter } from "./loader.js";

const MOST = { homeAgents: 3, routers: 6, nodes: 5 }; // nodes: on each link

// → {homeAgents, routers, links: [{prefix, nodes, hidden}], atHome: node | null, hidden: {homeAgents, routers, links}}
// A node's legs are the ways that its packets take: through a router straight to it, or via its home agent.
export function network(view, mostLinks) {
  const nodes = shownNodes(view);
  const chosen = nodes.find((node) => node.chosen);
  const prefixes = [...new Set(nodes.filter((node) => !node.atHome).map((node) => node.link))].sort();
  const links = first(prefixes, mostLinks, (prefix) => prefix === chosen?.link).map((prefix) => {
    const there = nodes.filter((node) => node.link === prefix);
    const shown = first(there, MOST.nodes, (node) => node.chosen);
    return { prefix, nodes: shown, hidden: there.length - shown.length };
  });
  const carries = new Set(links.flatMap((each) => each.nodes).flatMap((node) => node.legs.map((leg) => leg.router)));
  const homeAgents = first(view.homeAgents, MOST.homeAgents, (agent) => agent.home_agent === chosen?.homeAgent);
  const routers = first(view.routers, MOST.routers, (router) => carries.has(router.dpid));
  return {
    homeAgents,
    routers,
    links,
    atHome: nodes.find((node) => node.atHome) ?? null,
    hidden: {
      homeAgents: view.homeAgents.length - homeAgents.length,
      routers: view.routers.length - routers.length,
      links: prefixes.length - links.length,
    },
  };
}

// Returns at most `most` items in their order, preferring those that matter.
function first(items, most, matters) {
  const kept = new Set([...items.filter(matters), ...items.filter((item) => !matters(item))].slice(0, most));
  return items.filter((item) => kept.has(item));
}

function shownNodes(view) {
  const { explanation, rates } = view;
  const shown = new Map(view.bindings.map((binding) => [binding.home_address, binding]));
  if (explanation?.binding) shown.set(explanation.binding.home_address, explanation.binding);
  const nodes = [...shown.values()].map((binding) => ({
    homeAddress: binding.home_address,
    careOfAddress: binding.care_of_address,
    homeAgent: binding.home_agent,
    link: link(binding.care_of_address),
    path: PATH_OF_STATE[binding.state],
    chosen: binding.home_address === (explanation?.binding?.home_address ?? view.chosen),
    atHome: false,
    legs: legs(binding, rates),
  }));
  if (explanation?.path === "home") nodes.push(nodeAtHome(explanation));
  return nodes;
}

function legs(binding, rates) {
  const busy = (dpid) => rates.of(onRouter(binding.home_address, dpid)) > 0;
  const active = Object.entries(binding.routers).filter(([, router]) => router.state === "active");
  // Every router could carry the packets, but only those on the way do.
  const counting = active.filter(([, router]) => router.bytes > 0);
  const path = PATH_OF_STATE[binding.state];
  const found = path === "home-agent" ? [] : counting.length > 0 ? counting : active;
  const direct = found.map(([dpid, { bytes }]) => ({ router: dpid, carries: bytes > 0, busy: busy(dpid) }));
  return path === "direct" ? direct : [...direct, { router: null, carries: true, busy: false }];
}

function nodeAtHome({ home_address, home_agent }) {
  return {
    homeAddress: home_address,
    careOfAddress: null,
    homeAgent: home_agent.home_agent,
    link: null,
    path: "home",
    chosen: true,
    atHome: true,
    legs: [{ router: null, carries: true, busy: false }],
  };
}
