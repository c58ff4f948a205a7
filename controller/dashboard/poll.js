// SPDX-License-Identifier: Apache-2.0
// Repeats something while the page is visible, with pauses in proportion to its duration, so that a slow controller is
// asked less often.

const EVERY = 2000; // milliseconds
const SOON = 250;
const PART = 5; // the pause after a round is at least this many times the round's duration

export class Poll {
  #round;
  #timer = null;
  #due = Infinity;
  #earliest = 0;
  #running = false;
  #again = false;
  #on = false;

  // `round` returns a promise that never rejects.
  constructor(round) {
    this.#round = round;
  }

  start() {
    if (this.#on) return;
    this.#on = true;
    this.soon();
  }

  stop() {
    this.#on = false;
    clearTimeout(this.#timer);
    this.#due = Infinity;
  }

  // Skips the wait before the next round, because something has happened.
  soon() {
    this.#again = true;
    this.#plan(Math.max(performance.now() + SOON, this.#earliest));
  }

  // Starts a round at once, because somebody waits for it.
  now() {
    this.#again = true;
    this.#plan(performance.now());
  }

  #plan(due) {
    if (!this.#on || this.#running || due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => this.#go(), Math.max(0, due - performance.now()));
  }

  async #go() {
    this.#due = Infinity;
    this.#running = true;
    this.#again = false;
    const begun = performance.now();
    await this.#round();
    this.#running = false;
    const pause = (performance.now() - begun) * PART;
    this.#earliest = performance.now() + Math.max(SOON, pause);
    this.#plan(this.#again ? this.#earliest : performance.now() + Math.max(EVERY, pause));
  }
}
