import copy
import functools
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit import cosine_ramp, linear_ramp, warmup_cosine_factor
from clipreid_kit.losses import WeightedSum, sum_losses

terms_and_weights = st.dictionaries(
    st.sampled_from(["id", "triplet", "text", "center"]),
    st.tuples(st.floats(-10, 10, width=32), st.floats(0, 5)),
    min_size=1,
)


def scalars(**values):
    return {name: torch.tensor(float(value)) for name, value in values.items()}


@given(terms_and_weights)
def test_the_total_is_the_sum_of_the_parts(pairs):
    total, parts = sum_losses(
        {n: torch.tensor(v) for n, (v, _) in pairs.items()}, {n: w for n, (_, w) in pairs.items()}
    )

    assert total.item() == pytest.approx(sum(v * w for v, w in pairs.values()), abs=1e-4)
    assert {n: p.item() for n, p in parts.items()} == {
        n: pytest.approx(v * w, abs=1e-5) for n, (v, w) in pairs.items()
    }


@pytest.mark.parametrize("balance", ["none", "magnitude", "uncertainty"])
def test_parts_add_up_and_carry_no_gradient(balance):
    loss = WeightedSum({"a": 1.0, "b": 2.0}, balance=balance)

    for parameter in loss.parameters():
        parameter.data.fill_(0.7)

    x = torch.tensor(3.0, requires_grad=True)
    total, parts = loss({"a": x, "b": x * x})

    assert list(parts) == ["a", "b"]
    assert total.item() == pytest.approx(sum(p.item() for p in parts.values()))
    assert total.requires_grad
    assert not any(p.requires_grad for p in parts.values())


def test_ramps_follow_the_step():
    loss = WeightedSum(
        {
            "id": 1.0,
            "linear": functools.partial(linear_ramp, start=2, end=6, final=3.0),
            "cosine": functools.partial(cosine_ramp, start=0, end=4),
            "there and back": functools.partial(
                warmup_cosine_factor, warmup_steps=2, total_steps=8
            ),
        }
    )
    values = scalars(**{"id": 1, "linear": 1, "cosine": 1, "there and back": 1})

    for step in range(8):
        _, parts = loss(values, step=step)
        assert parts["id"].item() == 1
        assert parts["linear"].item() == pytest.approx(linear_ramp(step, 2, 6, final=3.0))
        assert parts["cosine"].item() == pytest.approx(cosine_ramp(step, 0, 4))
        assert parts["there and back"].item() == pytest.approx(warmup_cosine_factor(step, 2, 8))

    assert pickle.loads(pickle.dumps(loss))(values, step=4)[0] == loss(values, step=4)[0]
    assert copy.deepcopy(loss)(values, step=4)[0] == loss(values, step=4)[0]


def test_weight_zero_keeps_the_graph():
    x = torch.ones((), requires_grad=True)
    total, _ = sum_losses({"a": 3 * x}, {"a": 0.0})
    total.backward()

    assert total.item() == 0
    assert x.grad.item() == 0


def test_half_precision_terms_are_added_in_float32():
    terms = {
        "a": torch.tensor(2048.0, dtype=torch.float16),
        "b": torch.tensor(1.0, dtype=torch.float16),
    }
    total, parts = sum_losses(terms, {"a": 1.0, "b": 1.0})

    assert total.item() == 2049  # 2048 in float16
    assert total.dtype == parts["b"].dtype == torch.float32


@pytest.mark.parametrize("balance", ["none", "magnitude", "uncertainty"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_bad_term_shows_under_its_name_and_changes_no_state(balance, bad, weight):
    loss = WeightedSum({"id": 1.0, "triplet": weight}, balance=balance)
    before, _ = loss(scalars(id=2, triplet=1))
    total, parts = loss(scalars(id=2, triplet=bad))

    assert not total.isfinite()
    assert [name for name, part in parts.items() if not part.isfinite()] == ["triplet"]
    assert all(held.isfinite() for held in loss.state_dict().values())

    after, _ = loss(scalars(id=2, triplet=1))

    assert after.item() == pytest.approx(before.item())


def test_magnitude_by_hand():
    loss = WeightedSum({"id": 1.0, "triplet": 3.0}, balance="magnitude", momentum=0.5)

    # means 8 and 2; their mean by weight (8 + 3 * 2) / 4 = 3.5: each term counts 3.5 for each unit
    # of weight
    total, parts = loss(scalars(id=8, triplet=2))

    assert {name: part.item() for name, part in parts.items()} == {"id": 3.5, "triplet": 10.5}
    assert total.item() == 14  # as without balance: 8 + 3 * 2

    # means 0.5 * 8 + 0.5 * 4 = 6 and 2; their mean (6 + 3 * 2) / 4 = 3
    _, parts = loss(scalars(id=4, triplet=2))

    assert {name: part.item() for name, part in parts.items()} == {"id": 2.0, "triplet": 9.0}


def test_magnitude_makes_a_dominating_term_as_large_as_its_weight():
    loss = WeightedSum({"id": 1.0, "supcon": 1.0}, balance="magnitude", limit=100)
    noise = torch.rand(200, 2, generator=torch.Generator().manual_seed(1))
    share = []
    for a, b in noise.tolist():
        total, parts = loss(scalars(id=20 + a, supcon=0.2 + b / 10))
        share.append((parts["id"] / total).item())

    assert sum(share) / len(share) == pytest.approx(0.5, abs=0.03)


def test_magnitude_factors_stay_within_the_limit():
    loss = WeightedSum({"id": 1.0, "triplet": 1.0}, balance="magnitude", limit=4)
    _, parts = loss(scalars(id=1, triplet=1e-6))

    assert parts["triplet"].item() == pytest.approx(4e-6)  # and not 0.5

    _, parts = WeightedSum({"a": 1.0, "b": 1e4}, balance="magnitude", limit=4)(scalars(a=1, b=1e-6))

    assert parts["a"].item() == pytest.approx(1 / 4)


def test_magnitude_ignores_terms_that_are_zero():
    loss = WeightedSum({"id": 1.0, "triplet": 1.0}, balance="magnitude")
    total, _ = loss(scalars(id=3, triplet=0))

    assert total.item() == 3

    total, _ = WeightedSum({"id": 0.0}, balance="magnitude")(scalars(id=3))

    assert total.item() == 0


def test_magnitudes_are_updated_in_training_only_and_are_saved():
    loss = WeightedSum({"id": 1.0, "triplet": 1.0}, balance="magnitude")
    loss(scalars(id=8, triplet=2))
    state = {name: value.clone() for name, value in loss.state_dict().items()}

    assert {name: value.item() for name, value in state.items()} == {
        "magnitude_id": 8,
        "magnitude_triplet": 2,
    }

    loss.eval()(scalars(id=1, triplet=7))

    assert all(torch.equal(value, state[name]) for name, value in loss.state_dict().items())

    again = WeightedSum({"id": 1.0, "triplet": 1.0}, balance="magnitude").eval()
    again.load_state_dict(state)

    assert again(scalars(id=8, triplet=2))[0].item() == 10
    with pytest.raises(RuntimeError, match="magnitude_triplet"):
        WeightedSum({"id": 1.0, "supcon": 1.0}, balance="magnitude").load_state_dict(state)


def test_magnitude_factors_have_no_gradient():
    x = torch.tensor(3.0, requires_grad=True)
    loss = WeightedSum({"a": 1.0, "b": 1.0}, balance="magnitude")
    total, _ = loss({"a": x, "b": torch.tensor(1.0)})
    total.backward()

    assert x.grad.item() == pytest.approx((3 + 1) / 2 / 3)


def test_magnitudes_average_over_all_ranks(monkeypatch):
    def gather_twice(owner, *tensors, options):
        return tuple(torch.cat([rows, 3 * rows]) for rows in tensors)

    monkeypatch.setattr("clipreid_kit.losses.weighted_sum.gather_batch", gather_twice)
    loss = WeightedSum({"a": 1.0}, balance="magnitude", distributed=True)
    loss(scalars(a=2))

    assert loss.magnitude_a.item() == 4

    loss = WeightedSum({"a": 1.0}, balance="magnitude")
    loss(scalars(a=2))

    assert loss.magnitude_a.item() == 2


def test_uncertainty_by_hand():
    loss = WeightedSum({"id": 2.0, "triplet": 1.0}, balance="uncertainty")
    loss.log_variance_id.data.fill_(math.log(4.0))  # sigma = 2
    total, parts = loss(scalars(id=8, triplet=3))

    assert parts["id"].item() == pytest.approx(2 * (8 / 4 + math.log(2)))
    assert parts["triplet"].item() == pytest.approx(3)

    total.backward()

    assert loss.log_variance_id.grad.item() == pytest.approx(2 * (-8 / 4 + 0.5))


def test_uncertainty_finds_its_optimum():
    loss = WeightedSum({"noisy": 1.0, "clean": 1.0}, balance="uncertainty")
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)

    for _ in range(400):
        optimizer.zero_grad()
        loss(scalars(noisy=5, clean=0.1))[0].backward()
        optimizer.step()

    # d/ds (L exp(-s) + s / 2) = 0 where sigma^2 = exp(s) = 2 L
    assert loss.log_variance_noisy.exp().item() == pytest.approx(10, rel=0.01)
    assert loss.log_variance_clean.exp().item() == pytest.approx(0.2, rel=0.01)


def test_errors():
    loss = WeightedSum({"id": 1.0, "triplet": 1.0})

    with pytest.raises(
        ValueError,
        match=r"no weight for the term 'triplets', only for id, triplet\. Did you mean 'triplet'\?",
    ):
        loss(scalars(id=1, triplets=1))

    with pytest.raises(
        ValueError, match=r"the term 'flow', only for id, triplet\. Give it a weight"
    ):
        loss(scalars(id=1, triplet=1, flow=2))

    with pytest.raises(
        ValueError, match=r"WeightedSum: the term 'triplet' is missing; the given terms are: id\."
    ):
        loss(scalars(id=1))

    with pytest.raises(
        ValueError, match=r"sum_losses: the term 'id' is missing; the given terms are: none\."
    ):
        sum_losses({}, {"id": 1.0})

    with pytest.raises(
        ValueError, match=r"term 'id' as a floating-point scalar, got shape \(3,\).*Take its mean"
    ):
        loss({"id": torch.ones(3), "triplet": torch.ones(())})

    with pytest.raises(ValueError, match=r"term 'id' as a floating-point scalar, got .*int64"):
        loss({"id": torch.ones((), dtype=torch.long), "triplet": torch.ones(())})

    with pytest.raises(
        ValueError, match=r"the weight of 'a' depends on the step\. Pass step=epoch"
    ):
        WeightedSum({"a": functools.partial(linear_ramp, start=0, end=1)})(scalars(a=1))

    with pytest.raises(ValueError, match=r"weight of a >= 0 and finite, got -1"):
        WeightedSum({"a": lambda step: -1.0})(scalars(a=1), step=0)

    with pytest.raises(ValueError, match=r"weight of a >= 0 and finite, got nan"):
        WeightedSum({"a": math.nan})

    with pytest.raises(ValueError, match="at least one weight, got none"):
        WeightedSum({})

    with pytest.raises(
        ValueError,
        match=r"'loss\.id' cannot be the name of a term\. A name is not empty and has no dot",
    ):
        WeightedSum({"loss.id": 1.0})

    with pytest.raises(ValueError, match=r"momentum in \[0, 1\), got 1"):
        WeightedSum({"a": 1.0}, momentum=1.0)

    with pytest.raises(ValueError, match=r"limit >= 1, got 0\.5"):
        WeightedSum({"a": 1.0}, limit=0.5)


@pytest.mark.unhooked
def test_errors_of_type():
    with pytest.raises(
        ValueError, match="balance to be one of none, magnitude, uncertainty, got 'auto'"
    ):
        WeightedSum({"a": 1.0}, balance="auto")

    with pytest.raises(ValueError, match="term 'a' as a tensor, got float"):
        WeightedSum({"a": 1.0})({"a": 1.0})


@pytest.mark.unhooked
@pytest.mark.parametrize("balance", ["magnitude", "uncertainty"])
def test_compiles_in_training_mode(balance):
    torch._dynamo.reset()
    plain = WeightedSum(
        {"a": 1.0, "b": functools.partial(linear_ramp, start=0, end=4)}, balance=balance
    )
    compiled = copy.deepcopy(plain)
    call = torch.compile(compiled, fullgraph=True, backend="aot_eager")

    for step in range(3):
        values = scalars(a=step + 1, b=2)
        assert call(values, step=step)[0].item() == pytest.approx(
            plain(values, step=step)[0].item()
        )

    assert {n: v.item() for n, v in compiled.state_dict().items()} == {
        n: v.item() for n, v in plain.state_dict().items()
    }
