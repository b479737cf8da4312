"""Kills that the slow part leaves out, because those of another miner are much like them."""

from test_resume import kill_between_two_minings


def test_kills_between_two_minings_of_hard_negatives(tmp_path, images):
    changes = ("mining.data=hard_negative", "mining.num_negatives=2")
    kill_between_two_minings(tmp_path, images, *changes)
