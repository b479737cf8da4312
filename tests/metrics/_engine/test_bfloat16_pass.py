import numpy as np
import pytest

from clipreid_kit.metrics import evaluate_reid, low, ranking
from clipreid_kit.metrics._engine.bfloat16_pass import Pace, bfloat16_pays
from clipreid_kit.metrics._engine.embedding_rows import Rows


def feed(pace, seconds):
    """Blocks of 10 pairs until the choice is made; which were multiplied in bfloat16."""
    ways = []
    while not pace.settled:
        ways.append(pace.low)
        pace.took(seconds[pace.low].pop(0), 10)
    return ways


def test_bfloat16_that_beats_what_float32_could_ever_do_needs_no_trial_of_float32():
    pace = Pace(allowance=1.0)
    assert feed(pace, {True: [50.0, 9.0]}) == [True, True]  # the first may wait for memory
    assert pace.low


@pytest.mark.parametrize(("of_float32", "low"), [([30.0, 20.1], True), ([30.0, 19.9], False)])
def test_the_faster_is_chosen_by_the_better_of_two_blocks(of_float32, low):
    pace = Pace(allowance=1.0)
    assert feed(pace, {True: [20.0, 50.0], False: of_float32}) == [True, True, False, False]
    assert pace.low is low
    pace.took(10**9, 1)  # later blocks change nothing
    assert pace.low is low


def test_without_an_allowance_all_is_float32_in_usual_blocks():
    pace = Pace(0.0)
    assert pace.settled
    assert not pace.low
    assert pace.rows(1000) == 1000
    trial = Pace(1.0)
    assert trial.rows(1000) == low._TRIAL
    assert trial.rows(5) == 5


def test_only_large_float32_cosines_on_a_processor_are_tried(monkeypatch):
    monkeypatch.setattr(low, "_GAIN", 0.0)
    monkeypatch.setattr(low, "_LARGE", 7 * 9 * 4)

    def pays(num_queries, num_gallery, dtype=np.float32, distance="cosine"):
        sides = (np.ones((n, 4), dtype=dtype) for n in (num_queries, num_gallery))
        return bfloat16_pays(*(Rows("owner", "rows", side) for side in sides), distance)

    assert pays(7, 9) > 0
    assert pays(7, 8) == 0
    assert pays(7, 9, np.float64) == 0
    assert pays(7, 9, distance="euclidean") == 0
    monkeypatch.setattr(low, "_GAIN", 1e9)
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

    class Told(Pace):
        def took(self, seconds, pairs):
            used.append(self.low)
            super().took(pairs * (2.0 if self.low == float32_wins else 1.0), pairs)

    monkeypatch.setattr(ranking, "bfloat16_pays", lambda *_: 1e-9)
    monkeypatch.setattr(ranking, "Pace", Told)
    monkeypatch.setattr(low, "_TRIAL", 7)
    monkeypatch.setattr(ranking, "_TILE", tile)
    got = evaluate_reid(rows[:90], rows[90:], **sides)
    np.testing.assert_array_equal(got.average_precision, want.average_precision)
    np.testing.assert_array_equal(got.first_rank, want.first_rank)
    assert used[:4] == [True, True, False, False]
    assert set(used[4:]) == {not float32_wins}
