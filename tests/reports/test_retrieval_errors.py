"""Hand-made evaluations: six gallery images of two or three identities, and one query."""

import numpy as np
import pytest
import torch
from PIL import Image

from clipreid_kit import evaluate_reid
from clipreid_kit.data import ImageRecord
from clipreid_kit.reports import Evaluation, retrieval_errors
from clipreid_kit.reports.retrieval_errors import colour_histogram

RNG = np.random.default_rng(0)
PATTERNS = {
    name: Image.fromarray(RNG.integers(0, 256, (24, 16, 3), dtype=np.uint8)) for name in "abcdefgh"
}

PATTERNS["r"] = Image.new("RGB", (16, 24), "red")


def angles(*degrees):
    radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def evaluation(query, gallery, *, camera_rule=False):
    """Each image is (identity, angle in degrees, name of its picture)."""
    sides = []
    for side, images in (("q", query), ("g", gallery)):
        records = [
            ImageRecord(f"{name}{side}{number}", identity, camera=number)
            for number, (identity, _, name) in enumerate(images)
        ]
        sides.append((records, angles(*[angle for _, angle, _ in images])))
    (queries, query_rows), (others, rows) = sides
    return Evaluation({}, queries, others, query_rows, rows, None, [], camera_rule)


def load(path):
    return PATTERNS[path[0]]


def errors_of(*arguments, **options):
    return retrieval_errors(evaluation(*arguments, **options), load=load)


TOM, REX = [("tom", 0, "a"), ("tom", 4, "b"), ("tom", 8, "c")], [("rex", 60, "d"), ("rex", 90, "e")]


def test_an_error_is_a_wrong_first_hit():
    errors, count = errors_of([("tom", 2, "f"), ("tom", 40, "g")], [*TOM, *REX])

    assert count == len(errors) == 1
    error = errors[0]
    assert (error.query, error.wrong, error.right, error.rank) == (1, 3, 2, 2)
    assert error.wrong_similarity == pytest.approx(np.cos(np.deg2rad(20)))
    assert error.right_similarity == pytest.approx(np.cos(np.deg2rad(32)))
    assert error.margin == pytest.approx(error.wrong_similarity - error.right_similarity)


def test_the_errors_and_ranks_are_those_of_the_evaluator():
    rng = np.random.default_rng(1)
    rows = torch.from_numpy(rng.normal(size=(60, 3)))
    ids, cameras = rng.integers(0, 5, 60), rng.integers(0, 3, 60)
    records = [
        ImageRecord(f"{'abcdefgh'[n % 8]}{n}", f"id{ids[n]}", camera=int(cameras[n]))
        for n in range(60)
    ]
    found = Evaluation({}, records[:20], records[20:], rows[:20], rows[20:], None, [], True)
    result = evaluate_reid(
        rows[:20],
        rows[20:],
        query_ids=ids[:20],
        gallery_ids=ids[20:],
        query_cameras=cameras[:20],
        gallery_cameras=cameras[20:],
    )

    errors, count = retrieval_errors(found, load=load)
    assert {e.query: e.rank for e in errors} == {
        row: rank for row, rank in enumerate(result.first_rank.tolist()) if rank > 1
    }
    assert count == len(errors) > 5
    margins = [error.margin for error in errors]
    assert margins == sorted(margins, reverse=True)
    assert retrieval_errors(found, max_errors=2, load=load) == (errors[:2], count)


def test_a_tie_is_an_error_and_a_query_without_a_match_is_none():
    errors, _ = errors_of([("tom", 0, "f"), ("new", 0, "g")], [("rex", 5, "a"), ("tom", -5, "b")])
    assert [(error.query, error.margin, error.rank) for error in errors] == [(0, 0, 2)]


def test_images_that_the_protocol_leaves_out_are_no_hits():
    gallery = [("tom", 1, "a"), ("rex", 20, "b"), ("tom", 30, "c")]
    assert errors_of([("tom", 0, "f")], gallery)[1] == 0
    errors, count = errors_of([("tom", 0, "f")], gallery, camera_rule=True)
    assert count == 1
    assert errors[0].right == 2


def test_a_perfect_model_has_none():
    assert errors_of([("tom", 2, "f")], [*TOM, *REX]) == ([], 0)


def test_nearly_the_same_picture_suspects_the_labels():
    same, other = (errors_of([("tom", 55, n)], [*TOM, *REX])[0][0].kinds for n in "df")
    assert "labels" in same
    assert "labels" not in other


def test_more_overlap_than_of_random_pairs_is_the_same_colours():
    others = [("new", 200, "f")] * 30  # without a match, so no errors, but pairs to compare with
    same, other = (errors_of([("tom", 55, n), *others], [*TOM, *REX])[0] for n in "dr")
    assert "colours" in same[0].kinds
    assert len(other) == 1
    assert "colours" not in other[0].kinds


def test_flat_pictures_say_nothing(monkeypatch):
    monkeypatch.setitem(PATTERNS, "d", Image.new("RGB", (8, 8), "red"))
    assert "labels" not in errors_of([("tom", 55, "d")], [*TOM, *REX])[0][0].kinds


def test_three_hits_of_a_near_identity_suspect_the_labels():
    close = [("rex", 60, "d"), ("rex", 62, "e"), ("rex", 64, "h")]
    assert "labels" in errors_of([("tom", 62, "f")], [*TOM, *close])[0][0].kinds
    # as near as images of one identity are not
    assert "labels" not in errors_of([("tom", 45, "f")], [*TOM, *close])[0][0].kinds
    # two of one identity, then another
    mixed = [*close[:2], ("max", 64, "h")]
    assert "labels" not in errors_of([("tom", 62, "f")], [*TOM, *mixed])[0][0].kinds


def test_a_query_far_from_a_dense_identity_suspects_occlusion():
    assert "occlusion" in errors_of([("tom", 50, "f")], [*TOM, *REX])[0][0].kinds
    # an identity of two images has no spread
    assert "occlusion" not in errors_of([("tom", 50, "f")], [*TOM[:2], *REX])[0][0].kinds
    # among images that are as far from each other, the query is one of them
    wide = [("tom", 0, "a"), ("tom", 100, "b"), ("tom", 200, "c")]
    assert "occlusion" not in errors_of([("tom", 50, "f")], [*wide, ("rex", 60, "d")])[0][0].kinds


def test_where_no_rule_applies_the_kind_says_so():
    errors, _ = errors_of([("tom", 40, "f")], [*TOM[:2], *REX])
    assert errors[0].kinds == ("other",)


def test_a_colour_histogram_knows_colours_and_stripes():
    page = Image.new("RGB", (6, 9), "red")
    assert np.minimum(colour_histogram(page), colour_histogram(page)).sum() == pytest.approx(1)

    page.paste((0, 0, 255), (0, 0, 6, 3))
    turned = page.transpose(Image.Transpose.ROTATE_180)
    overlap = np.minimum(colour_histogram(page), colour_histogram(turned)).sum()
    assert overlap == pytest.approx(1 / 3)


def test_impossible_arguments_are_explained():
    found = evaluation([("tom", 2, "f")], TOM)
    with pytest.raises(ValueError, match="max_errors as a whole number >= 1"):
        retrieval_errors(found, max_errors=0)
    found.query_embeddings[0, 0] = torch.nan
    with pytest.raises(ValueError, match="the query embeddings hold NaN or infinity"):
        retrieval_errors(found)
