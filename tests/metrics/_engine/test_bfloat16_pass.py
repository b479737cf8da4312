import numpy as np
import pytest

from clipreid_kit._similarity.embedding_rows import EmbeddingRows
from clipreid_kit.metrics import evaluate_reid
from clipreid_kit.metrics._engine import bfloat16_pass, count_nonmatches
from clipreid_kit.metrics._engine.bfloat16_pass import PassChoice, bfloat16_allowance


def feed(pace, seconds):
    """Record blocks of 10 pairs until the choice is made; return which were in bfloat16."""
    ways = []
    while not pace.is_settled:
        ways.append(pace.use_bfloat16)
        pace.record(seconds[pace.use_bfloat16].pop(0), 10)

    return ways


def test_fast_bfloat16_is_chosen_without_a_trial_of_float32():
    pace = PassChoice(allowance=1.0)
    assert feed(pace, {True: [50.0, 9.0]}) == [True, True]  # the first may wait for memory
    assert pace.use_bfloat16


@pytest.mark.parametrize(("of_float32", "low"), [([30.0, 20.1], True), ([30.0, 19.9], False)])
def test_the_faster_pass_is_chosen_by_the_better_of_two_blocks(of_float32, low):
    pace = PassChoice(allowance=1.0)
    assert feed(pace, {True: [20.0, 50.0], False: of_float32}) == [True, True, False, False]
    assert pace.use_bfloat16 is low

    pace.record(10**9, 1)  # later blocks change nothing
    assert pace.use_bfloat16 is low


def test_without_an_allowance_all_blocks_are_float32():
    pace = PassChoice(0.0)
    assert pace.is_settled
    assert not pace.use_bfloat16
    assert pace.num_queries(1000) == 1000

    trial = PassChoice(1.0)
    assert trial.num_queries(1000) == bfloat16_pass._TRIAL_QUERIES
    assert trial.num_queries(5) == 5


def test_only_large_float32_cosines_on_a_cpu_are_tried(monkeypatch):
    monkeypatch.setattr(bfloat16_pass, "_MIN_SPEED_UP", 0.0)
    monkeypatch.setattr(bfloat16_pass, "_LARGE", 7 * 9 * 4)

    def pays(num_queries, num_gallery, dtype=np.float32, distance="cosine"):
        sides = (np.ones((n, 4), dtype=dtype) for n in (num_queries, num_gallery))
        return bfloat16_allowance(
            *(EmbeddingRows("owner", "rows", side) for side in sides), distance
        )

    assert pays(7, 9) > 0
    assert pays(7, 8) == 0
    assert pays(7, 9, np.float64) == 0
    assert pays(7, 9, distance="euclidean") == 0

    monkeypatch.setattr(bfloat16_pass, "_MIN_SPEED_UP", 1e9)
    assert pays(7, 9) == 0


@pytest.mark.parametrize("tile", [10**6, 150])
@pytest.mark.parametrize("float32_wins", [False, True])
def test_the_clock_changes_no_bit(monkeypatch, tile, float32_wins):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 20, 400)
    rows = (rng.standard_normal((20, 32))[ids] + 1.5 * rng.standard_normal((400, 32))).astype(
        np.float32
    )
    sides = {"query_ids": ids[:90], "gallery_ids": ids[90:]}
    want = evaluate_reid(rows[:90], rows[90:], **sides)
    used = []

    class FakeClock(PassChoice):
        def record(self, seconds, pairs):
            super().record(pairs * (2.0 if self.use_bfloat16 == float32_wins else 1.0), pairs)

    class Watched(count_nonmatches.QueryBlock):
        def count(self, buffer, *, try_bfloat16):
            used.append(try_bfloat16)
            super().count(buffer, try_bfloat16=try_bfloat16)

    monkeypatch.setattr(count_nonmatches, "QueryBlock", Watched)
    monkeypatch.setattr(count_nonmatches, "bfloat16_allowance", lambda *_: 1e-9)
    monkeypatch.setattr(count_nonmatches, "PassChoice", FakeClock)
    monkeypatch.setattr(bfloat16_pass, "_TRIAL_QUERIES", 7)
    monkeypatch.setattr(count_nonmatches, "_TILE", tile)
    got = evaluate_reid(rows[:90], rows[90:], **sides)

    np.testing.assert_array_equal(got.average_precision, want.average_precision)
    np.testing.assert_array_equal(got.first_rank, want.first_rank)
    assert used[:4] == [True, True, False, False]
    assert set(used[4:]) == {not float32_wins}
