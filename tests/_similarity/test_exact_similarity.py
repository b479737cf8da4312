import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit._similarity.exact_similarity import (
    all_products,
    combine_products,
    float64_chunks,
    halving_sum,
    pair_products,
    split_rows,
)


@given(st.integers(1, 70), st.integers(1, 5), st.integers(0, 1000))
def test_halving_sum_does_not_depend_on_the_other_rows(width, rows, seed):
    values = torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, width)))
    before = values.clone()
    whole = halving_sum(values)

    for i in range(rows):
        assert torch.equal(halving_sum(values[i : i + 1]), whole[i : i + 1])

    torch.testing.assert_close(whole, values.sum(dim=1))
    assert torch.equal(values, before)


def rows_of(dim, seed, dtype, spread):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((4, dim)) * 10.0 ** rng.uniform(-spread, spread, (4, dim))
    return torch.from_numpy(rows * 10.0 ** rng.uniform(-spread, spread, (4, 1))).to(dtype)


@given(
    st.sampled_from([1, 2, 3, 64, 65, 512, 1000]),
    st.integers(0, 1000),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.sampled_from([0.0, 2.0]),
)
def test_products_are_exact(dim, seed, dtype, spread):
    split = split_rows(rows_of(dim, seed, dtype, spread), "cosine")
    products = all_products(split, split)
    parts = split.parts.tolist()

    def inner(i, j):
        return sum(Fraction(a) * Fraction(b) for a, b in zip(i, j, strict=True))

    for i in range(2):
        for j in range(2):
            high, middle = (
                inner(parts[i][0], parts[j][0]),
                inner(parts[i][0], parts[j][1]) + inner(parts[i][1], parts[j][0]),
            )

            assert Fraction(products.high[i, j].item()) == high
            assert products.middle[i, j].item() == pytest.approx(
                float(middle), rel=2**-52, abs=1e-300
            )
            assert Fraction(products.low[i, j].item()) == inner(parts[i][1], parts[j][1])


@pytest.mark.parametrize("dim", [2, 7, 64, 512, 4096])
def test_worst_case_still_fits(dim):
    # all entries as large as possible in a unit row of this width, and of one sign
    rows = torch.full((2, dim), 1 / math.sqrt(dim), dtype=torch.float64)
    rows += torch.rand(2, dim, dtype=torch.float64) * 1e-9
    split = split_rows(rows, "cosine")
    products = all_products(split, split)

    for name, left, right in (("high", 0, 0), ("low", 1, 1)):
        want = sum(
            Fraction(a) * Fraction(b)
            for a, b in zip(
                split.parts[0, left].tolist(), split.parts[1, right].tolist(), strict=True
            )
        )

        assert Fraction(getattr(products, name)[0, 1].item()) == want

    one_way = [
        float(sum(Fraction(a) * Fraction(b) for a, b in zip(*x, strict=True)))
        for x in (
            (split.parts[0, 0].tolist(), split.parts[1, 1].tolist()),
            (split.parts[0, 1].tolist(), split.parts[1, 0].tolist()),
        )
    ]

    assert products.middle[0, 1].item() == one_way[0] + one_way[1]


@given(
    st.integers(1, 100),
    st.integers(0, 1000),
    st.sampled_from(["cosine", "euclidean"]),
    st.sampled_from([0.0, 8.0]),
)
def test_close_to_exact_arithmetic_and_independent_of_other_rows(dim, seed, distance, spread):
    rows = (
        rows_of(dim, seed, torch.float32, 0.0) * 10.0 ** torch.linspace(-spread, spread, 4)[:, None]
    )
    split = split_rows(rows, distance)
    block = combine_products(all_products(split, split), split, split, distance)
    exact = [[Fraction(x) for x in row] for row in rows.double().tolist()]

    for i in range(4):
        single = split_rows(rows[i : i + 1], distance)
        assert torch.equal(
            combine_products(all_products(single, split), single, split, distance)[0], block[i]
        )

        repeated = split.take(torch.full((4,), i))
        assert torch.equal(
            combine_products(pair_products(repeated, split), repeated, split, distance), block[i]
        )

        for j in range(4):
            if distance == "euclidean":
                want = -float(sum((a - b) ** 2 for a, b in zip(exact[i], exact[j], strict=True)))
                assert block[i, j].item() == pytest.approx(
                    want, rel=1e-12, abs=1e-25 * float(rows[i].norm()) ** 2
                )
            else:
                dot = sum(a * b for a, b in zip(exact[i], exact[j], strict=True))
                norms = [math.sqrt(sum(a * a for a in row)) for row in (exact[i], exact[j])]
                assert block[i, j].item() == pytest.approx(
                    float(dot) / norms[0] / norms[1], abs=1e-13
                )


def test_zero_rows():
    split = split_rows(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), "cosine")
    assert combine_products(all_products(split, split), split, split, "cosine").tolist() == [
        [0, 0],
        [0, 1],
    ]

    split = split_rows(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), "euclidean")
    assert combine_products(all_products(split, split), split, split, "euclidean").tolist() == [
        [0, -25],
        [-25, 0],
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_chunks_in_float64_are_exact(dtype):
    rows = (torch.arange(-300, 300).view(-1, 3) * 1e-3).to(dtype)
    assert torch.equal(torch.cat([part.clone() for _, part in float64_chunks(rows)]), rows.double())
