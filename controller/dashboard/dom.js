// SPDX-License-Identifier: Apache-2.0
// Makes elements and keeps them up to date. What comes from the network becomes text or the value of an attribute,
// never markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  set(node, attributes);
  node.append(...children.filter((child) => child !== null));
  return node;
}

// Values are texts or numbers; null takes the attribute away.
export function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null) node.removeAttribute(name);
    else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
  }
}

// Writes only what is new, so that screen readers and selections are left alone.
export function say(node, text) {
  if (node.textContent !== String(text)) node.textContent = text;
}

const children = new WeakMap();

// Makes the children of `parent` stand for `items`, in their order. A child is made once for each key and then updated,
// so that the one with the keyboard's focus keeps it.
export function keyed(parent, items, keyOf, make, update) {
  const before = children.get(parent) ?? new Map();
  const now = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    if (now.has(key)) continue;
    const node = before.get(key) ?? make(item);
    before.delete(key);
    update(node, item);
    now.set(key, node);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of before.values()) node.remove();
  children.set(parent, now);
}

// Rows of a table body: `cells(item)` are texts, or objects {text, …attributes}. The first one heads the row.
export function rows(body, items, keyOf, cells) {
  const heads = body.closest("table").tHead.rows[0].cells;
  const update = (row, item) => {
    cells(item).forEach((cell, index) => {
      const { text, ...attributes } = typeof cell === "object" ? cell : { text: cell };
      if (index === row.cells.length) row.append(index === 0 ? el("th", { scope: "row" }) : el("td"));
      set(row.cells[index], { ...attributes, "data-label": heads[index].textContent });
      say(row.cells[index], text);
    });
  };
  keyed(body, items, keyOf, () => el("tr"), update);
}
