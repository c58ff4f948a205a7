// SPDX-License-Identifier: Apache-2.0
// Places everything in the picture, in pixels. Packets go from left to right, on a phone from top to bottom.

export const NARROW = 640;
export const CHIP = 26; // height of a mobile node
const EDGE = 2;
const HEAD = 48; // height of a link's title
export const INSET = 18; // of mobile nodes in their link

export const mostLinks = (width) => (width < NARROW ? Math.max(1, Math.floor(width / 118)) : 6);

// → {width, height, correspondents, homeAgents, routers, links, chips, wide}: boxes {x, y, width, height} by their key.
export function layout(network, width) {
  return width < NARROW ? fromTop(network, width) : fromLeft(network, width);
}

const linkHeight = ({ nodes, hidden }) => HEAD + nodes.length * (CHIP + 6) + (hidden > 0 ? 22 : 4);

function fromLeft(network, width) {
  const wide = { agent: 212, router: 132, link: Math.min(270, width * 0.31), node: 140 };
  const top = 96;
  const heights = network.links.map(linkHeight);
  const right = sum(heights) + 14 * Math.max(0, heights.length - 1);
  const middle = network.routers.length * 68 - 12;
  const inner = Math.max(right, middle + 50, 130);
  const at = top + 34;
  const found = plan(width, at + inner + 14, true);
  const centre = width * 0.43;

  found.correspondents = box(EDGE, at + (inner - 84) / 2, wide.node, 84);
  inRow(network.homeAgents, centre, wide.agent, 22, (agent, x) =>
    found.homeAgents.set(agent.home_agent, box(x, EDGE, wide.agent, 66)),
  );
  let y = at + (inner - middle) / 2;
  for (const router of network.routers) {
    found.routers.set(router.dpid, box(centre - wide.router / 2, y, wide.router, 56));
    y += 68;
  }
  y = at + (inner - right) / 2;
  network.links.forEach((each, index) => {
    placeLink(found, each, box(width - EDGE - wide.link, y, wide.link, heights[index]));
    y += heights[index] + 14;
  });
  placeAtHome(found, network);
  return found;
}

function fromTop(network, width) {
  const gap = 8;
  const across = (count, least) => Math.max(1, Math.min(count, Math.floor((width + gap) / (least + gap))));
  const found = plan(width, 0, false);
  const half = (width - gap) / 2;
  found.correspondents = box(EDGE, EDGE, half - 14, 66);
  network.homeAgents.forEach((agent, index) =>
    found.homeAgents.set(agent.home_agent, box(half + gap, EDGE + index * 74, half - EDGE, 66)),
  );
  let y = EDGE + Math.max(1, network.homeAgents.length) * 74 + 44 + (network.atHome === null ? 0 : CHIP);
  const columns = across(network.routers.length, 92);
  const cell = (width - 2 * EDGE - gap * (columns - 1)) / columns;
  network.routers.forEach((router, index) => {
    const [row, column] = [Math.floor(index / columns), index % columns];
    found.routers.set(router.dpid, box(EDGE + column * (cell + gap), y + row * 64, cell, 52));
  });
  y += Math.ceil(network.routers.length / columns) * 64 + 40;
  const beside = Math.max(1, network.links.length);
  const column = (width - 2 * EDGE - gap * (beside - 1)) / beside;
  network.links.forEach((each, index) =>
    placeLink(found, each, box(EDGE + index * (column + gap), y, column, linkHeight(each))),
  );
  found.height = y + Math.max(0, ...network.links.map(linkHeight)) + EDGE;
  placeAtHome(found, network);
  return found;
}

const plan = (width, height, wide) => ({
  width,
  height,
  wide,
  correspondents: null,
  homeAgents: new Map(),
  routers: new Map(),
  links: new Map(),
  chips: new Map(),
});

const box = (x, y, width, height) => ({ x, y, width, height });
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

function inRow(items, centre, width, gap, place) {
  const all = items.length * (width + gap) - gap;
  items.forEach((item, index) => place(item, Math.max(EDGE, centre - all / 2) + index * (width + gap)));
}

function placeLink(found, { prefix, nodes }, place) {
  found.links.set(prefix, place);
  nodes.forEach((node, index) =>
    found.chips.set(
      node.homeAddress,
      box(place.x + INSET, place.y + HEAD + index * (CHIP + 6) - 4, place.width - INSET - 8, CHIP),
    ),
  );
}

function placeAtHome(found, { atHome }) {
  const agent = atHome === null ? undefined : found.homeAgents.get(atHome.homeAgent);
  if (agent === undefined) return;
  const place = found.wide ? [agent.x + agent.width + 30, agent.y + 20] : [agent.x + 14, agent.y + agent.height + 22];
  found.chips.set(atHome.homeAddress, box(...place, Math.min(190, found.width - place[0] - EDGE), CHIP));
}

// Returns a leg's line as an SVG path, with the same commands for each leg of a kind, so that browsers can animate it.
export function line(found, node, leg, spread) {
  const chip = found.chips.get(node.homeAddress);
  const through = leg.router === null ? found.homeAgents.get(node.homeAgent) : found.routers.get(leg.router);
  if (chip === undefined || through === undefined) return null;
  const from = found.correspondents;
  return found.wide ? across(found, through, chip, leg, spread) : down(from, through, chip, node, leg, spread);
}

function across(found, through, chip, leg, spread) {
  const from = found.correspondents;
  const start = [from.x + from.width, from.y + from.height / 2 + spread];
  const enter = [through.x, through.y + through.height / 2 + spread * 0.8];
  const leave = [through.x + through.width, enter[1]];
  const end = [chip.x, chip.y + chip.height / 2];
  const edge = [chip.x - INSET - 4, end[1]];
  if (leg.router === null && found.homeAgents.size > 1) {
    // From below, past the other home agents.
    const [y, x, half] = [through.y + through.height - 6, through.x + through.width / 2, through.width / 4];
    const [up, off] = [[x - half + spread, y], [x + half + spread, y]];
    return `M${at(start)} ${rise(start, up)} L${at(off)} ${rise(edge, off, true)} L${at(end)}`;
  }
  return `M${at(start)} ${curve(start, enter, leg.router === null ? 0.7 : 0.5)} L${at(leave)} ${curve(leave, edge, 0.5)} L${at(end)}`;
}

// Joins a horizontal end below and a vertical one above, or the other way round.
function rise([x0, y0], [x1, y1], back = false) {
  const [below, above] = [
    [x0 + (x1 - x0) * 0.55, y0],
    [x1, y1 + (y0 - y1) * 0.45],
  ];
  return back ? `C${at(above)} ${at(below)} ${at([x0, y0])}` : `C${at(below)} ${at(above)} ${at([x1, y1])}`;
}

function curve([x0, y0], [x1, y1], bend) {
  return `C${at([x0 + (x1 - x0) * bend, y0])} ${at([x1 - (x1 - x0) * bend, y1])} ${at([x1, y1])}`;
}

function down(from, through, chip, node, leg, spread) {
  const rail = chip.x - 9 + spread * 0.3;
  const end = [chip.x, chip.y + chip.height / 2];
  if (leg.router === null) {
    const start = [from.x + from.width, from.y + from.height / 2 + spread];
    const enter = [through.x, start[1]];
    const leave = [through.x + through.width - 18 + spread, through.y + through.height];
    const turn = node.atHome ? leave : [rail, chip.y - HEAD];
    return `M${at(start)} ${curve(start, enter, 0.5)} L${at(leave)} ${fall(leave, turn)} L${at([turn[0], end[1]])} L${at(end)}`;
  }
  const start = [from.x + from.width / 2 + spread, from.y + from.height];
  const enter = [through.x + through.width / 2 + spread, through.y];
  const leave = [enter[0], through.y + through.height];
  const turn = [rail, chip.y - HEAD];
  return `M${at(start)} ${fall(start, enter)} L${at(leave)} ${fall(leave, turn)} L${at([rail, end[1]])} L${at(end)}`;
}

function fall([x0, y0], [x1, y1]) {
  const middle = (y0 + y1) / 2;
  return `C${at([x0, middle])} ${at([x1, middle])} ${at([x1, y1])}`;
}

const at = ([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`;
