// SPDX-License-Identifier: Apache-2.0
// Makes rates of counters that are read now and then.

const WINDOW = 7000; // milliseconds; evens out that the controller reads the switches once a second at most

export class Rates {
  #samples = new Map();

  // Takes all counters of a moment ({key: value}); those that are not among them are forgotten. A counter that is less
  // than before has begun anew.
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

  // Per second, null while that is not known.
  of(key) {
    const samples = this.#samples.get(key);
    if (samples === undefined || samples.length < 2) return null;
    const [first, last] = [samples[0], samples.at(-1)];
    return ((last.value - first.value) * 1000) / (last.moment - first.moment);
  }
}
