// SPDX-License-Identifier: Apache-2.0
// Reads the metrics that the page shows from Prometheus' text format.

const LINE = /^(\w+)\{(.*)\} ([-+.eE0-9]+)$/gm;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

function* series(text, name) {
  for (const [, found, labels, value] of text.matchAll(LINE)) {
    if (found !== name) continue;
    yield [Object.fromEntries([...labels.matchAll(LABEL)].map(([, label, content]) => [label, content])), Number(value)];
  }
}

// Returns {state: number of bindings}.
export function bindingsByState(text) {
  const counts = { active: 0, partial: 0, pending: 0, idle: 0, held: 0, withheld: 0 };
  for (const [labels, value] of series(text, "hoaflow_bindings")) counts[labels.state] += value;
  return counts;
}

// Returns the bytes that all routers have carried past the home agents, by direction.
export function offloadedBytes(text) {
  const sums = { downlink: 0, uplink: 0 };
  for (const [labels, value] of series(text, "hoaflow_offloaded_bytes_total")) sums[labels.direction] += value;
  return sums;
}
