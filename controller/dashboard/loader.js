// SPDX-License-Identifier: Apache-2.0
// Loads all that the page shows in one round, so that its parts are consistent.

import { Refused, getJson, getText } from "./api.js";
import { bindingsByState, offloadedBytes } from "./metrics.js";
import { PAGE_SIZE, changed, view } from "./view.js";

const MOST = 200; // home agents, routers

// Keys of the rates.
export const OFFLOADED = { downlink: "offloaded downlink", uplink: "offloaded uplink" };
export const onRouter = (homeAddress, dpid) => `${homeAddress} on ${dpid}`;
export const chosenFlows = (direction) => `chosen ${direction}`;

// Throws what `api` throws, except a refusal of the operator's input, which is shown beside the input.
export async function loadAll() {
  const { chosen, filter } = view;
  view.history ??= (await getJson("v1/traffic?limit=1000")).samples;
  const cursor = view.cursors.at(-1) ?? null;
  const listed = typed(getJson(`v1/bindings?${bindingsQuery(filter, cursor)}`));
  // After the list, so that one reading of the switches' counters serves both.
  const explained = listed.then(() =>
    chosen === null ? {} : typed(getJson(`v1/bindings/${encodeURIComponent(chosen)}/explain`)),
  );
  const [cluster, homeAgents, routers, metrics, bindings, explanation] = await Promise.all([
    getJson("v1/cluster"),
    getJson(`v1/home-agents?limit=${MOST}`),
    getJson(`v1/routers?limit=${MOST}`),
    getText("metrics"),
    listed,
    explained,
  ]);
  view.cluster = cluster;
  view.homeAgents = homeAgents.home_agents;
  view.routers = routers.routers;
  view.counts = bindingsByState(metrics);
  view.offloaded = offloadedBytes(metrics);
  if (view.filter === filter && (view.cursors.at(-1) ?? null) === cursor) {
    view.filterProblem = bindings.refused ?? null;
    view.bindings = bindings.bindings ?? [];
    view.next = bindings.next ?? null;
  }
  if (view.chosen === chosen) {
    view.whyNot = explanation.refused ?? null;
    view.explanation = explanation.path === undefined ? null : explanation;
  }
  view.loaded = Date.now();
  view.trouble = null;
  view.rates.take(view.loaded, counters());
  changed();
}

async function typed(asked) {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof Refused && [404, 422].includes(error.status)) return { refused: error.message };
    throw error;
  }
}

function bindingsQuery(filter, cursor) {
  const query = new URLSearchParams({ limit: PAGE_SIZE });
  if (cursor !== null) query.set("cursor", cursor);
  for (const [name, value] of Object.entries(filter)) if (value !== "") query.set(name, value);
  return query;
}

function* counters() {
  for (const [direction, key] of Object.entries(OFFLOADED)) yield [key, view.offloaded[direction]];
  const shown = new Map(view.bindings.map((binding) => [binding.home_address, binding]));
  const { explanation } = view;
  if (explanation?.binding) shown.set(explanation.binding.home_address, explanation.binding);
  for (const binding of shown.values()) {
    for (const [dpid, router] of Object.entries(binding.routers)) {
      yield [onRouter(binding.home_address, dpid), router.bytes];
    }
  }
  if (explanation === null) return;
  const sums = { downlink: 0, uplink: 0 };
  for (const router of Object.values(explanation.routers)) {
    for (const flow of router.flows) if (flow.kind in sums) sums[flow.kind] += flow.bytes;
  }
  for (const [direction, sum] of Object.entries(sums)) yield [chosenFlows(direction), sum];
}
