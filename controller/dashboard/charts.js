// SPDX-License-Identifier: Apache-2.0
// Shows two charts: the traffic that all home agents are spared, and that of the chosen mobile node.

import { RateChart } from "./chart.js";
import { byId, say } from "./dom.js";
import { OFFLOADED, chosenFlows } from "./loader.js";

let saved = null;
let traffic = null;
let chosen = null;
let begun = false;

export function setUpCharts() {
  saved = new RateChart("saved-chart");
  traffic = new RateChart("traffic-chart");
}

export function showCharts({ loaded, history, rates, explanation }) {
  if (loaded === null) return;
  if (!begun) saved.begin(history);
  begun = true;
  const directions = Object.keys(OFFLOADED);
  saved.add(loaded, directions.map((direction) => rates.of(OFFLOADED[direction])));
  saved.draw();
  const address = explanation?.home_address ?? null;
  if (address !== chosen) traffic.clear();
  chosen = address;
  if (address !== null) traffic.add(loaded, directions.map((direction) => rates.of(chosenFlows(direction))));
  traffic.draw();
  say(byId("traffic-of"), address ?? "a mobile node that you choose");
}
