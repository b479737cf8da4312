"""Measurements against the real peers: ratios within one process, never part of the tests."""
