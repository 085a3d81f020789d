// SPDX-License-Identifier: MIT
// The live page: the event stream, the tables, the charts of the selected operation, the state of the tracer.

import { HeatMap, Percentiles } from "./charts.js";
import { History, keyOf } from "./history.js";
import { failureCount, whole } from "./numbers.js";
import { errorRows, functionRows, operationRows } from "./tables.js";

const RETRY_MS = 1000;
const $ = (id) => document.getElementById(id);
const history = new History();
const heat = new HeatMap($("heat")), percentiles = new Percentiles($("percentiles"));
const operations = operationRows($("operations").tBodies[0], choose);
const functions = functionRows($("functions").tBodies[0]);
const errors = errorRows($("errors").tBodies[0]);
let state = null, chosen = null, paused = false, stream = null, retry = null;

function say(text, kind) {
  if ($("status").textContent !== text) $("status").textContent = text;
  $("status").className = kind;
}

function connect() {
  clearTimeout(retry);
  if (stream || paused || document.hidden) return;
  stream = new EventSource("live");
  stream.onmessage = (message) => {
    const next = JSON.parse(message.data);
    history.add(next);
    state = next;
    say("live", "live");
    show();
  };
  stream.addEventListener("failed", () => say("the tracer cannot read the kernel's maps; its log says why", "broken"));
  stream.onerror = () => {
    say("connection lost, reconnecting", "broken");
    // After an error status the browser does not reconnect, so the page opens a new stream.
    disconnect();
    retry = setTimeout(connect, RETRY_MS);
  };
}

function disconnect() {
  stream?.close();
  stream = null;
}

function choose(key) {
  chosen = key;
  show();
}

function item(series) {
  const key = keyOf(series);
  return { key, series, lately: history.lately(key), expected: state.expected_errnos, percentiles: history.percentiles(key), chosen: key === chosen };
}

const perSecond = ({ lately }) => (lately ? lately.calls / lately.seconds : 0);
const failures = ({ series }) => failureCount(series.errors, state.expected_errnos);
const ORDERS = {
  api: () => 0,
  rate: (a, b) => perSecond(b) - perSecond(a),
  p99: (a, b) => (b.percentiles.p99 ?? -1) - (a.percentiles.p99 ?? -1),
  failing: (a, b) => failures(b) - failures(a),
};

function show() {
  if (!state) return;
  const called = new Set(state.operations.filter(({ count }) => count).map(({ operation }) => operation));
  const items = state.operations
    .filter((series) => series.count || $("idle").checked || keyOf(series) === chosen
      // Calls in flight are counted by operation only: shown here if no transport has returned a call yet.
      || (series.in_progress && !called.has(series.operation)))
    .map((series) => ({ ...item(series), minute: minute(keyOf(series)) }))
    .sort(ORDERS[$("order").value]);
  // Calls in flight are counted by operation, not by transport: shown in its first row.
  const shown = new Set();
  for (const one of items) {
    const key = `${one.series.operation}/${one.series.path}`;
    one.inFlight = shown.has(key) ? null : one.series.in_progress;
    shown.add(key);
  }
  if (chosen === null && items.length) {
    chosen = [...items].sort((a, b) => b.series.count - a.series.count)[0].key;
    items.forEach((one) => { one.chosen = one.key === chosen; });
  }
  operations.show(items);
  showFunctions();
  showChosen();
  showTracer();
}

function minute(key) {
  return history.seconds(key).slice(-60).map(({ calls, seconds }) => (calls ? calls / seconds : 0));
}

function showFunctions() {
  functions.show(state.functions.map(item));
  $("functions-region").hidden = !state.functions.length;
  $("no-functions").hidden = Boolean(state.functions.length);
}

function showChosen() {
  if (!chosen) return;
  const [name, path, transport] = chosen.split("/");
  $("chosen-title").textContent = `${name}, ${transport}, ${path === "user" ? "user space" : "in kernel"}`;
  const seconds = history.seconds(chosen);
  $("heat-text").textContent = heat.draw(seconds);
  percentiles.draw(seconds);
  const series = state.operations.find((one) => keyOf(one) === chosen);
  const lately = history.lately(chosen);
  const list = Object.entries(series?.errors ?? {}).sort((a, b) => b[1] - a[1]);
  errors.show(list.map(([key, total]) => ({ key, total, perSecond: lately ? lately.errors[key] / lately.seconds : null })));
  $("no-errors").hidden = Boolean(list.length);
  $("errors").hidden = !list.length;
}

function showTracer() {
  const { tracer } = state;
  const attached = tracer.probes.filter((probe) => probe.attached).length;
  const lost = Object.values(tracer.lost).reduce((sum, n) => sum + n, 0);
  const missing = tracer.probes.filter((probe) => !probe.attached).map(({ probe }) => probe);
  $("about").textContent = `Linux ${tracer.kernel}, ${tracer.mechanisms.join(" and ") || "no mechanism"}`;
  const facts = {
    Version: tracer.version,
    Kernel: tracer.kernel,
    Mechanism: tracer.mechanisms.join(", "),
    "Probes attached": `${attached} of ${tracer.probes.length}${missing.length ? `; missing: ${missing.join(", ")}` : ""}`,
    "Calls lost": lost ? `${whole(lost)} (${Object.entries(tracer.lost).filter(([, n]) => n).map(([reason, n]) => `${whole(n)} ${state.lost_words[reason] ?? reason}`).join(", ")})` : "0",
    Maps: tracer.maps.map(({ map, entries, capacity }) => `${map} ${whole(entries)} of ${whole(capacity)}`).join(", "),
    "Scrape errors": whole(state.scrape_errors),
    "In flight when tracing began": `${whole(tracer.in_flight_at_start)}, not counted`,
  };
  const list = $("tracer");
  if (!list.children.length) {
    for (const name of Object.keys(facts)) {
      list.append(Object.assign(document.createElement("dt"), { textContent: name }), document.createElement("dd"));
    }
  }
  Object.values(facts).forEach((text, i) => {
    const cell = list.children[2 * i + 1];
    if (cell.textContent !== text) cell.textContent = text;
  });
  list.children[9].classList.toggle("bad", lost > 0);
  list.children[7].classList.toggle("bad", missing.length > 0);
}

function remakeCharts() {
  heat.remake();
  percentiles.remake();
  showChosen();
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Resume" : "Pause";
  if (paused) { clearTimeout(retry); disconnect(); say("paused", ""); } else { say("connecting", ""); connect(); }
});
$("order").addEventListener("change", show);
$("idle").addEventListener("change", show);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) { clearTimeout(retry); disconnect(); if (!paused) say("hidden", ""); } else connect();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", remakeCharts);
new ResizeObserver(() => { if (state) remakeCharts(); }).observe($("chosen"));
connect();
