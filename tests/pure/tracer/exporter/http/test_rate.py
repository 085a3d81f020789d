# SPDX-License-Identifier: MIT
"""The token bucket."""

from tracer.exporter.http.rate import TokenBucket


def test_a_burst_and_then_one_for_each_interval() -> None:
    now = [100.0]
    bucket = TokenBucket(2.0, 3, lambda: now[0])
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now[0] += 1.9
    assert not bucket.take()
    now[0] += 0.2
    assert [bucket.take(), bucket.take()] == [True, False]
    now[0] += 1000
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
