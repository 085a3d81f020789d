// SPDX-License-Identifier: MIT
// The last two minutes of each series, one state for each second.

import { difference, quantile } from "./numbers.js";

const SECONDS = 120;
const WINDOW = 10; // seconds: the percentiles in the table are of the last ten

export const keyOf = (series) => `${series.operation ?? series.function}/${series.path}/${series.transport}`;

export class History {
  constructor() { this.clear(); }

  clear() {
    this.times = [];
    this.states = []; // one Map of key to series for each time
  }

  /** Add a state; true if the tracer was restarted, which clears all earlier states. */
  add(state) {
    const series = new Map([...state.operations, ...state.functions].map((one) => [keyOf(one), one]));
    const last = this.states.at(-1);
    const restarted = Boolean(last) && (state.session !== this.session
      || [...last].some(([key, one]) => (series.get(key)?.count ?? 0) < one.count));
    if (restarted) this.clear();
    this.session = state.session;
    this.times.push(state.at_seconds);
    this.states.push(series);
    while (this.times.length > SECONDS + 1) { this.times.shift(); this.states.shift(); }
    return restarted;
  }

  /** What was counted in one series between the states i and j. */
  between(key, i, j) {
    const now = this.states[j]?.get(key), before = this.states[i]?.get(key);
    const seconds = this.times[j] - this.times[i];
    if (!now || !(seconds > 0)) return null;
    return {
      seconds,
      calls: now.count - (before?.count ?? 0),
      slots: difference(now.slots, before?.slots ?? []),
      errors: Object.fromEntries(Object.entries(now.errors).map(([name, n]) => [name, n - (before?.errors[name] ?? 0)])),
    };
  }

  /** What was counted in the last second. */
  lately(key) {
    const last = this.times.length - 1;
    return last < 1 ? null : this.between(key, last - 1, last);
  }

  /** Percentiles of the last ten seconds. */
  percentiles(key) {
    const last = this.times.length - 1;
    const slots = this.between(key, Math.max(0, last - WINDOW), last)?.slots ?? [];
    return { p50: quantile(slots, 0.5), p99: quantile(slots, 0.99) };
  }

  /** Each second, oldest first: its end in seconds relative to now, and what was counted. */
  seconds(key) {
    const now = this.times.at(-1);
    return this.times.slice(1).map((time, i) => ({ age: time - now, ...this.between(key, i, i + 1) }));
  }
}
