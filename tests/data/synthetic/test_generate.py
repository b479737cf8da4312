import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipreid_kit.data.synthetic import SyntheticReid

DATA = SyntheticReid(24)


def digest(data, *which):
    return hashlib.sha256(data.render(*which).tobytes()).hexdigest()


def test_an_image_does_not_depend_on_what_was_drawn_before():
    forward = [digest(DATA, identity, 1, 2) for identity in range(6)]
    again = SyntheticReid(24)
    assert [digest(again, identity, 1, 2) for identity in reversed(range(6))] == forward[::-1]


def test_an_image_does_not_depend_on_the_size_of_the_set():
    larger = SyntheticReid(50, num_cameras=6, views_per_camera=5, split_fractions=(0.5, 0.2, 0.3))
    assert digest(larger, 7, 2, 1) == digest(DATA, 7, 2, 1)
    assert larger.caption(7, 2, 1) == DATA.caption(7, 2, 1)
    assert larger.identities[:24] == DATA.identities


def test_every_image_is_its_own():
    seen = {
        digest(DATA, identity, camera, view)
        for identity in range(4)
        for camera in range(4)
        for view in range(3)
    }
    assert len(seen) == 48


def test_seeds_differ():
    assert digest(SyntheticReid(24, seed=1), 0, 0, 0) != digest(DATA, 0, 0, 0)


def test_another_process_draws_the_same():
    code = (
        "import hashlib; from clipreid_kit.data.synthetic import SyntheticReid; data = SyntheticReid(24); "
        "print(hashlib.sha256(data.render(3, 1, 0).tobytes()).hexdigest(), data.caption(3, 1, 0), sep='|')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == f"{digest(DATA, 3, 1, 0)}|{DATA.caption(3, 1, 0)}"


def test_global_generators_are_neither_read_nor_moved():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = digest(DATA, 2, 0, 0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert digest(SyntheticReid(24), 2, 0, 0) == first


@pytest.mark.parametrize("size", [(64, 64), (128, 64), (32, 96), (45, 37)])
def test_sizes_are_height_and_width(size):
    picture = SyntheticReid(4, image_size=size).render(1, 0, 0)
    assert (picture.height, picture.width) == size
    assert picture.mode == "RGB"
    assert np.asarray(picture).std() > 10


def test_records_name_every_image_once_in_order():
    records = DATA.records()
    assert len(records) == len({record.path for record in records}) == 24 * 4 * 3
    assert records[7 * 12 + 2 * 3 + 1].path == "images/0007_c2_v1.png"
    for record in records:
        assert record.path == f"images/{record.identity:04d}_c{record.camera}_v{record.view}.png"
        assert record.caption == DATA.caption(record.identity, record.camera, int(record.view))


@settings(max_examples=25, deadline=None)
@given(
    num_identities=st.integers(3, 30),
    num_cameras=st.integers(2, 4),
    views=st.integers(2, 4),
    weights=st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(1, 9)),
    data=st.data(),
)
def test_splits_share_no_identity_and_queries_have_positives_elsewhere(
    num_identities, num_cameras, views, weights, data
):
    query_views = data.draw(st.integers(1, views - 1))
    reid = SyntheticReid(
        num_identities,
        num_cameras=num_cameras,
        views_per_camera=views,
        split_fractions=tuple(weight / sum(weights) for weight in weights),
        query_views=query_views,
    )
    by_split = {}
    for record in reid.records():
        by_split.setdefault(record.split, []).append(record)
    assert set(by_split) <= {"train", "val_query", "val_gallery", "query", "gallery"}
    groups = [
        {record.identity for name in names for record in by_split.get(name, [])}
        for names in (("train",), ("val_query", "val_gallery"), ("query", "gallery"))
    ]
    assert sum(map(len, groups)) == len(set.union(*groups)) == num_identities
    assert groups[0]
    assert groups[2]
    for query, gallery in (("query", "gallery"), ("val_query", "val_gallery")):
        held = {(record.identity, record.camera) for record in by_split.get(gallery, [])}
        for record in by_split.get(query, []):
            others = {camera for identity, camera in held if identity == record.identity} - {
                record.camera
            }
            assert others == set(range(num_cameras)) - {record.camera}
    asked = len(by_split["query"])
    assert asked == len(groups[2]) * num_cameras * query_views


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_identities": 0}, "num_identities as a whole number >= 1, got 0"),
        ({"num_identities": 2}, "num_identities >= 3, one for each split, got 2"),
        ({"num_cameras": 1}, "num_cameras as a whole number >= 2, got 1"),
        ({"views_per_camera": 1}, "views_per_camera as a whole number >= 2, got 1"),
        ({"seed": -1}, "seed as a whole number >= 0, got -1"),
        ({"image_size": (31, 64)}, "image_size height as a whole number >= 32, got 31"),
        ({"image_size": (64, 8)}, "image_size width as a whole number >= 32, got 8"),
        ({"query_views": 0}, "query_views as a whole number >= 1, got 0"),
        (
            {"query_views": 3},
            "query_views < views_per_camera = 3, so that the gallery keeps a view, got 3",
        ),
        ({"split_fractions": (0.5, 0.5, 0.5)}, "split_fractions that sum to 1"),
    ],
)
def test_bad_arguments_are_refused(options, text):
    with pytest.raises(ValueError, match=f"SyntheticReid: expected {text}"):
        SyntheticReid(**options)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_identities": 2.5}, r"num_identities as a whole number >= 1, got 2\.5"),
        ({"seed": True}, "seed as a whole number >= 0, got True"),
        ({"image_size": (64,)}, r"image_size as \(height, width\), got \(64,\)"),
    ],
)
def test_arguments_of_wrong_types_are_refused(options, text):
    with pytest.raises(ValueError, match=f"SyntheticReid: expected {text}"):
        SyntheticReid(**options)


@pytest.mark.parametrize(
    "which", [(24, 0, 0), (0, 4, 0), (0, 0, 3), (-1, 0, 0), (0, -1, 0), (0, 0, -1)]
)
def test_images_that_do_not_exist_are_refused(which):
    with pytest.raises(
        ValueError,
        match=r"SyntheticReid\.render: expected (identity|camera|view) from 0 to \d+, got",
    ):
        DATA.render(*which)
    with pytest.raises(ValueError, match=r"SyntheticReid\.caption: expected"):
        DATA.caption(*which)


def test_the_contact_sheet_holds_the_pictures():
    sheet = DATA.contact_sheet(identities=[5, 2], views=2, gap=6)
    assert sheet.size == (8 * 70 + 6, 2 * 70 + 6)
    middle = (20, 20, 44, 44)  # inside the rounded corners
    for row, identity in enumerate((5, 2)):
        for column in range(8):
            left, top = 6 + column * 70, 6 + row * 70
            tile = sheet.crop((left, top, left + 64, top + 64)).crop(middle)
            assert (
                tile.tobytes()
                == DATA.render(identity, column // 2, column % 2).crop(middle).tobytes()
            )
    assert sheet.getpixel((2, 2)) == (255, 255, 255)


def test_the_contact_sheet_spreads_its_rows():
    assert DATA.contact_sheet(3).tobytes() == DATA.contact_sheet(identities=[0, 8, 16]).tobytes()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_identities": 25}, "num_identities from 1 to 24, got 25"),
        ({"num_identities": 0}, "num_identities from 1 to 24, got 0"),
        ({"views": 4}, "views from 1 to views_per_camera = 3, got 4"),
        ({"gap": -1}, "gap >= 0 pixels, got -1"),
        ({"identities": [24]}, "identity from 0 to 23, got 24"),
        ({"identities": []}, "at least one identity"),
    ],
)
def test_impossible_contact_sheets_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        DATA.contact_sheet(**options)
