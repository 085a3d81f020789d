// SPDX-License-Identifier: MIT
// The tables of the page. Rows are kept and refilled, so that the focus and the position of a screen reader stay.

import { bytes, duration, failureCount, rate, whole } from "./numbers.js";
import { keyOf } from "./history.js";

const SVG = "http://www.w3.org/2000/svg";

function element(name, className = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  return made;
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** The rows of a tbody, by key: `make` builds a row, `fill` writes its cells. */
export class Rows {
  constructor(body, make, fill) { Object.assign(this, { body, make, fill, rows: new Map() }); }

  show(items) {
    const keys = new Set(items.map(({ key }) => key));
    for (const [key, row] of this.rows) if (!keys.has(key)) { row.remove(); this.rows.delete(key); }
    items.forEach((item, i) => {
      if (!this.rows.has(item.key)) this.rows.set(item.key, this.make(item));
      const row = this.rows.get(item.key);
      if (this.body.children[i] !== row) this.body.insertBefore(row, this.body.children[i] ?? null);
      this.fill(row, item);
    });
  }
}

const NUMBERS = ["calls", "rate", "p50", "p99", "errors", "bytes"];

function makeSeries(item, columns, head) {
  const row = element("tr");
  row.dataset.key = item.key;
  row.append(head);
  for (const name of columns) {
    const cell = element("td", NUMBERS.includes(name) || name === "in_progress" ? "number" : "");
    cell.dataset.column = name;
    row.append(cell);
  }
  return row;
}

function fillSeries(row, { series, lately, expected, percentiles, inFlight = null }) {
  const errors = Object.values(series.errors).reduce((sum, n) => sum + n, 0);
  const texts = {
    path: series.path, transport: series.transport, calls: whole(series.count),
    rate: rate(lately ? lately.calls / lately.seconds : null),
    p50: duration(percentiles.p50), p99: duration(percentiles.p99),
    errors: whole(errors), bytes: bytes(series.bytes), in_progress: inFlight === null ? "" : whole(inFlight),
  };
  for (const cell of row.querySelectorAll("td[data-column]")) {
    if (cell.dataset.column in texts) write(cell, texts[cell.dataset.column]);
  }
  const failing = lately && failureCount(lately.errors, expected) > 0;
  row.querySelector('[data-column="errors"]').classList.toggle("bad", Boolean(failing));
  row.classList.toggle("idle", series.count === 0);
}

export function operationRows(body, choose) {
  return new Rows(body, (item) => {
    const head = element("th"), button = element("button");
    head.scope = "row";
    button.type = "button";
    button.textContent = item.series.operation;
    button.addEventListener("click", () => choose(item.key));
    head.append(button);
    const row = makeSeries(item, ["path", "transport", ...NUMBERS, "in_progress", "history"], head);
    const picture = document.createElementNS(SVG, "svg");
    picture.setAttribute("class", "history");
    picture.setAttribute("aria-hidden", "true");
    picture.setAttribute("preserveAspectRatio", "none");
    picture.append(document.createElementNS(SVG, "polyline"));
    row.lastElementChild.append(picture);
    return row;
  }, (row, item) => {
    fillSeries(row, item);
    row.querySelector("button").setAttribute("aria-pressed", String(item.chosen));
    drawHistory(row.querySelector("svg"), item.minute);
  });
}

function drawHistory(picture, minute) {
  const most = Math.max(1, ...minute);
  picture.setAttribute("viewBox", "0 0 60 20");
  const points = minute.map((value, i) => `${60 - minute.length + i + 1},${19 - (18 * value) / most}`);
  picture.firstChild.setAttribute("points", points.join(" "));
}

export function functionRows(body) {
  return new Rows(body, (item) => {
    const head = element("th");
    head.scope = "row";
    head.textContent = item.series.function;
    return makeSeries(item, ["path", "transport", ...NUMBERS], head);
  }, fillSeries);
}

export function errorRows(body) {
  return new Rows(body, (item) => {
    const row = element("tr"), head = element("th");
    head.scope = "row";
    head.textContent = item.key;
    row.dataset.key = item.key;
    row.append(head, element("td", "number"), element("td", "number"));
    return row;
  }, (row, { total, perSecond }) => {
    write(row.children[1], whole(total));
    write(row.children[2], rate(perSecond));
  });
}

export { keyOf };
