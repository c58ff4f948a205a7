// SPDX-License-Identifier: Apache-2.0
// Formats figures, times and names.

const PREFIXES = ["", "k", "M", "G", "T", "P"];

function scaled(value, unit) {
  let place = 0;
  while (Math.abs(value) >= 1000 && place < PREFIXES.length - 1) {
    value /= 1000;
    place += 1;
  }
  const digits = place === 0 || Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${PREFIXES[place]}${unit}`;
}

export const bytes = (value) => scaled(value, "B");
export const bitRate = (value) => scaled(value, "bit/s");
export const count = (value) => value.toLocaleString("en");

// Formats seconds as a person would say them.
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 2 * 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 48 * 3600) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} days`;
}

// Formats an RFC 3339 time in the browser's time zone, with the date if it is not today.
export function clock(text) {
  const moment = new Date(text);
  if (Number.isNaN(moment.getTime())) return text;
  const time = moment.toLocaleTimeString("en-GB");
  const today = moment.toDateString() === new Date().toDateString();
  return today ? time : `${moment.toLocaleDateString("en-CA")} ${time}`;
}

// Names a router by its datapath id without leading zeros.
export const router = (dpid) => `router ${dpid.replace(/^0+(?=.)/, "")}`;

export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// Returns the link of a care-of address, its /64 (RFC 4291 section 2.5.4).
export function link(careOfAddress) {
  if (!careOfAddress.includes(":")) return careOfAddress;
  const [head, tail] = careOfAddress.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : 8 - left.length - right.length;
  const network = [...left, ...Array(Math.max(0, zeros)).fill("0"), ...right].slice(0, 4);
  while (network.length > 1 && network.at(-1) === "0") network.pop();
  return `${network.join(":")}::/64`;
}

// Shortens a home address to what follows its /64; a prefix, such as a mobile network's, stays whole.
export function shortAddress(address) {
  if (address.includes("/")) return address;
  const [head, tail] = address.split("::");
  return tail !== undefined && tail !== "" && head.split(":").length <= 4 ? `::${tail}` : address;
}

export const PATHS = {
  direct: { mark: "●", words: "Direct" },
  "home-agent": { mark: "◇", words: "Via home agent" },
  mixed: { mark: "◐", words: "Mixed" },
  home: { mark: "⌂", words: "No binding" },
};

// The path of a binding's traffic, by the binding's state.
export const PATH_OF_STATE = {
  active: "direct",
  partial: "mixed",
  pending: "home-agent",
  idle: "home-agent", // its first packet, which brings the flows
  held: "home-agent",
  withheld: "home-agent",
};
