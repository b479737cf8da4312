from collections import Counter

import pytest

from clipreid_kit.data import ImageRecord, apply_split, split_queries


def images(per_identity, cameras=None):
    """Records of identities 0, 1, ... with these numbers of images, by the cameras in turn."""
    records = []
    for identity, count in enumerate(per_identity):
        for number in range(count):
            camera = cameras[number % len(cameras)] if cameras else None
            records.append(ImageRecord(f"set/{identity}_{number}.jpg", identity, camera=camera))
    return records


def test_every_query_has_a_match_and_every_image_a_side():
    records = images((3, 1, 4, 2))
    divided = apply_split(records, split_queries(records, query_images=2))

    assert Counter(r.identity for r in divided if r.split == "query") == {0: 2, 2: 2, 3: 1}
    assert Counter(r.identity for r in divided) == {0: 3, 1: 1, 2: 4, 3: 2}


def test_a_query_keeps_a_match_of_another_camera():
    records = images((3, 3), cameras=(1, 1, 2))
    records += images((0, 0, 2), cameras=(1, 1))  # one camera alone gives no query
    divided = apply_split(records, split_queries(records, query_images=3))

    for query in (record for record in divided if record.split == "query"):
        others = {
            r.camera for r in divided if r.split == "gallery" and r.identity == query.identity
        }
        assert others - {query.camera}
    assert {record.identity for record in divided if record.split == "query"} == {0, 1}


def test_the_draw_depends_on_seed_and_names_alone():
    records = images((9, 9))
    first = split_queries(records, seed=3)
    assert split_queries(records[::-1], seed=3).splits == first.splits
    draws = {split_queries(records, seed=seed).splits["query"] for seed in range(8)}
    assert len(draws) > 1


def test_parts_have_the_given_names():
    assert set(split_queries(images((2,)), names=("probe", "known")).splits) == {"probe", "known"}


@pytest.mark.parametrize("cameras", [None, (5,)])
def test_no_query_is_an_error(cameras):
    records = images((1, 1) if cameras is None else (3, 2), cameras)
    with pytest.raises(ValueError, match="split_queries: none of the 2 identities has images from"):
        split_queries(records)


def test_no_records_are_an_error():
    with pytest.raises(ValueError, match="split_queries: there are no records to split"):
        split_queries([])
