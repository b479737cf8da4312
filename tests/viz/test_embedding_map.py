import sys

import numpy as np
import pytest
import torch

from clipreid_kit.viz import embedding_map_figure, embedding_positions
from clipreid_kit.viz.embedding_map import hue_of

GENERATOR = torch.Generator().manual_seed(0)
CENTRES = 8 * torch.randn(3, 6, generator=GENERATOR)
IDS = np.repeat(np.arange(3), 8)
ROWS = CENTRES[IDS] + 0.3 * torch.randn(24, 6, generator=GENERATOR)


def share_beside_own(positions):
    """Share of points whose nearest other point is of the same identity."""
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return (IDS[distance.argmin(axis=1)] == IDS).mean()


@pytest.mark.parametrize("method", ["tsne", "pca", "umap"])
def test_neighbours_stay_neighbours_and_the_seed_decides(method):
    if method == "umap":
        pytest.importorskip("umap", reason="umap-learn is not installed")
    first = embedding_positions(ROWS, method=method, seed=3)
    assert first.shape == (24, 2)
    assert (first.min(), first.max()) == (0, 1)
    assert share_beside_own(first) == 1
    assert np.array_equal(embedding_positions(ROWS, method=method, seed=3), first)


def test_the_length_of_a_row_does_not_count():
    lengths = torch.rand(24, 1, generator=GENERATOR) + 0.5
    found = embedding_positions(lengths * ROWS, method="pca")
    np.testing.assert_allclose(found, embedding_positions(ROWS, method="pca"), atol=1e-5)


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_few_or_equal_rows_have_places_too(method):
    assert embedding_positions(ROWS[:4], method=method).shape == (4, 2)
    of_one_number = embedding_positions(torch.tensor([[1.0], [-1.0]] * 3), method=method)
    assert of_one_number.shape == (6, 2)
    same = embedding_positions(torch.ones(5, 1), method=method)
    np.testing.assert_allclose(same, 0, atol=1e-6)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("rows", "options", "text"),
    [
        (ROWS[:3], {}, "at least 4 embeddings, got 3"),
        (ROWS.where(torch.arange(24)[:, None] != 5, torch.nan), {}, "NaN or infinity in row 5"),
        (ROWS, {"method": "mds"}, "method to be one of tsne, umap, pca"),
        (ROWS, {"perplexity": 0.5}, "perplexity >= 1"),
        (ROWS, {"seed": -1}, "seed as a whole number >= 0"),
        (ROWS.numpy(), {}, "embeddings as a tensor"),
    ],
)
def test_impossible_arguments_are_explained(rows, options, text):
    with pytest.raises(ValueError, match=text):
        embedding_positions(rows, **options)


@pytest.mark.parametrize(
    ("method", "module", "package"),
    [("tsne", "sklearn.manifold", r"clipreid_kit\[maps\]"), ("umap", "umap", "umap-learn")],
)
def test_a_missing_package_is_named(monkeypatch, method, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        embedding_positions(ROWS, method=method)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_panels_are_of_identities_and_of_cameras(theme):
    places = np.stack([np.arange(6.0), np.zeros(6)], axis=1)
    ids, cameras = ["$a", "b", "b", "$a", "b", "c"], [10, 2, 2, 10, 2, 2]
    figure = embedding_map_figure(places, identities=ids, cameras=cameras, theme=theme)
    of_ids, of_cameras = figure.axes

    drawn = {group.get_label(): group.get_offsets()[:, 0].tolist() for group in of_ids.collections}
    assert drawn == {"$a": [0, 3], "b": [1, 2, 4], "c": [5]}
    assert [group.get_label() for group in of_cameras.collections] == ["2", "10"]
    assert [text.get_text() for text in of_ids.texts] == ["$a", "b", "c"]
    assert of_cameras.get_legend() is not None
    marks = {str(group.get_paths()[0].vertices.shape) for group in of_cameras.collections}
    assert len(marks) == 2


def test_many_identities_are_not_named():
    places = np.random.default_rng(0).random((60, 2))
    (axes,) = embedding_map_figure(places, identities=list(range(60))).axes
    assert not axes.texts
    assert axes.get_title(loc="left") == "60 identities"


def test_hues_of_the_first_groups_lie_apart():
    hues = sorted(hue_of(index) for index in range(8))
    gaps = np.diff([*hues, hues[0] + 1])
    assert gaps.min() > 0.08


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("places", "ids", "text"),
    [
        (np.zeros((0, 2)), [], "at least one image"),
        (np.zeros((2, 3)), [0, 1], r"positions \(N, 2\)"),
        (np.full((1, 2), np.nan), [0], "finite positions"),
        (np.zeros((2, 2)), [0], "identities as 2 ids"),
    ],
)
def test_impossible_maps_are_explained(places, ids, text):
    with pytest.raises(ValueError, match=text):
        embedding_map_figure(places, identities=ids)
