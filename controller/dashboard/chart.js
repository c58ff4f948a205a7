// SPDX-License-Identifier: Apache-2.0
// Draws rates over time, in both directions, by uPlot in the page's colours.

import uPlot from "./uPlot.esm.js";
import { byId, say, set } from "./dom.js";
import { bitRate } from "./format.js";
import { changed } from "./view.js";

const MOST = 2200; // points: an hour of the page's own, and the hour before it was opened
const HEIGHT = 190;
const SHORTEST = 120; // seconds, the least that the chart covers
const SERIES = ["to mobile nodes", "from mobile nodes"];
const dark = matchMedia("(prefers-color-scheme: dark)");

function inWords([times, ...rates]) {
  if (times.length === 0) return "No traffic yet";
  const all = (each) => rates.map((column, index) => `${bitRate(each(column))} ${SERIES[index]}`).join(", ");
  const highest = (column) => column.reduce((most, rate) => Math.max(most, rate), 0);
  return `Now ${all((column) => column.at(-1))}. Peak since ${timeOfDay(times[0])}: ${all(highest)}.`;
}

const timeOfDay = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

export class RateChart {
  #box;
  #words;
  #chart = null;
  #data = [[], [], []];
  #width = 0;

  // `id` is the element to draw into; the element `id-words` gets the same in words.
  constructor(id) {
    this.#box = byId(id);
    this.#words = byId(`${id}-words`);
    new ResizeObserver(changed).observe(this.#box);
    dark.addEventListener("change", () => {
      this.#width = 0; // forces a new drawing, in the other colours
      changed();
    });
  }

  // Sets the rates from counters at several moments ({time, downlink, uplink}); call it before `add`.
  begin(samples) {
    samples.forEach(({ time, downlink, uplink }, index) => {
      if (index === 0) return;
      const [moment, before] = [Date.parse(time), samples[index - 1]];
      const seconds = (moment - Date.parse(before.time)) / 1000;
      const rates = [(downlink - before.downlink) / seconds, (uplink - before.uplink) / seconds];
      if (seconds > 0 && Math.min(...rates) >= 0) this.add(moment, rates);
    });
  }

  clear() {
    for (const column of this.#data) column.length = 0;
  }

  // Adds the bytes per second in each direction at a moment in milliseconds, unless it is there already.
  add(moment, rates) {
    const [times] = this.#data;
    if (rates.includes(null) || times.at(-1) === moment / 1000) return;
    [moment / 1000, ...rates.map((rate) => 8 * rate)].forEach((value, index) => this.#data[index].push(value));
    if (times.length > MOST) for (const column of this.#data) column.shift();
  }

  draw() {
    const width = this.#box.clientWidth;
    if (width === 0) return;
    if (width === this.#width) this.#chart.setData(this.#data);
    else this.#build(width);
    const text = inWords(this.#data);
    say(this.#words, text);
    set(this.#box, { role: "img", "aria-label": text });
  }

  #build(width) {
    this.#width = width;
    this.#chart?.destroy();
    const colours = getComputedStyle(document.documentElement);
    const colour = (name) => colours.getPropertyValue(name).trim();
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
    const value = (_, rate) => (rate === null ? "–" : bitRate(rate));
    const series = (label, name, more) => ({ label, stroke: colour(name), width: 2, points: { show: false }, value, ...more });
    const options = {
      width,
      height: HEIGHT,
      cursor: { drag: { x: false, y: false } },
      legend: { live: true },
      scales: { x: { range: (_, first, last) => [Math.min(first, last - SHORTEST), last] }, y: { range: (_, low, high) => [0, Math.max(high ?? 0, 1000) * 1.1] } },
      axes: [{ ...axis, space: 80, values: (_, ticks) => ticks.map(timeOfDay) }, { ...axis, size: 82, values: (_, ticks) => ticks.map(bitRate) }],
      series: [
        { label: "time", value: (_, time) => (time === null ? "–" : timeOfDay(time)) },
        series(SERIES[0], "--direct", { fill: colour("--direct-soft") }),
        series(SERIES[1], "--upward", { dash: [8, 4] }),
      ],
    };
    this.#chart = new uPlot(options, this.#data, this.#box);
  }
}
