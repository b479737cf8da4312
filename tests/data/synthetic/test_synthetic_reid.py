import hashlib
import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipreid_kit.data import read_csv, tracklet_rows
from clipreid_kit.data.synthetic import SyntheticReid

DATA = SyntheticReid(24)


def digest(data, identity, camera, view):
    return hashlib.sha256(data.render(identity, camera, view).tobytes()).hexdigest()


def identities_in(records, splits):
    return {record.identity for record in records if record.split in splits}


TALL = SyntheticReid(24, image_size=(48, 33), seed=5)
WIDE = SyntheticReid(24, image_size=(33, 96), seed=11, num_cameras=9)


# Whoever changes the drawing on purpose also increases the revision that `write` records.
@pytest.mark.parametrize(
    ("data", "image", "expected"),
    [
        (DATA, (3, 1, 2), "2c1ec0b7bd9d181d"),
        (TALL, (11, 3, 0), "50117f14e1c087fd"),
        (WIDE, (20, 8, 1), "c14ae8aa76ba5072"),
    ],
)
def test_images_stay_the_same_from_version_to_version(data, image, expected):
    assert digest(data, *image).startswith(expected)


@pytest.mark.parametrize(
    ("data", "image", "expected"),
    [
        (
            DATA,
            (3, 1, 2),
            "Purple trim and an orange star on the crown can be seen on a plain pink hat.",
        ),
        (
            TALL,
            (11, 3, 0),
            "White grid lines and a navy heart at the top of the back can be seen on a teal "
            "armchair.",
        ),
        (
            WIDE,
            (20, 8, 1),
            "The picture shows a purple umbrella that has teal diagonal stripes and a yellow "
            "letter K on the middle panel.",
        ),
    ],
)
def test_captions_stay_the_same_from_version_to_version(data, image, expected):
    assert data.caption(*image) == expected


def test_an_image_does_not_depend_on_earlier_calls():
    forward = [digest(DATA, identity, 1, 2) for identity in range(6)]

    again = SyntheticReid(24)
    backward = [digest(again, identity, 1, 2) for identity in reversed(range(6))]

    assert backward == forward[::-1]


def test_an_image_does_not_depend_on_the_size_of_the_set():
    larger = SyntheticReid(50, num_cameras=6, views_per_camera=5, split_fractions=(0.5, 0.2, 0.3))

    assert digest(larger, 7, 2, 1) == digest(DATA, 7, 2, 1)
    assert larger.caption(7, 2, 1) == DATA.caption(7, 2, 1)
    assert larger.identities[:24] == DATA.identities


def test_all_images_differ():
    images = itertools.product(range(4), range(4), range(3))

    assert len({digest(DATA, *image) for image in images}) == 48


def test_seeds_differ():
    assert digest(SyntheticReid(24, seed=1), 0, 0, 0) != digest(DATA, 0, 0, 0)


@pytest.mark.slow
def test_another_process_draws_the_same():
    code = """
import hashlib
from clipreid_kit.data import read_csv, tracklet_rows
from clipreid_kit.data.synthetic import SyntheticReid

data = SyntheticReid(24)
print(hashlib.sha256(data.render(3, 1, 0).tobytes()).hexdigest())
print(data.caption(3, 1, 0))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout.splitlines() == [digest(DATA, 3, 1, 0), DATA.caption(3, 1, 0)]


def test_global_generators_are_neither_read_nor_advanced():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = digest(DATA, 2, 0, 0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002

    np.random.seed(1)  # noqa: NPY002
    assert digest(SyntheticReid(24), 2, 0, 0) == first


@pytest.mark.parametrize("size", [(64, 64), (128, 64), (32, 96), (45, 37)])
def test_sizes_are_height_and_width(size):
    image = SyntheticReid(4, image_size=size).render(1, 0, 0)

    assert (image.height, image.width) == size
    assert image.mode == "RGB"
    assert np.asarray(image).std() > 10


def test_records_name_every_image_once_in_order():
    records = DATA.records()

    assert len(records) == 24 * 4 * 3
    assert len({record.path for record in records}) == len(records)
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
    records = reid.records()

    # every identity is in exactly one of train, val and test
    train = identities_in(records, {"train"})
    val = identities_in(records, {"val_query", "val_gallery"})
    test = identities_in(records, {"query", "gallery"})
    assert len(train) + len(val) + len(test) == num_identities
    assert train | val | test == set(range(num_identities))
    assert train
    assert test

    # every query has a positive under each other camera
    for query_split, gallery_split in (("query", "gallery"), ("val_query", "val_gallery")):
        gallery = {(r.identity, r.camera) for r in records if r.split == gallery_split}
        for query in (record for record in records if record.split == query_split):
            for camera in set(range(num_cameras)) - {query.camera}:
                assert (query.identity, camera) in gallery

    num_queries = sum(record.split == "query" for record in records)
    assert num_queries == len(test) * num_cameras * query_views


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_identities": 0}, "expected num_identities as a whole number >= 1, got 0"),
        ({"num_identities": 2}, "expected num_identities >= 3, one for each split, got 2"),
        ({"num_cameras": 1}, "expected num_cameras as a whole number >= 2, got 1"),
        ({"views_per_camera": 1}, "expected views_per_camera as a whole number >= 2, got 1"),
        ({"seed": -1}, "expected seed as a whole number >= 0, got -1"),
        ({"image_size": (31, 64)}, "expected image_size height as a whole number >= 32, got 31"),
        ({"image_size": (64, 8)}, "expected image_size width as a whole number >= 32, got 8"),
        ({"query_views": 0}, "expected query_views as a whole number >= 1, got 0"),
        ({"query_views": 3}, "query_views=3 leaves no view for the gallery; set it below"),
        ({"split_fractions": (0.5, 0.5, 0.5)}, "expected split_fractions that sum to 1"),
    ],
)
def test_arguments_out_of_range_are_refused(options, text):
    with pytest.raises(ValueError, match=f"SyntheticReid: {text}"):
        SyntheticReid(**options)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_identities": 2.5}, r"num_identities as a whole number >= 1, got 2\.5"),
        ({"num_identities": "24"}, "num_identities as a whole number >= 1, got '24'"),
        ({"num_cameras": None}, "num_cameras as a whole number >= 2, got None"),
        ({"seed": True}, "seed as a whole number >= 0, got True"),
        ({"image_size": (64,)}, r"image_size as \(height, width\), got \(64,\)"),
    ],
)
def test_arguments_of_wrong_types_are_refused(options, text):
    with pytest.raises(ValueError, match=f"SyntheticReid: expected {text}"):
        SyntheticReid(**options)


@pytest.mark.parametrize(
    "image", [(24, 0, 0), (0, 4, 0), (0, 0, 3), (-1, 0, 0), (0, -1, 0), (0, 0, -1)]
)
@pytest.mark.parametrize("method", ["render", "caption"])
def test_images_that_do_not_exist_are_refused(method, image):
    text = rf"SyntheticReid\.{method}: expected (identity|camera|view) from 0 to \d+, got"

    with pytest.raises(ValueError, match=text):
        getattr(DATA, method)(*image)


def test_the_contact_sheet_holds_the_images():
    sheet = DATA.contact_sheet(identities=[5, 2], views=2, gap=6)
    assert sheet.size == (8 * 70 + 6, 2 * 70 + 6)
    assert sheet.getpixel((2, 2)) == (255, 255, 255)

    inside_the_corners = (20, 20, 44, 44)
    for row, identity in enumerate((5, 2)):
        for column in range(8):
            left, top = 6 + column * 70, 6 + row * 70
            tile = sheet.crop((left, top, left + 64, top + 64)).crop(inside_the_corners)

            image = DATA.render(identity, column // 2, column % 2)
            assert tile.tobytes() == image.crop(inside_the_corners).tobytes()


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
        ({"identities": []}, "identities is empty"),
    ],
)
def test_impossible_contact_sheets_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        DATA.contact_sheet(**options)


def test_the_repr_can_be_evaluated():
    usual = "SyntheticReid(24, num_cameras=4, views_per_camera=3, image_size=(64, 64), seed=0)"
    assert repr(DATA) == usual

    other = SyntheticReid(8, seed=3, split_fractions=(0.5, 0.0, 0.5), query_views=2)
    again = eval(repr(other), {"SyntheticReid": SyntheticReid})
    assert repr(again) == repr(other)
    assert again.records() == other.records()


def test_the_last_cameras_are_infrared(tmp_path):
    plain = SyntheticReid(8, num_cameras=3, views_per_camera=2, image_size=(32, 32))
    data = SyntheticReid(
        8, num_cameras=3, views_per_camera=2, image_size=(32, 32), infrared_cameras=1
    )

    records = data.records()
    assert {(record.camera, record.modality) for record in records} == {
        (0, "visible"),
        (1, "visible"),
        (2, "infrared"),
    }
    assert {record.modality for record in plain.records()} == {None}

    # visible images are those of the set without infrared cameras
    assert data.render(3, 1, 0).tobytes() == plain.render(3, 1, 0).tobytes()
    assert data.render(3, 2, 0).tobytes() != plain.render(3, 2, 0).tobytes()
    assert "infrared_cameras=1" in repr(data)

    written = data.write(tmp_path)
    modalities = [record.modality for record in read_csv(tmp_path / "records.csv")]
    assert modalities == [record.modality for record in written]
    with pytest.raises(ValueError, match="infrared_cameras=3 leaves no visible camera"):
        SyntheticReid(8, num_cameras=3, infrared_cameras=3)


VIDEO = SyntheticReid(8, views_per_camera=2, num_cameras=2, image_size=(32, 32), frames_per_view=3)


def test_views_of_several_frames_are_tracklets():
    records = VIDEO.records()
    assert len(records) == 8 * 2 * 2 * 3
    assert records[1].path == "images/0000_c0_v0_f01.png"
    assert (records[1].tracklet, records[1].frame) == ("0000_c0_v0", 1)

    rows = tracklet_rows(records)  # of one identity, camera and split each
    assert len(rows) == 8 * 2 * 2
    assert all(len({records[row].split for row in of_tracklet}) == 1 for of_tracklet in rows)


def test_the_first_frame_is_the_still_and_all_frames_differ():
    still = SyntheticReid(8, views_per_camera=2, num_cameras=2, image_size=(32, 32))
    for identity in range(3):
        frames = [VIDEO.render(identity, 1, 0, frame).tobytes() for frame in range(3)]
        assert frames[0] == still.render(identity, 1, 0).tobytes()
        assert len(set(frames)) == 3


def test_frames_stay_the_same_from_version_to_version():
    rendered = VIDEO.render(2, 1, 1, 2).tobytes()
    assert hashlib.sha256(rendered).hexdigest()[:16] == "dd23a7462d49ed60"


def test_tracklets_are_written_and_read(tmp_path):
    records = VIDEO.write(tmp_path)
    read = read_csv(tmp_path / "records.csv")

    assert [(r.path, r.tracklet, r.frame) for r in read] == [
        (r.path, r.tracklet, r.frame) for r in records
    ]
    assert VIDEO.write(tmp_path) == records  # found complete


def test_a_frame_that_does_not_exist_is_refused():
    with pytest.raises(
        ValueError, match=r"SyntheticReid\.render: expected frame from 0 to 2, got 3"
    ):
        VIDEO.render(0, 0, 0, 3)
    with pytest.raises(ValueError, match="frames_per_view as a whole number >= 1"):
        SyntheticReid(8, frames_per_view=0)
