// SPDX-License-Identifier: Apache-2.0
// Shows the list of bindings, filtered, a page at a time, and has one of them chosen.

import { byId, el, keyed, say, set } from "./dom.js";
import { PATHS, PATH_OF_STATE, bitRate, bytes, duration } from "./format.js";
import { onRouter } from "./loader.js";
import { chosenAddress, view } from "./view.js";

// Calls `choose(homeAddress)` for a chosen binding, and `reload()` for another page or filter.
export function setUpBindings(choose, reload) {
  const turn = (cursors) => {
    view.cursors = cursors;
    reload();
  };
  byId("page-on").addEventListener("click", () => turn([...view.cursors, view.next]));
  byId("page-back").addEventListener("click", () => turn(view.cursors.slice(0, -1)));
  byId("bindings-rows").addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row !== null) choose(row.dataset.homeAddress);
  });
  byId("filter").addEventListener("submit", (event) => {
    event.preventDefault();
    const home_address = byId("filter-home-address").value.trim();
    view.filter = { home_address, state: byId("filter-state").value };
    // The controller explains an address without a binding, too.
    if (home_address !== "" && !home_address.includes("/")) choose(home_address);
    turn([]);
  });
  byId("filter-state").addEventListener("change", () => byId("filter").requestSubmit());
}

export function showBindings() {
  keyed(byId("bindings-rows"), view.bindings, (binding) => binding.home_address, makeRow, updateRow);
  say(byId("filter-problem"), view.filterProblem ?? "");
  byId("filter-problem").hidden = view.filterProblem === null;
  const filtered = view.filter.home_address !== "" || view.filter.state !== "";
  say(byId("bindings-none"), filtered ? "No binding matches." : "The controller has no bindings.");
  byId("bindings-none").hidden = view.loaded === null || view.bindings.length > 0;
  byId("page-on").disabled = view.next === null;
  byId("page-back").disabled = view.cursors.length === 0;
  say(byId("page-number"), view.next === null && view.cursors.length === 0 ? "" : `Page ${view.cursors.length + 1}`);
}

function makeRow(binding) {
  const button = el("button", { type: "button", class: "address" }, binding.home_address);
  const cell = (name, kind = "") => el("td", { "data-of": name, class: kind });
  return el(
    "tr",
    { "data-home-address": binding.home_address },
    el("th", { scope: "row" }, button, el("span", { class: "narrow address" })),
    el("td", { "data-of": "path" }, el("span")),
    cell("care_of_address", "wide address"),
    cell("home_agent", "wide roomy address"),
    cell("state", "wide"),
    cell("expires_in", "wide figure"),
    cell("rate", "figure"),
    cell("bytes", "wide figure"),
  );
}

function updateRow(row, binding) {
  const chosen = binding.home_address === chosenAddress();
  set(row, { "data-chosen": chosen });
  set(row.querySelector("button"), { "aria-pressed": chosen });
  say(row.querySelector(".narrow"), `↳ ${binding.care_of_address}`);
  pathBadge(row.querySelector("[data-of=path] span"), PATH_OF_STATE[binding.state]);
  const dpids = Object.keys(binding.routers);
  const rates = dpids.map((dpid) => view.rates.of(onRouter(binding.home_address, dpid)) ?? 0);
  const texts = {
    care_of_address: binding.care_of_address,
    home_agent: binding.home_agent,
    state: binding.state,
    expires_in: binding.expires_in === null ? "–" : duration(binding.expires_in),
    rate: bitRate(8 * sum(rates)),
    bytes: bytes(sum(dpids.map((dpid) => binding.routers[dpid].bytes))),
  };
  set(row.querySelector("[data-of=state]"), { title: binding.withheld });
  for (const [name, text] of Object.entries(texts)) say(row.querySelector(`[data-of=${name}]`), text);
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

export function pathBadge(node, path) {
  set(node, { class: "path", "data-path": path });
  say(node, `${PATHS[path].mark} ${PATHS[path].words}`);
}
