"""Searches of the page: the query is not among its hits, and two indexes answer side by side."""

import numpy as np
import pytest

from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import GalleryIndex, calibrate


def search(client, **body):
    answer = client.post("/api/search", json=body)
    assert answer.status_code == 200, answer.json()
    return answer.json()["answers"]


def keys(answer):
    return [hit["key"] for hit in answer["hits"]]


def brute_force(index, key, allowed):
    """Keys of other images, by their cosine to an image."""
    order = index.search(index.vectors([key]), k=len(index)).keys[0].tolist()
    return [other for other in order if other != key and other in allowed]


def test_the_query_is_not_among_its_hits(client, index):
    for key in range(12):
        (answer,) = search(client, query={"key": key}, k=5)
        assert keys(answer) == brute_force(index, key, range(12))[:5]
    (answer,) = search(client, query={"key": 0}, k=100)
    assert len(keys(answer)) == 11


def test_other_cameras_only(client, index, records):
    (answer,) = search(client, query={"key": 0}, k=4, other_cameras=True)
    others = [key for key, record in enumerate(records) if record.camera == 1]
    assert keys(answer) == brute_force(index, 0, others)[:4]


def test_conditions(client, index, records):
    where = [
        {"column": "identity", "values": ["ann"], "negated": True},
        {"column": "frame", "low": 10, "high": 20},
    ]
    (answer,) = search(client, query={"key": 0}, where=where)
    wanted = [
        key
        for key, record in enumerate(records)
        if record.identity != "ann" and record.extra["frame"] in ("10", "20")
    ]
    assert keys(answer) == brute_force(index, 0, wanted)
    (answer,) = search(client, query={"key": 0}, where=[{"column": "camera", "values": [7]}])
    assert keys(answer) == []


def test_hits_by_identity_have_the_querys_own_one(client, index, records):
    """The nearest image of the identity of the query is the query itself, which is left out."""
    for key in range(12):
        (answer,) = search(client, query={"key": key}, k=3, group_by="identity")
        order = brute_force(index, key, range(12))
        first = {records[other].identity: other for other in reversed(order)}
        assert sorted(keys(answer)) == sorted(first.values())
        similarities = [hit["similarity"] for hit in answer["hits"]]
        assert similarities == sorted(similarities, reverse=True)


def test_an_identity_of_one_image(tmp_path, client_of):
    rows = np.eye(3, dtype=np.float32)
    records = [ImageRecord(f"{name}.jpg", name) for name in "abc"]
    client = client_of(GalleryIndex.build(rows, records, store=tmp_path / "i"))
    (answer,) = search(client, query={"key": 1}, group_by="identity")
    assert keys(answer) == [0, 2]


def some_calibration():
    """A calibration of made-up embeddings of eight identities."""
    rng = np.random.default_rng(0)
    numbers = np.repeat(np.arange(8), 6)
    rows = rng.standard_normal((8, 16))[numbers] + 0.7 * rng.standard_normal((48, 16))
    records = [ImageRecord(f"{n}.jpg", int(number)) for n, number in enumerate(numbers)]
    return calibrate(rows, records, method="logistic", false_positive_rate=0.1)


def test_probabilities_are_of_images_and_not_of_texts(index, client_of):
    index.set_calibration(some_calibration())
    client = client_of(index)
    facts = client.get("/api/info").json()["indexes"][0]
    assert facts["threshold"] == index.calibration.threshold

    (by_key,) = search(client, query={"key": 0}, k=2)
    assert all(0 <= hit["probability"] <= 1 for hit in by_key["hits"])
    best = by_key["hits"][0]["similarity"]
    assert by_key["unknown"] is bool(best < index.calibration.threshold)
    (by_text,) = search(client, query={"text": "a"}, k=2)
    assert by_text["unknown"] is None
    assert "probability" not in by_text["hits"][0]


def test_a_stranger_is_unknown_though_it_finds_itself(index, records, client_of):
    index.set_calibration(some_calibration())
    same = [key for key, record in enumerate(records) if record.identity == "ann"]
    index.remove(same[1:])
    client = client_of(index)
    threshold = index.calibration.threshold
    (answer,) = search(client, query={"key": same[0]}, k=3)
    assert answer["unknown"] is bool(answer["hits"][0]["similarity"] < threshold)
    where = [{"column": "camera", "values": [9]}]
    (answer,) = search(client, query={"key": same[0]}, k=3, where=where)
    assert (answer["unknown"], answer["hits"]) == (True, [])


@pytest.fixture
def other(tmp_path, other_encoder, records):
    """An index by another model, which lacks the first image, so that its keys are others."""
    return GalleryIndex.build(other_encoder, records[1:], store=tmp_path / "other.index")


def test_two_indexes_side_by_side(index, other, records, client_of):
    client = client_of([index, other])
    first, second = search(client, query={"text": "a coat"}, k=3)
    assert keys(first) == index.search_text("a coat", k=3).keys[0].tolist()
    assert keys(second) == other.search_text("a coat", k=3).keys[0].tolist()


def test_an_image_of_one_index_is_encoded_by_the_model_of_the_other(
    index, other, records, client_of
):
    client = client_of([index, other])
    _, second = search(client, query={"key": 5, "index": 0}, k=3)
    wanted = other.search_image(records[5].path, k=4).keys[0].tolist()
    assert wanted[0] == 4, "the query itself"
    assert keys(second) == wanted[1:]

    first, second = search(client, query={"key": 5, "index": 1}, k=3)
    assert keys(second) == brute_force(other, 5, range(11))[:3]
    assert keys(first) == index.search_image(records[6].path, k=4).keys[0].tolist()[1:]
    (only,) = search(client, query={"key": 5}, k=3, index=1)
    assert only["index"] == 1


def test_two_indexes_of_one_model_share_vectors(tmp_path, index, encoder, records, client_of):
    vectors = index.vectors(range(12))
    same = GalleryIndex.build(
        vectors, records, store=tmp_path / "same", fingerprint=encoder.fingerprint
    )
    client = client_of([index, same])
    first, second = search(client, query={"key": 3}, k=3)
    assert keys(first) == keys(second)


def test_one_of_two_may_have_no_answer(tmp_path, index, client_of):
    rows = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    bare = GalleryIndex.build(rows, store=tmp_path / "bare")
    first, second = search(client_of([index, bare]), query={"text": "a coat"}, k=2)
    assert len(first["hits"]) == 2
    assert (second["hits"], "by key only" in second["error"]) == ([], True)
