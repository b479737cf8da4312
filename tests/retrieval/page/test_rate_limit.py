"""Bursts are allowed, more is not, and time gives it back."""

from clipreid_kit.retrieval.page.rate_limit import RateLimit


def test_a_burst_and_a_rate():
    now = 0.0
    limit = RateLimit(rate=2, burst=3, clock=lambda: now)
    assert [limit.seconds_to_wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    now = 0.5
    assert [limit.seconds_to_wait("a") for _ in range(2)] == [0, 0.5]
    now = 100.0
    assert [limit.seconds_to_wait("a") for _ in range(4)] == [0, 0, 0, 0.5], "at most a burst"


def test_clients_that_are_forgotten_begin_anew(monkeypatch):
    monkeypatch.setattr("clipreid_kit.retrieval.page.rate_limit._MOST_CLIENTS", 2)
    limit = RateLimit(rate=1, burst=1, clock=lambda: 0.0)
    assert [limit.seconds_to_wait(name) for name in "abcab"] == [0, 0, 0, 0, 0]
    assert limit.seconds_to_wait("b") == 1
