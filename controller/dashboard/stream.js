// SPDX-License-Identifier: Apache-2.0
// Follows the controller's server-sent events (HTML Living Standard section 9.2). By fetch, as EventSource can't show
// a token.

import { Unauthorized, request } from "./api.js";

const SILENCE = 60_000; // milliseconds; event_heartbeat is 30 s at the most
const LONGEST_WAIT = 15_000;
const LONGEST_LINE = 1_000_000; // characters

export class EventStream {
  #listener;
  #lastId = null;
  #run = null;
  #retry = 1000;
  #failures = 0;

  // `listener` has event(name, data), of which name `reset` says that some were lost; up(), down(), unauthorized(detail).
  constructor(listener) {
    this.#listener = listener;
  }

  start() {
    if (this.#run === null) {
      this.#run = new AbortController();
      this.#keepOn(this.#run.signal);
    }
  }

  stop() {
    this.#run?.abort();
    this.#run = null;
  }

  async #keepOn(stopped) {
    while (!stopped.aborted) {
      try {
        await this.#follow(stopped);
      } catch (error) {
        if (stopped.aborted) return;
        if (error instanceof Unauthorized) {
          this.#run = null;
          this.#listener.unauthorized(error.message);
          return;
        }
      }
      if (stopped.aborted) return;
      this.#listener.down();
      const wait = Math.min(LONGEST_WAIT, this.#retry * 2 ** this.#failures);
      this.#failures += 1;
      await new Promise((done) => setTimeout(done, wait));
    }
  }

  async #follow(stopped) {
    const silent = new AbortController();
    const signal = AbortSignal.any([stopped, silent.signal]);
    let timer = setTimeout(() => silent.abort(), SILENCE);
    try {
      const after = this.#lastId === null ? "?after=0" : "";
      const headers = { Accept: "text/event-stream", ...(this.#lastId === null ? {} : { "Last-Event-ID": this.#lastId }) };
      const answer = await request(`v1/events${after}`, { headers, signal });
      this.#listener.up();
      this.#failures = 0;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new Parser();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        clearTimeout(timer);
        timer = setTimeout(() => silent.abort(), SILENCE);
        for (const block of parser.feed(part.value)) this.#take(block);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #take({ id, retry, name, data }) {
    if (id !== undefined) this.#lastId = id;
    if (retry !== undefined) this.#retry = retry;
    if (data === undefined) return;
    this.#listener.event(name, JSON.parse(data));
  }
}

// Cuts a stream of text into blocks of fields.
export class Parser {
  #rest = "";
  #block = {};

  *feed(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    if (this.#rest.length > LONGEST_LINE) throw new Error("a line without an end");
    for (const line of lines) {
      const ended = this.#line(line.replace(/\r$/, ""));
      if (ended !== null) yield ended;
    }
  }

  #line(line) {
    if (line === "") {
      const ended = this.#block;
      this.#block = {};
      return ended;
    }
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (field === "id") this.#block.id = value;
    if (field === "event") this.#block.name = value;
    if (field === "data") this.#block.data = (this.#block.data === undefined ? "" : `${this.#block.data}\n`) + value;
    if (field === "retry" && /^\d+$/.test(value)) this.#block.retry = Number(value);
    return null;
  }
}
