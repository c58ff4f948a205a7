// SPDX-License-Identifier: Apache-2.0
// Runs the dashboard: loads data, follows the events, and shows both. See docs/dashboard.md.

import { Refused, Unauthorized, Unreachable, token } from "./api.js";
import { setUpBindings, showBindings } from "./binding_table.js";
import { setUpCharts, showCharts } from "./charts.js";
import { showCluster } from "./cluster.js";
import { addEvent, setUpEvents, showEvents } from "./event_list.js";
import { loadAll } from "./loader.js";
import { setUpPicture, showPicture } from "./picture.js";
import { Poll } from "./poll.js";
import { showStatus } from "./status.js";
import { EventStream } from "./stream.js";
import { showSystem } from "./system.js";
import { askForToken, setUpToken } from "./token.js";
import { changed, onChange, view } from "./view.js";
import { showWhy } from "./why.js";

const poll = new Poll(async () => {
  try {
    await loadAll();
    if (seen()) stream.start();
  } catch (error) {
    if (error instanceof Unauthorized) {
      wantToken(error.message);
      return;
    }
    const expected = error instanceof Unreachable || error instanceof Refused;
    if (!expected) console.error(error);
    view.trouble = expected ? error.message : "this page has an error, see the browser's console";
    changed();
  }
});

const stream = new EventStream({
  event(name, data) {
    addEvent(name, data);
    poll.soon();
  },
  up: () => follows(true),
  down: () => follows(false),
  unauthorized: wantToken,
});

function follows(is) {
  view.following = is;
  changed();
}

function wantToken(problem) {
  stop();
  askForToken(token.get() === null ? null : problem);
}

const seen = () => document.visibilityState === "visible";

function start() {
  if (seen()) poll.start();
}

function stop() {
  poll.stop();
  stream.stop();
}

function choose(homeAddress) {
  if (view.chosen === homeAddress) return;
  Object.assign(view, { chosen: homeAddress, explanation: null, whyNot: null });
  history.replaceState(null, "", `#${new URLSearchParams({ home_address: homeAddress })}`);
  changed();
  poll.now();
}

setUpToken(start);
setUpEvents();
setUpPicture(choose);
setUpCharts();
setUpBindings(choose, () => poll.now());
for (const show of [showStatus, showSystem, showCluster, showPicture, showBindings, showWhy, showCharts, showEvents]) onChange(show);

// A link to this page may name a mobile node.
function chooseNamed() {
  const named = new URLSearchParams(location.hash.slice(1)).get("home_address");
  if (named) choose(named);
}

document.addEventListener("visibilitychange", () => (seen() ? start() : stop()));
addEventListener("hashchange", chooseNamed);
chooseNamed();
start();
