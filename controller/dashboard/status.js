// SPDX-License-Identifier: Apache-2.0
// Shows whether the page is up to date; if it is not, marks everything as old.

import { byId, say, set } from "./dom.js";
import { clock } from "./format.js";

export function showStatus({ trouble, loaded, following }) {
  const time = loaded === null ? "" : clock(new Date(loaded).toISOString());
  const since = loaded === null ? "" : ` The page shows the state at ${time}.`;
  say(byId("banner"), trouble === null ? "" : `The controller can't be reached: ${trouble}.${since} Trying again.`);
  byId("banner").hidden = trouble === null;
  set(byId("page"), { "data-stale": trouble !== null });
  const state = trouble !== null ? "stale" : loaded === null ? "waiting" : following ? "live" : "polling";
  const words = { stale: "no connection", waiting: "connecting", live: `live, ${time}`, polling: `without events, ${time}` };
  set(byId("live"), { "data-state": state });
  say(byId("live"), words[state]);
}
