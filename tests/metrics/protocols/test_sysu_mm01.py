import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import cross_modality as oracle
from oracles import reid
from protocol_rows import check_rows, on_circle

from clipreid_kit import SysuMM01Protocol

VISIBLE = [1, 2, 4, 5]


@st.composite
def drawn_sides(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    num_queries, num_gallery = draw(st.integers(1, 6)), draw(st.integers(1, 16))
    rows = [
        rng.integers(-2, 3, (n, 3)).astype(np.float32) + 0.0 for n in (num_queries, num_gallery)
    ]
    columns = {
        "query_ids": rng.integers(0, 3, num_queries),
        "gallery_ids": rng.integers(0, 4, num_gallery),
        "query_cameras": rng.choice([3, 6], num_queries),
        "gallery_cameras": rng.choice(VISIBLE, num_gallery),
    }
    return rows[0], rows[1], columns


def test_by_hand():
    # of camera 3: 7 at 10 degrees is by camera 2 and skipped, as is the wrong image at 5 degrees;
    # left are 3 at 20 and 21 (one identity), 7 at 30, 8 at 40
    gallery = on_circle(10, 5, 20, 21, 30, 40)
    columns = {
        "gallery_ids": [7, 8, 3, 3, 7, 8],
        "gallery_cameras": [2, 2, 1, 4, 1, 5],
    }
    results = SysuMM01Protocol(num_splits=3).evaluate(
        on_circle(0, 0), gallery, query_ids=[7, 7], query_cameras=[3, 6], **columns
    )
    result = results.results[0]

    # both images of 3 stand above: AP and INP count two, Rank-k one
    assert result.average_precision[0] == pytest.approx(1 / 3)
    assert result.first_rank[0] == 2
    # of camera 6: 8 at 5, 7 at 10, 3, 3, 7 at 30
    assert result.average_precision[1] == pytest.approx((1 / 2 + 2 / 5) / 2)
    assert result.inverse_negative_penalty[1] == pytest.approx(2 / 5)
    assert result.first_rank[1] == 2
    assert result.num_gallery == 6
    assert results.std("mean_ap") == 0  # each identity has one image of a camera to draw
    assert results.protocol == "SYSU-MM01 all-search single-shot, 3 draws (seed 0)"


def test_indoor_search_leaves_out_the_outdoor_cameras():
    gallery = on_circle(1, 2, 30, 40)
    results = SysuMM01Protocol("indoor", num_shots=10, num_splits=2).evaluate(
        on_circle(0),
        gallery,
        query_ids=["a"],
        gallery_ids=["b", "a", "a", "b"],
        query_cameras=["6"],
        gallery_cameras=["4", "5", "1", "2"],
    )
    assert results.results[0].num_gallery == 2
    assert results.rank(1) == 1
    assert results.protocol == "SYSU-MM01 indoor-search 10-shot, 2 draws (seed 0)"


@given(
    drawn_sides(),
    st.sampled_from(["all", "indoor"]),
    st.integers(1, 3),
    st.sampled_from(["pessimistic", "optimistic", "mean"]),
    st.sampled_from(["cosine", "euclidean"]),
)
def test_each_draw_equals_brute_force(sides, search, num_shots, ties, distance):
    queries, gallery, columns = sides
    protocol = SysuMM01Protocol(search, num_shots, num_splits=2, ties=ties, distance=distance)
    draws = list(protocol.draws(columns["gallery_ids"], columns["gallery_cameras"]))
    similarity = reid.exact(queries, gallery, distance)
    want = [oracle.sysu_mm01(similarity, *columns.values(), rows, ties) for rows in draws]

    if not any(row for rows in want for row in rows):
        with pytest.raises(ValueError, match="SysuMM01Protocol: no query has a match"):
            protocol.evaluate(queries, gallery, **columns)
        return

    found = protocol.evaluate(queries, gallery, **columns)
    for result, rows in zip(found.results, want, strict=True):
        check_rows(result, rows)


@given(drawn_sides(), st.integers(1, 3), st.integers(0, 5))
def test_a_gallery_has_so_many_images_of_each_identity_and_camera(sides, num_shots, seed):
    _, _, columns = sides
    pairs = list(
        zip(columns["gallery_ids"].tolist(), columns["gallery_cameras"].tolist(), strict=True)
    )
    protocol = SysuMM01Protocol(num_shots=num_shots, num_splits=3, seed=seed)
    for rows in protocol.draws(columns["gallery_ids"], columns["gallery_cameras"]):
        assert sorted(set(rows.tolist())) == rows.tolist()
        drawn = [pairs[row] for row in rows]
        for pair in set(pairs):
            assert drawn.count(pair) == min(num_shots, pairs.count(pair))


def test_every_image_is_drawn_in_time_and_the_first_draws_stay():
    ids, cameras = [1] * 4 + [2], [1] * 4 + [2]
    few = [rows.tolist() for rows in SysuMM01Protocol(num_splits=5).draws(ids, cameras)]
    many = [rows.tolist() for rows in SysuMM01Protocol(num_splits=40).draws(ids, cameras)]
    other = [rows.tolist() for rows in SysuMM01Protocol(num_splits=40, seed=1).draws(ids, cameras)]

    assert many[:5] == few
    assert many != other
    assert {rows[0] for rows in many} == {0, 1, 2, 3}


def test_fixed_draws():
    permutations = {(7, 1): np.array([[2, 0, 1], [1, 2, 0]]), (3, 4): np.array([[0], [0]])}
    ids, cameras = [7, 3, 7, 7], [1, 4, 1, 1]
    protocol = SysuMM01Protocol(num_shots=2, num_splits=2)
    draws = protocol.draws(ids, cameras, permutations=permutations)
    # the rows of identity 7 by camera 1 are 0, 2, 3
    assert [rows.tolist() for rows in draws] == [[0, 1, 3], [1, 2, 3]]

    options = {"query_ids": [7], "query_cameras": [6], "gallery_ids": ids}
    results = protocol.evaluate(
        on_circle(0),
        on_circle(9, 5, 3, 2),
        **options,
        gallery_cameras=cameras,
        permutations=permutations,
    )
    assert results.protocol == "SYSU-MM01 all-search 2-shot, 2 fixed draws"
    assert [result.first_rank.tolist() for result in results.results] == [[1], [1]]


@pytest.mark.parametrize(
    ("permutations", "message"),
    [
        ({}, "permutations has no trial 1 of identity 7 and camera 1. Leave it out"),
        ({(7, 1): np.array([[0]])}, "no trial 2 of identity 7"),
        ({(7, 1): np.array([[0], [4]])}, "names image 5 of identity 7 and camera 1, but"),
    ],
)
def test_fixed_draws_that_do_not_fit(permutations, message):
    protocol = SysuMM01Protocol(num_splits=2)
    with pytest.raises(ValueError, match=message):
        list(protocol.draws([7, 7], [1, 1], permutations=permutations))


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        (([1], [1]), "query_cameras has camera 1; the infrared cameras are 3, 6"),
        (([3], [6]), "gallery_cameras has camera 6; the visible cameras are 1, 2, 4, 5"),
        (([7], [1]), "query_cameras from 1 to 6, as SYSU-MM01 numbers them, got '7'"),
    ],
)
def test_cameras_of_another_side(cameras, message):
    rows = on_circle(0)
    with pytest.raises(ValueError, match=message):
        SysuMM01Protocol().evaluate(
            rows,
            rows,
            query_ids=[1],
            gallery_ids=[1],
            query_cameras=cameras[0],
            gallery_cameras=cameras[1],
        )


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search": "outdoor"}, "expected search to be one of all, indoor"),
        ({"num_shots": 0}, "expected num_shots as a whole number >= 1"),
        ({"num_splits": 0}, "expected num_splits as a whole number >= 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        SysuMM01Protocol(**options)
