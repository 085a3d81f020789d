// SPDX-License-Identifier: MIT
// What can be computed from two states of the stream, and how numbers are written. No page in here.

const OCTAVE = 8;

/** The slots' differences, [upper bound in ns or null, count] each, in ascending order. */
export function difference(now, before) {
  const old = new Map(before);
  return now
    .map(([bound, count]) => [bound, count - (old.get(bound) ?? 0)])
    .filter(([, count]) => count > 0);
}

/** Seconds below which this share of the calls lies; null without calls, Infinity past the last bound. */
export function quantile(slots, share) {
  const total = slots.reduce((sum, [, count]) => sum + count, 0);
  if (!total) return null;
  const rank = share * total;
  let below = 0;
  for (const [bound, count] of slots) {
    if (below + count >= rank) {
      if (bound === null) return Infinity;
      // Logarithmic within the slot, as Prometheus does in a native histogram.
      return (bound / 1e9) * 2 ** (((rank - below) / count - 1) / OCTAVE);
    }
    below += count;
  }
  return Infinity;
}

/** The slots summed up by the octave they lie in: its upper bound in seconds to its count. */
export function octaves(slots) {
  const result = new Map();
  for (const [bound, count] of slots) {
    const upper = bound === null ? Infinity : 2 ** Math.ceil(Math.log2(bound / 1e9) - 1e-6);
    result.set(upper, (result.get(upper) ?? 0) + count);
  }
  return result;
}

/** A duration, three digits and a unit. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === Infinity) return "> 256 s";
  for (const [unit, size] of [["s", 1], ["ms", 1e-3], ["µs", 1e-6]]) {
    if (seconds >= 0.9995 * size) return `${Number((seconds / size).toPrecision(3))} ${unit}`;
  }
  return `${Number((seconds * 1e9).toPrecision(3))} ns`;
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
