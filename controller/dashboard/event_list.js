// SPDX-License-Identifier: Apache-2.0
// Shows recent events, newest first, up to a limit.

import { byId, el, keyed, say } from "./dom.js";
import { TROUBLE, inWords } from "./event_words.js";
import { clock, sentence } from "./format.js";
import { changed, chosenAddress } from "./view.js";

const MOST = 200;
const SHOWN = 60;
const PAUSE = 3000; // milliseconds between two announcements
const OLD = 10_000; // milliseconds; what is older is not announced

const held = [];
let number = 0;
let announced = 0;

export function setUpEvents() {
  byId("events-trouble").addEventListener("change", changed);
}

export function addEvent(name, event) {
  number += 1;
  held.unshift({ number, name, event });
  held.length = Math.min(held.length, MOST);
  announce(name, event);
  changed();
}

// Announces trouble, and events of the chosen mobile node, to screen readers, at a rate that can be listened to.
function announce(name, event) {
  const concerns = TROUBLE.has(name) || (event.home_address !== undefined && event.home_address === chosenAddress());
  const now = Date.now();
  if (!concerns || now - announced < PAUSE || now - new Date(event.time).getTime() > OLD) return;
  announced = now;
  say(byId("announcer"), sentence(inWords(name, event)));
}

export function showEvents() {
  const onlyTrouble = byId("events-trouble").checked;
  const shown = held.filter(({ name }) => !onlyTrouble || TROUBLE.has(name)).slice(0, SHOWN);
  keyed(byId("events"), shown, (item) => item.number, make, () => {});
}

function make({ name, event }) {
  return el(
    "li",
    { class: TROUBLE.has(name) ? "trouble" : "plain" },
    el("time", { datetime: String(event.time) }, clock(String(event.time))),
    el("span", { class: "name" }, name),
    el("span", { class: "words" }, sentence(inWords(name, event))),
  );
}
