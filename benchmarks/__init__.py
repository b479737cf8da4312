"""Measurements against the real peers: ratios in one process, interleaved; never part of the tests."""
