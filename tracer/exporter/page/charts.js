// SPDX-License-Identifier: MIT
// The two charts of the selected operation. uPlot draws the axes and lines; the cells of the heat map are drawn on top.

import { duration, octaves, quantile } from "./numbers.js";

const HEIGHT = 220;
const SHORTEST = 30; // seconds; the time axis grows with the history, up to two minutes
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function axes() {
  const look = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  return [
    { ...look, values: (_, ages) => ages.map((age) => (age === 0 ? "now" : `${age} s`)) },
    { ...look, size: 64, values: (_, values) => values.map((value) => (value === null ? "" : duration(value))) },
  ];
}

function options(parent, more) {
  return {
    width: Math.max(200, parent.clientWidth), height: HEIGHT, legend: { show: false }, cursor: { show: false },
    axes: axes(), ...more,
    scales: { x: { time: false, range: (_, oldest) => [Math.min(-SHORTEST, oldest ?? 0), 0] }, y: { distr: 3, log: 2, range: more.range } },
  };
}

/** Two lines, p50 and p99, by age in seconds. */
export class Percentiles {
  constructor(parent) { this.parent = parent; }

  draw(seconds) {
    const columns = [[], [], []];
    for (const second of seconds) {
      const slots = (second.slots ?? []).filter(([bound]) => bound !== null);
      columns[0].push(second.age);
      columns[1].push(quantile(slots, 0.5));
      columns[2].push(quantile(slots, 0.99));
    }
    if (!this.plot) this.make();
    this.plot.setData(columns);
  }

  make() {
    const line = (name, style) => ({ label: name, stroke: colour(style), width: 1.5, points: { show: true, size: 3 } });
    const range = (_, low, high) => (low === null ? [1e-7, 1] : [low / 2, high * 2]);
    this.plot = new uPlot(options(this.parent, { range, series: [{}, line("p50", "--p50"), line("p99", "--p99")] }), [[], [], []], this.parent);
  }

  remake() { this.plot?.destroy(); this.plot = null; }
}

/** A column for each second, a row for each doubling of the duration; darker means more calls. */
export class HeatMap {
  constructor(parent) { this.parent = parent; this.columns = []; }

  /** Draw the chart, and return what it shows in words. */
  draw(seconds) {
    this.columns = seconds.map(({ age, slots, seconds: width }) => ({ age, width, cells: octaves(slots ?? []) }));
    const uppers = this.columns.flatMap(({ cells }) => [...cells.keys()].filter(Number.isFinite));
    this.range = uppers.length ? [Math.min(...uppers) / 2, Math.max(...uppers)] : [2 ** -20, 1];
    this.most = Math.max(1, ...this.columns.flatMap(({ cells }) => [...cells.values()]));
    if (!this.plot) this.make();
    this.plot.setData([[Math.min(0, ...this.columns.map(({ age, width }) => age - (width ?? 0))), 0], this.range]);
    return this.words();
  }

  make() {
    this.plot = new uPlot(options(this.parent, {
      range: () => this.range,
      series: [{}, { paths: () => null, points: { show: false } }],
      hooks: { draw: [(plot) => this.cells(plot)] },
    }), [[], []], this.parent);
  }

  cells(plot) {
    const context = plot.ctx, tint = colour("--heat");
    for (const { age, width, cells } of this.columns) {
      const left = Math.max(plot.valToPos(age - width, "x", true), plot.bbox.left), right = plot.valToPos(age, "x", true);
      for (const [upper, count] of cells) {
        if (!Number.isFinite(upper)) continue;
        const top = plot.valToPos(upper, "y", true), bottom = plot.valToPos(upper / 2, "y", true);
        context.fillStyle = `rgb(${tint} / ${0.12 + 0.88 * Math.sqrt(count / this.most)})`;
        context.fillRect(left, top, Math.max(1, right - left), bottom - top);
      }
    }
  }

  words() {
    const all = new Map();
    for (const { cells } of this.columns) for (const [upper, count] of cells) all.set(upper, (all.get(upper) ?? 0) + count);
    const [upper] = [...all].sort((a, b) => b[1] - a[1])[0] ?? [];
    if (upper === undefined) return "(no calls in the last two minutes)";
    return Number.isFinite(upper) ? `(most take ${duration(upper / 2)} to ${duration(upper)})` : "(most take more than 256 s)";
  }

  remake() { this.plot?.destroy(); this.plot = null; }
}
