import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import expansion as oracle

from clipreid_kit.metrics import database_augmentation, query_expansion
from clipreid_kit.metrics.reranking import query_expansion as query_expansion_module


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    dim = draw(st.integers(2, 6))
    queries, gallery = (
        rng.standard_normal((draw(st.integers(1, 15)), dim)).astype(np.float32) for _ in "qg"
    )

    if draw(st.booleans()):
        gallery[-1] = gallery[0]

    return queries, gallery, draw(st.integers(1, 18)), draw(st.sampled_from([None, 0.0, 1.0, 3.0]))


@given(cases(), st.sampled_from([1, 64, 1 << 22]))
def test_equals_the_loop(case, chunk):
    queries, gallery, k, alpha = case
    before, query_expansion_module._CHUNK = query_expansion_module._CHUNK, chunk

    try:
        got = query_expansion(
            torch.from_numpy(queries), torch.from_numpy(gallery), k=k, alpha=alpha
        )
        augmented = database_augmentation(torch.from_numpy(gallery), k=k, alpha=alpha)
    finally:
        query_expansion_module._CHUNK = before

    np.testing.assert_allclose(got, oracle.expand(queries, gallery, k, alpha), atol=2e-5)
    np.testing.assert_allclose(
        augmented, oracle.expand(gallery, gallery, k, alpha, skip_self=True), atol=2e-5
    )


def test_improves_clusters():
    rng = np.random.default_rng(0)
    ids = np.arange(200) % 10
    centres = rng.standard_normal((10, 16))
    rows = torch.from_numpy(centres[ids] + 1.2 * rng.standard_normal((200, 16))).float()
    right = torch.from_numpy(centres[ids]).float()

    def nearness(x, truth):
        return torch.nn.functional.cosine_similarity(x, truth).mean()

    plain = nearness(rows[:40], right[:40])
    assert nearness(query_expansion(rows[:40], rows[40:], k=8), right[:40]) > plain + 0.1
    assert nearness(query_expansion(rows[:40], rows[40:], k=8, alpha=3), right[:40]) > plain + 0.05
    assert nearness(database_augmentation(rows, k=8), right) > nearness(rows, right) + 0.1


def test_scale_does_not_matter_and_rows_are_unit():
    rng = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(5, 4, generator=rng), torch.randn(9, 4, generator=rng)
    plain = query_expansion(queries, gallery, k=3, alpha=2)
    scaled = query_expansion(100 * queries, gallery * torch.rand(9, 1, generator=rng), k=3, alpha=2)

    torch.testing.assert_close(plain, scaled)
    torch.testing.assert_close(plain.norm(dim=1), torch.ones(5))


def test_farther_rows_count_less_with_a_larger_alpha():
    query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    towards = [query_expansion(query, gallery, k=1, alpha=a)[0, 1].item() for a in (0, 1, 3, 50)]

    assert towards == sorted(towards, reverse=True)
    assert towards[0] == pytest.approx(query_expansion(query, gallery, k=1)[0, 1].item())
    assert towards[-1] < 1e-6


def test_opposite_rows_have_no_weight_with_alpha():
    query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]])
    assert query_expansion(query, gallery, k=1, alpha=0.0).tolist() == [[1.0, 0.0]]
    assert query_expansion(query, gallery, k=1).tolist() == [[0.0, 0.0]]  # they cancel out


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precisions(dtype):
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    want = torch.float64 if dtype == torch.float64 else torch.float32

    assert query_expansion(rows[:2], rows[2:], k=2).dtype == want
    assert database_augmentation(rows, k=2).dtype == want


def test_one_row_of_gallery():
    torch.testing.assert_close(
        database_augmentation(torch.tensor([[3.0, 4.0]])), torch.tensor([[0.6, 0.8]])
    )


def test_inputs_are_unchanged_and_there_is_no_gradient():
    rows = torch.randn(6, 4, requires_grad=True)
    copy = rows.detach().clone()

    assert not query_expansion(rows[:2], rows[2:]).requires_grad
    assert not database_augmentation(rows).requires_grad
    assert torch.equal(rows, copy)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k as a whole number >= 1, got 0"),
        ({"alpha": -1.0}, "alpha >= 0, got -1.0"),
        ({"alpha": float("nan")}, "alpha >= 0, got nan"),
    ],
)
def test_bad_options(options, message):
    rows = torch.eye(3)
    with pytest.raises(ValueError, match=f"query_expansion: expected {message}"):
        query_expansion(rows, rows, **options)
    with pytest.raises(ValueError, match=f"database_augmentation: expected {message}"):
        database_augmentation(rows, **options)


@pytest.mark.unhooked
def test_bad_rows():
    with pytest.raises(ValueError, match="query_expansion: expected finite gallery_embeddings"):
        query_expansion(torch.eye(3), torch.eye(3) / 0)
    with pytest.raises(ValueError, match="of one width"):
        query_expansion(torch.eye(3), torch.eye(4))
    with pytest.raises(ValueError, match="gallery_embeddings has no rows"):
        database_augmentation(torch.eye(3)[:0])
