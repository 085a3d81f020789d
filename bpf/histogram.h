/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a duration in nanoseconds to the slot of a geometric histogram, 8 slots to an octave.
 *
 * Slot i holds durations in (2^((i-1)/8), 2^(i/8)] * 2^SLOT_MIN_EXPONENT seconds. These are the
 * buckets of a Prometheus native histogram of schema 3 and of an OpenTelemetry one of scale 3. Slot
 * 0 also holds everything shorter, slot SLOT_OVERFLOW everything longer than the last bound.
 *
 * A nanosecond is not a power of two of a second, so the duration is first scaled to units of
 * 2^-55 s. The factor has 44 bits and is rounded down. Its relative error, below 2^-44, is smaller
 * than the distance of any bound to the next whole nanosecond (at least 2^-39). So every duration
 * falls into the slot where exact arithmetic puts it, also on a bound: tests/pure/tracer/model/
 * test_histogram.py compiles this file and tries both sides of every bound.
 *
 * Probes    none of its own
 * Maps      none
 * Overhead  docs/benchmarks.md, "Where the time of a traced call goes"
 * Caveats   none; a bucket's bounds are 9 % apart
 */
#pragma once

#define SLOTS_PER_OCTAVE 8
#define SLOT_LIMIT_NS (1ULL << 38)    /* 275 s: the scaled value fills 64 bits */
#define NS_TO_UNITS 18889465931478ULL /* floor(2^74 / 10^9); after >> 19: units of 2^-55 s */

/* The mantissas 2^(1/8) to 2^(7/8), shifted so that the leading bit is bit 63. */
#define MANTISSA_1 0x8b95c1e3ea8bd6e6ULL
#define MANTISSA_2 0x9837f0518db8a96fULL
#define MANTISSA_3 0xa5fed6a9b15138eaULL
#define MANTISSA_4 0xb504f333f9de6484ULL
#define MANTISSA_5 0xc5672a115506daddULL
#define MANTISSA_6 0xd744fccad69d6af4ULL
#define MANTISSA_7 0xeac0c6e7dd24392eULL

/*
 * 1 if `value` is 0, else 0. 1 if `value` > `bound`, else 0, for values that both have bit 63 set
 * or both have not.
 */
#define IS_ZERO(value) (((value)-1) >> 63)
#define IS_ABOVE(value, bound) (((bound) - (value)) >> 63)

/*
 * No branches except at both ends: durations vary, and one mispredicted branch costs as much as the
 * whole function. All values have 64 bits: the compiler masks a narrower index by shifts, and the
 * verifier then loses its bounds.
 */
static __always_inline u64 slot_of(u64 ns)
{
	u64 units, exponent = 63, shift, slot;

	if (ns >= SLOT_LIMIT_NS)
		return SLOT_OVERFLOW;
	/* Two steps, since ns * NS_TO_UNITS does not fit into 64 bits. */
	units = (ns >> 19) * NS_TO_UNITS + (((ns & 0x7ffff) * NS_TO_UNITS) >> 19);

	/* Shift to the left until the leading bit is bit 63; `exponent` is where it was. */
#pragma unroll
	for (u32 width = 5; width <= 5; width--) {
		shift = IS_ZERO(units >> (64 - (1 << width))) << width;
		units <<= shift;
		exponent -= shift;
	}
	if (exponent < SLOT_MIN_EXPONENT + 55)
		return 0;
	slot = (exponent - (SLOT_MIN_EXPONENT + 55)) * SLOTS_PER_OCTAVE + 1;
	slot += IS_ABOVE(units, MANTISSA_1) + IS_ABOVE(units, MANTISSA_2) +
		IS_ABOVE(units, MANTISSA_3) + IS_ABOVE(units, MANTISSA_4) +
		IS_ABOVE(units, MANTISSA_5) + IS_ABOVE(units, MANTISSA_6) +
		IS_ABOVE(units, MANTISSA_7);
	return slot < SLOT_OVERFLOW ? slot : SLOT_OVERFLOW;
}
