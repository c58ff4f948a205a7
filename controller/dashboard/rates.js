// SPDX-License-Identifier: Apache-2.0
// Computes rates from counters that are read from time to time.

const WINDOW = 7000; // milliseconds; smooths over the controller's reading the switches at most once a second

export class Rates {
  #samples = new Map();

  // Records all counters at a moment ({key: value}) and forgets counters that are missing. A counter that has decreased has
  // started again from 0.
  take(moment, counters) {
    const now = new Map();
    for (const [key, value] of counters) {
      const samples = (this.#samples.get(key) ?? []).filter((sample) => moment - sample.moment <= WINDOW);
      if (samples.length > 0 && samples.at(-1).value > value) samples.length = 0;
      samples.push({ moment, value });
      now.set(key, samples);
    }
    this.#samples = now;
  }

  // Returns the rate per second, null while it is unknown.
  of(key) {
    const samples = this.#samples.get(key);
    if (samples === undefined || samples.length < 2) return null;
    const [first, last] = [samples[0], samples.at(-1)];
    return ((last.value - first.value) * 1000) / (last.moment - first.moment);
  }
}
