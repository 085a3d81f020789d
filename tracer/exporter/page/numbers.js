// SPDX-License-Identifier: MIT
// Numbers computed from two states of the stream, and how they are written. Nothing here touches the page.

const SLOTS_PER_OCTAVE = 8; // as in tracer/model/histogram.py

/** What was counted between two states: [upper bound in ns or null, count] of each slot, in ascending order. */
export function difference(now, before) {
  const old = new Map(before);
  return now
    .map(([bound, count]) => [bound, count - (old.get(bound) ?? 0)])
    .filter(([, count]) => count > 0);
}

/**
 * The duration in seconds that this share of the calls does not exceed: the geometric middle of the slot, within 4.5 %.
 * Null without calls, Infinity in the overflow slot. The same as quantile_seconds() of tracer/model/histogram.py;
 * tests/kernel/exporter/test_page.py runs both on the same slots.
 */
export function quantile(slots, share) {
  const total = slots.reduce((sum, [, count]) => sum + count, 0);
  if (!total) return null;
  const rank = share * total;
  let below = 0;
  for (const [bound, count] of slots) {
    below += count;
    if (below >= rank) return bound === null ? Infinity : (bound / 1e9) * 2 ** (-0.5 / SLOTS_PER_OCTAVE);
  }
  return Infinity;
}

/** The calls in each octave (doubling of the duration): Map of its upper bound in seconds to the number of calls. */
export function octaves(slots) {
  const result = new Map();
  for (const [bound, count] of slots) {
    const upper = bound === null ? Infinity : 2 ** Math.ceil(Math.log2(bound / 1e9) - 1e-6);
    result.set(upper, (result.get(upper) ?? 0) + count);
  }
  return result;
}

/** A duration with three digits and a unit. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === Infinity) return "> 256 s";
  for (const [unit, size] of [["s", 1], ["ms", 1e-3], ["µs", 1e-6]]) {
    if (seconds >= 0.9995 * size) return `${Number((seconds / size).toPrecision(3))} ${unit}`;
  }
  return `${Number((seconds * 1e9).toPrecision(3))} ns`;
}

/** How many of the errors are failures: all but those with an expected errno. */
export function failureCount(errors, expected) {
  return Object.entries(errors).reduce((sum, [name, n]) => (expected.includes(name) ? sum : sum + n), 0);
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let i = 0;
  while (count >= 1024 && i < units.length - 1) { count /= 1024; i += 1; }
  return `${i ? count.toFixed(1) : count} ${units[i]}`;
}

export function rate(perSecond) {
  if (perSecond === null) return "–";
  return perSecond >= 100 ? Math.round(perSecond).toLocaleString("en") : String(Number(perSecond.toPrecision(3)));
}

export function whole(count) {
  return count.toLocaleString("en");
}
