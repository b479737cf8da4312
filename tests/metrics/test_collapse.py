import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.losses import InfoNCELoss, SupConLoss, TripletLoss
from clipreid_kit.metrics import chance_level_losses, check_collapse, pair_cosines


def by_loops(rows, labels):
    same, other = [], []
    for i in range(len(rows)):
        for j in range(len(rows)):
            if i != j:
                lengths = math.sqrt(sum(x * x for x in rows[i]) * sum(x * x for x in rows[j]))
                cosine = (
                    sum(x * y for x, y in zip(rows[i], rows[j], strict=True)) / lengths
                    if lengths
                    else 0.0
                )
                (same if labels[i] == labels[j] else other).append(cosine)

    return [sum(group) / len(group) if group else None for group in (same, other)]


@given(st.lists(st.integers(-2, 3), max_size=9), st.integers(0, 10_000), st.booleans())
def test_equals_a_loop_over_pairs(labels, seed, with_zeros):
    rows = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(seed)) * 10.0 ** (
        seed % 7 - 3
    )

    if with_zeros:
        rows[::3] = 0

    got = pair_cosines(rows, torch.tensor(labels, dtype=torch.long))
    for value, wanted in zip(got, by_loops(rows.tolist(), labels), strict=True):
        assert value == (None if wanted is None else pytest.approx(wanted, abs=1e-6))


def test_large_equal_rows_keep_their_digits():
    rows = torch.randn(1, 512).repeat(5000, 1) + 1e-3 * torch.randn(5000, 512)
    cosines = F.normalize(rows.double())[:600] @ F.normalize(rows.double())[:600].T
    got = pair_cosines(rows[:600], torch.arange(600))

    assert got.positive is None
    assert got.negative == pytest.approx(
        (cosines.sum() - cosines.trace()).item() / (600 * 599), abs=1e-9
    )
    assert 0.999 < pair_cosines(rows.bfloat16(), torch.arange(5000) // 2).positive <= 1 + 1e-7


def test_order_labels_and_scale_change_nothing():
    rows, labels = torch.randn(12, 8, requires_grad=True), torch.arange(12) // 3
    order = torch.randperm(12)
    moved = pair_cosines(rows[order] * 7, (labels[order] * 1000 - 5).int())

    assert moved == pytest.approx(pair_cosines(rows, labels), abs=1e-6)


def test_a_row_with_nan():
    rows = torch.eye(4)
    rows[0, 0] = math.nan
    assert all(math.isnan(value) for value in pair_cosines(rows, torch.tensor([0, 0, 1, 1])))


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_floors_equal_the_losses_of_equal_embeddings(temperature):
    rows, labels = torch.randn(1, 8).repeat(12, 1), torch.arange(12) // 3
    other = torch.randn(1, 8).repeat(12, 1)
    supcon, triplet = SupConLoss(temperature), TripletLoss(0.3)
    found = {
        "supcon_image": supcon(rows, labels),
        "supcon_text": supcon(rows, labels, other, labels),
        "info_nce": InfoNCELoss(temperature, label_smoothing=0.1)(rows, other),
        "triplet": triplet(rows, labels),
        "triplet_text": triplet(rows, labels, other, labels),
        "id": F.cross_entropy(torch.full((12, 4), 3.0), labels, label_smoothing=0.1),
    }
    floors = chance_level_losses(12, 4, margin=0.3)

    assert set(found) == set(floors)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(floors, rel=1e-5)
    assert TripletLoss(None)(rows, labels).item() == pytest.approx(
        chance_level_losses(12, margin=None)["triplet"]
    )
    assert "id" not in chance_level_losses(12)
    assert chance_level_losses(1)["supcon_image"] == 0

    values = {name: value.item() for name, value in found.items()}
    assert (
        len(check_collapse(values, floors, negative_cosine=pair_cosines(rows, labels).negative))
        == 7
    )


def test_warnings_follow_the_thresholds():
    floors = {"id": 4.0, "triplet": 0.0}
    for value, num_warnings in [(4.0, 1), (3.981, 1), (4.019, 1), (3.979, 0), (4.021, 0), (0.0, 0)]:
        assert len(check_collapse({"id": value}, floors)) == num_warnings

    assert (
        check_collapse({"id": 3.9, "triplet": 0.0, "other": 4.0}, floors, negative_cosine=0.99)
        == []
    )
    assert len(check_collapse({"id": 3.9}, floors, tolerance=0.05)) == 1
    assert (
        "mean cosine of 0.9901: embeddings have collapsed"
        in check_collapse({}, {}, negative_cosine=0.9901)[0]
    )
    assert check_collapse({}, {}, negative_cosine=0.9901, max_cosine=1.0) == []
    assert check_collapse({"id": 4.0}, floors) == [
        "id is 4.0000, near its chance level of 4.0000: nothing is learned"
    ]
    assert check_collapse({"id": math.nan, "triplet": math.inf}, floors) == [
        "id is nan",
        "triplet is inf",
    ]


def test_warns_of_a_run_that_collapses_and_not_of_one_that_learns():
    labels = torch.arange(16) // 4
    loss, floors = SupConLoss(0.1), chance_level_losses(16)
    inputs = torch.randn(4, 8)[labels] + 0.3 * torch.randn(16, 8)

    for wrong in (True, False):
        torch.manual_seed(0)
        model = torch.nn.Linear(8, 8)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)

        for _ in range(150):
            # every row is its own class, and all texts are equal: nothing can be learned
            own = torch.arange(16) if wrong else labels
            texts = torch.ones(16, 8) if wrong else model(inputs.roll(1, 0))
            value = loss(model(inputs), own, texts, own if wrong else labels.roll(1, 0))
            optimizer.zero_grad()
            (
                value + (1 - F.cosine_similarity(model(inputs), texts)).mean() if wrong else value
            ).backward()
            optimizer.step()

        cosines = pair_cosines(model(inputs), labels)
        found = check_collapse(
            {"supcon_text": value.item()}, floors, negative_cosine=cosines.negative
        )

        assert len(found) == (2 if wrong else 0)


@pytest.mark.unhooked
def test_errors():
    with pytest.raises(ValueError, match="pair_cosines: expected labels as 2 integers"):
        pair_cosines(torch.eye(2), torch.arange(3))
    with pytest.raises(ValueError, match="num_rows as a whole number >= 1, got 0"):
        chance_level_losses(0)
    with pytest.raises(ValueError, match="num_identities as a whole number >= 1, got 0"):
        chance_level_losses(4, 0)
    with pytest.raises(ValueError, match="margin >= 0, got -1"):
        chance_level_losses(4, margin=-1.0)
    with pytest.raises(ValueError, match=r"max_cosine in \[-1, 1\], got 99"):
        check_collapse({}, {}, max_cosine=99)
    with pytest.raises(ValueError, match="tolerance >= 0, got -1"):
        check_collapse({}, {}, tolerance=-1.0)
