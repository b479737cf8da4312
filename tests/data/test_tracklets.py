from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.data import (
    ImageRecord,
    check_tracklets,
    group_stills,
    tracklet_numbers,
    tracklet_rows,
)

FIRST = ImageRecord("a.jpg", 1, camera=2, tracklet="t", frame=0)
SECOND = ImageRecord("b.jpg", 1, camera=2, tracklet="t", frame=1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99)), unique=True))
def test_rows_of_a_tracklet_are_in_the_order_of_its_frames(pairs):
    records = [
        ImageRecord(f"{n}.jpg", tracklet % 2, camera=tracklet, tracklet=tracklet, frame=frame)
        for n, (tracklet, frame) in enumerate(pairs)
    ]
    found = tracklet_rows(records)
    numbers = tracklet_numbers(records).tolist()

    assert sorted(row for rows in found for row in rows) == list(range(len(records)))
    for number, rows in enumerate(found):
        assert {numbers[row] for row in rows} == {number}
        assert len({pairs[row][0] for row in rows}) == 1
        frames = [pairs[row][1] for row in rows]
        assert frames == sorted(frames)


def test_without_frames_rows_stay_in_their_order():
    assert tracklet_rows([replace(FIRST, frame=None)] * 3) == [[0, 1, 2]]


def test_no_records_have_no_tracklets():
    assert tracklet_rows([]) == []
    assert tracklet_numbers([]).tolist() == []


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"identity": 3}, r"tracklet 't' has two identities, 1 \(a\.jpg\) and 3 \(b\.jpg\)\. Give"),
        ({"camera": None}, r"tracklet 't' has two cameras, 2 \(a\.jpg\) and None \(b\.jpg\)\."),
        ({"tracklet": None}, r"b\.jpg has no tracklet\. .* group_stills\."),
        ({"frame": None}, r"1 of 2 images of tracklet 't' have no frame \(b\.jpg\)\."),
        ({"frame": 0}, r"two images of tracklet 't' have the same frame\."),
    ],
)
def test_a_tracklet_that_is_none_is_an_error(second, message):
    with pytest.raises(ValueError, match=f"^check_tracklets: {message}"):
        check_tracklets([FIRST, replace(SECOND, **second)])


def test_stills_are_grouped_by_split_identity_and_camera():
    stills = [
        ImageRecord("a.jpg", 1, camera=2, split="query"),
        ImageRecord("b.jpg", 1, camera=2, split="gallery"),
        ImageRecord("c.jpg", 1, camera=3, split="gallery"),
        ImageRecord("d.jpg", 1, camera=2, split="gallery", tracklet="before", frame=7),
        ImageRecord("e.jpg", 4, camera=2, split="gallery"),
    ]
    grouped = group_stills(stills)

    assert tracklet_rows(grouped) == [[0], [1, 3], [2], [4]]
    assert [record.path for record in grouped] == [record.path for record in stills]
