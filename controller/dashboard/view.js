// SPDX-License-Identifier: Apache-2.0
// Holds the page's data, and what the operator has asked for. Call `changed` after each change.

import { Rates } from "./rates.js";

export const PAGE_SIZE = 25;

export const view = {
  // Of the controller.
  cluster: null, // its members, and who is master of each router
  homeAgents: [],
  routers: [],
  bindings: [],
  next: null, // cursor of the next page, null on the last
  counts: null, // bindings by state
  offloaded: null, // bytes by direction
  history: null, // the same over the hour before the page was opened
  rates: new Rates(), // bytes a second; keys: see loader.js
  explanation: null, // of `chosen`
  whyNot: null, // why there is none, in words
  filterProblem: null,
  // Of the connection.
  loaded: null, // when all of the above last came, in milliseconds
  trouble: null, // why it does not come, in words
  following: false, // the events
  // What the operator has asked for.
  filter: { home_address: "", state: "" },
  cursors: [], // of the pages before this one, and of this one
  chosen: null, // a home address
};

// Returns the chosen home address, in the controller's spelling once it has answered.
export const chosenAddress = () => view.explanation?.home_address ?? view.chosen;

const listeners = [];
let waiting = false;

export function onChange(listener) {
  listeners.push(listener);
}

// Redraws once for all changes that come together.
export function changed() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    for (const listener of listeners) listener(view);
  });
}
