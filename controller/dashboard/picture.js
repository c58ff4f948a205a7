// SPDX-License-Identifier: Apache-2.0
// Draws correspondent nodes, routers, home agents, foreign links, and the path of each mobile node's packets.

import { byId, el, keyed, say, set, svg } from "./dom.js";
import { PATHS, duration, router, shortAddress } from "./format.js";
import { INSET, layout, line, mostLinks } from "./geometry.js";
import { network } from "./network.js";
import { changed, view } from "./view.js";

const LAYERS = ["links", "lines", "boxes", "chips"]; // from back to front
const layers = {};
const SPREAD = 5; // pixels between the lines of two mobile nodes

export function setUpPicture(choose) {
  for (const name of LAYERS) layers[name] = byId("picture").appendChild(svg("g"));
  layers.chips.addEventListener("click", (event) => {
    const chip = event.target.closest("[data-home-address]");
    if (chip !== null) choose(chip.dataset.homeAddress);
  });
  new ResizeObserver(changed).observe(byId("picture").parentElement);
}

export function showPicture() {
  const width = byId("picture").parentElement.clientWidth;
  if (view.loaded === null || width === 0) return;
  const shown = network(view, mostLinks(width));
  const places = layout(shown, width);
  set(byId("picture"), { viewBox: `0 0 ${width} ${Math.ceil(places.height)}`, width, height: Math.ceil(places.height) });
  const nodes = [...shown.links.flatMap((each) => each.nodes), ...(shown.atHome === null ? [] : [shown.atHome])];
  drawLinks(shown, places);
  drawLines(nodes, places);
  drawBoxes(shown, places);
  drawChips(nodes, places);
  say(byId("picture-more"), more(shown));
  showWords(nodes);
}

function drawLinks({ links }, places) {
  const make = () => svg("g", { class: "link" }, svg("rect", { rx: 10 }), ...texts(3));
  keyed(layers.links, links, (each) => each.prefix, make, (node, { prefix, hidden }) => {
    const place = places.links.get(prefix);
    const max = Math.floor((place.width - INSET - 4) / 7.2);
    put(node, place, [
      { text: "Foreign link", x: INSET, y: 19, class: "kind" },
      { text: short(prefix, max), x: INSET, y: 36, class: "address" },
      { text: hidden > 0 ? `and ${hidden} more` : "", x: INSET, y: place.height - 9, class: "kind" },
    ]);
  });
}

function drawBoxes({ homeAgents, routers }, places) {
  const boxes = [
    { key: "correspondents", kind: "node", place: places.correspondents, words: ["Correspondents", "CN side", ""] },
    ...routers.map((each) => ({ key: each.dpid, kind: "router", place: places.routers.get(each.dpid), ...routerWords(each) })),
    ...homeAgents.map((each) => ({ key: each.home_agent, kind: "agent", place: places.homeAgents.get(each.home_agent), ...agentWords(each) })),
  ];
  const make = ({ kind }) => svg("g", { class: `box ${kind}` }, svg("rect", { rx: 10 }), ...texts(3));
  keyed(layers.boxes, boxes, (each) => each.key, make, (node, { place, words, well = true }) => {
    const lines = words.filter((text) => text !== "").length;
    const first = place.height / 2 - (lines - 1) * 8.5 + 5;
    const max = Math.floor((place.width - 8) / 7.2);
    set(node, { "data-well": well });
    put(node, place, words.map((text, index) => ({
      text: short(text, max),
      x: place.width / 2,
      y: first + index * 17,
      class: index === 0 ? "name" : "kind",
    })));
  });
}

function routerWords({ dpid, connected, draining, gates }) {
  const state = !connected ? "✕ not connected" : draining ? "‖ drained" : gates.length > 0 ? "gate open" : "✕ no gate";
  return { words: [router(dpid), state, ""], well: connected && !draining && gates.length > 0 };
}

function agentWords({ home_agent, status, expires_in }) {
  const state = status === "expired" ? "✕ lease has lapsed" : `${status === "up" ? "" : "✕ down, "}lease ${duration(expires_in)}`;
  return { words: ["Home agent", home_agent, state], well: status === "up" };
}

function drawLines(nodes, places) {
  const anyChosen = nodes.some((node) => node.chosen);
  const legs = nodes.flatMap((node, index) =>
    node.legs.map((leg) => ({ node, leg, d: line(places, node, leg, SPREAD * spread(index, nodes.length)) })),
  );
  const make = () => svg("g", { class: "leg" }, svg("path", { class: "way" }), svg("path", { class: "packets" }));
  // The chosen one last, so that it is on top.
  const drawn = legs.filter(({ d }) => d !== null).sort((a, b) => a.node.chosen - b.node.chosen);
  keyed(layers.lines, drawn, ({ node, leg }) => `${node.homeAddress} ${leg.router}`, make, (group, { node, leg, d }) => {
    set(group, {
      "data-home-address": node.homeAddress,
      "data-path": node.path,
      "data-link": node.link,
      "data-way": leg.router === null ? "home-agent" : "direct",
      "data-router": leg.router,
      "data-carries": leg.carries,
      "data-busy": leg.busy,
      "data-rank": !anyChosen ? "plain" : node.chosen ? "chosen" : "other",
    });
    for (const path of group.children) set(path, { d });
  });
}

// -2 … 2
const spread = (index, count) => (count < 2 ? 0 : ((index % 5) - 2) * Math.min(1, count / 5));

function drawChips(nodes, places) {
  const make = (node) =>
    svg("g", { class: "chip", "data-home-address": node.homeAddress }, svg("title"), svg("rect", { rx: 13 }), ...texts(1));
  const placed = nodes.filter((node) => places.chips.has(node.homeAddress));
  keyed(layers.chips, placed, (node) => node.homeAddress, make, (group, node) => {
    const place = places.chips.get(node.homeAddress);
    const max = Math.floor((place.width - 26) / 7.6);
    set(group, { "data-path": node.path, "data-chosen": node.chosen });
    say(group.querySelector("title"), words(node));
    put(group, place, [{ text: `${PATHS[node.path].mark} ${short(shortAddress(node.homeAddress), max)}`, x: 10, y: 18, class: "address" }]);
  });
}

const texts = (count) => Array.from({ length: count }, () => svg("text"));

function put(group, { x, y, width, height }, lines) {
  group.style.transform = `translate(${x}px, ${y}px)`;
  set(group.querySelector("rect"), { width, height });
  const nodes = group.querySelectorAll(":scope > text");
  lines.forEach(({ text, ...attributes }, index) => {
    set(nodes[index], attributes);
    say(nodes[index], text);
  });
}

const short = (text, most) => (text.length <= most ? text : `${text.slice(0, Math.max(1, most - 1))}…`);

function more({ hidden }) {
  const parts = [
    [hidden.links, "foreign link"],
    [hidden.routers, "router"],
    [hidden.homeAgents, "home agent"],
  ].filter(([count]) => count > 0);
  const named = parts.map(([count, what]) => `${count} more ${what}${count > 1 ? "s" : ""}`);
  return named.length === 0 ? "" : `Not drawn: ${named.join(", ")}.`;
}

function showWords(nodes) {
  const make = () => el("li");
  keyed(byId("picture-words"), nodes, (node) => node.homeAddress, make, (item, node) => say(item, words(node)));
  byId("picture-none").hidden = nodes.length > 0;
}

function words({ homeAddress, careOfAddress, homeAgent, path, legs }) {
  const routers = legs.filter((leg) => leg.router !== null).map((leg) => router(leg.router));
  const by = routers.length === 0 ? "" : `, by ${routers.join(" and ")}`;
  if (path === "home") return `${homeAddress}: no binding, at home or not registered with ${homeAgent}`;
  const way = { direct: `direct${by}`, mixed: `partly direct${by}, else via home agent ${homeAgent}` }[path];
  return `${homeAddress} at ${careOfAddress}: ${way ?? `via home agent ${homeAgent}`}`;
}
