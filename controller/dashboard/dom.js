// SPDX-License-Identifier: Apache-2.0
// Makes elements and updates them. Data from the network becomes text or an attribute's value, never markup.

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

// Sets attributes to texts or numbers; null removes one.
export function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null) node.removeAttribute(name);
    else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
  }
}

// Sets an element's text only if it differs, so as not to disturb screen readers and selections.
export function say(node, text) {
  if (node.textContent !== String(text)) node.textContent = text;
}

const children = new WeakMap();

// Makes the children of `parent` match `items`, in their order. Each key's child is made once and then updated, so that
// it keeps the keyboard's focus.
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

// Updates the rows of a table body: `cells(item)` are texts or objects {text, …attributes}; the first is the row's header.
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
