"""The embeddings of an evaluation as arrays."""

import numpy as np
import pytest
import torch

from clipreid_kit.data import ImageRecord
from clipreid_kit.reports import Evaluation, read_features, write_features

RECORDS = [ImageRecord(f"{n}.jpg", f"id {n // 2}", camera=n % 2) for n in range(4)]


def evaluation(query, gallery, *, camera_rule, captions=()):
    texts = torch.ones(len(captions), 2) if captions else None
    return Evaluation(
        results={},
        query=query,
        gallery=gallery,
        query_embeddings=torch.arange(2.0 * len(query)).reshape(-1, 2),
        gallery_embeddings=torch.ones(len(gallery), 2),
        text_embeddings=texts,
        captions=list(captions),
        camera_rule=camera_rule,
    )


def written(folder, found):
    with np.load(write_features(folder, found)) as arrays:
        return {name: arrays[name].tolist() for name in arrays.files}


@pytest.mark.parametrize("camera_rule", [True, False])
def test_queries_and_gallery(tmp_path, camera_rule):
    """Cameras are there if images were left out by them: the file is scored by the same rule."""
    found = evaluation(RECORDS[::2], RECORDS[1::2], camera_rule=camera_rule)
    arrays = written(tmp_path, found)

    assert arrays.pop("query_embeddings") == [[0, 1], [2, 3]]
    assert arrays.pop("gallery_embeddings") == [[1, 1], [1, 1]]
    assert arrays.pop("query_paths") == ["0.jpg", "2.jpg"]
    assert arrays.pop("gallery_paths") == ["1.jpg", "3.jpg"]
    assert arrays.pop("query_ids") == arrays.pop("gallery_ids") == ["id 0", "id 1"]
    cameras = {"query_cameras": ["0", "0"], "gallery_cameras": ["1", "1"]}
    assert arrays == (cameras if camera_rule else {})


def test_images_ranked_among_each_other(tmp_path):
    arrays = written(tmp_path, evaluation(RECORDS, RECORDS, camera_rule=False))
    assert arrays["ids"] == ["id 0", "id 0", "id 1", "id 1"]
    assert set(arrays) == {"embeddings", "ids", "paths"}


def test_captions(tmp_path):
    captions = [("id 0", "a hat"), ("id 0", "a cap")]
    found = evaluation(RECORDS[::2], RECORDS[1::2], camera_rule=False, captions=captions)
    arrays = written(tmp_path, found)
    assert arrays["text_ids"] == ["id 0", "id 0"]
    assert arrays["texts"] == ["a hat", "a cap"]
    assert arrays["text_embeddings"] == [[1, 1], [1, 1]]


@pytest.mark.parametrize("camera_rule", [True, False])
def test_what_is_written_is_read_again(tmp_path, camera_rule):
    records = [*RECORDS, ImageRecord("4.jpg", "id 0", camera=0)]
    found = evaluation(
        [records[1], records[3]], records[:3:2] + records[4:], camera_rule=camera_rule
    )
    read = read_features(write_features(tmp_path, found))

    for side in ("query", "gallery"):
        old, new = getattr(found, side), getattr(read, side)
        assert [(r.path, r.identity) for r in new] == [(r.path, r.identity) for r in old]
        cameras = [str(r.camera) for r in old] if camera_rule else [None] * len(old)
        assert [r.camera for r in new] == cameras
        rows = getattr(found, f"{side}_embeddings")
        assert torch.equal(getattr(read, f"{side}_embeddings"), rows)
    assert read.camera_rule == camera_rule
    assert read.images.num_valid_queries == 2
    assert [read.excluded_rows(row) for row in range(2)] == [[], []]


def test_images_ranked_among_each_other_are_read_as_such(tmp_path):
    read = read_features(write_features(tmp_path, evaluation(RECORDS, RECORDS, camera_rule=False)))
    assert read.gallery is read.query
    assert read.images.num_queries == 4
    assert read.excluded_rows(2) == [2]


def test_arrays_of_other_lengths_are_explained(tmp_path):
    path = tmp_path / "features.npz"
    np.savez(path, embeddings=np.ones((3, 2)), ids=np.arange(3), paths=np.array(["a", "b"]))
    with pytest.raises(ValueError, match="embeddings and paths have the shapes"):
        read_features(path)
    np.savez(path, embeddings=np.ones((3, 2)), ids=np.arange(3))
    with pytest.raises(ValueError, match="no array 'paths'"):
        read_features(path)
