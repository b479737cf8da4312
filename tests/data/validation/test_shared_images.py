"""A query that finds itself in the gallery is an error, unless a rule leaves it out."""

from dataclasses import replace

import pytest

from clipreid_kit.data import ImageRecord, check_shared_images


def record(folder, name, identity=7, camera=None, content=None):
    path = folder / name
    path.write_bytes(name.encode() if content is None else content)
    return ImageRecord(str(path), identity, camera=camera)


def test_different_images_pass(tmp_path):
    query, gallery = [record(tmp_path, "a.jpg")], [record(tmp_path, "b.jpg")]
    check_shared_images(query, gallery)
    check_shared_images([], gallery)


def test_the_same_file_is_an_error(tmp_path):
    query = [record(tmp_path, name) for name in ("a.jpg", "b.jpg", "c.jpg")]
    words = (
        r"2 of 3 query images are also in the gallery \(.*a\.jpg, \.\.\.\), where each finds itself"
    )
    with pytest.raises(ValueError, match=words):
        check_shared_images(query, [*query[:2], record(tmp_path, "d.jpg")])
    with pytest.raises(
        ValueError, match=r"1 of 3 query images is also in the gallery \(.*c\.jpg\)"
    ):
        check_shared_images(query, [replace(query[2], identity=8)])


def test_a_copy_of_the_identity_is_an_error(tmp_path):
    query = [record(tmp_path, "a.jpg", content=b"pixels")]
    copy = record(tmp_path, "b.jpg", content=b"pixels")
    with pytest.raises(ValueError, match="is also in the gallery"):
        check_shared_images(query, [copy])
    check_shared_images(query, [replace(copy, identity=8)])
    check_shared_images(query, [record(tmp_path, "c.jpg", content=b"PIXELS")])  # of equal size


def test_the_camera_rule_leaves_the_pair_out(tmp_path):
    query = [record(tmp_path, "a.jpg", camera=1)]
    check_shared_images(query, query)
    check_shared_images(query, [replace(query[0], camera="1")])
    for gallery, cameras in (
        (query, False),
        ([replace(query[0], camera=2)], None),
        ([*query, record(tmp_path, "b.jpg")], None),  # one without a camera: there is no rule
    ):
        with pytest.raises(ValueError, match="is also in the gallery"):
            check_shared_images(query, gallery, cameras=cameras)
