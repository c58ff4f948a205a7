// SPDX-License-Identifier: Apache-2.0
// Does something again and again while the page is visible, and never more than a part of the time: what takes the
// controller long is asked for less often.

const EVERY = 2000; // milliseconds
const SOON = 250;
const PART = 5; // a round is followed by a pause of at least so many times its length

export class Poll {
  #round;
  #timer = null;
  #due = Infinity;
  #earliest = 0;
  #running = false;
  #again = false;
  #on = false;

  // `round` returns a promise, which is kept in any case.
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

  // Something has happened: the next round shall not wait.
  soon() {
    this.#again = true;
    this.#plan(Math.max(performance.now() + SOON, this.#earliest));
  }

  // Somebody waits for it.
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
