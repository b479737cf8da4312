"""Found identities against slow loops over all pairs, and on clustered embeddings."""

from dataclasses import replace

import numpy as np
import pytest

from clipreid_kit.data import ImageRecord, read_csv, write_csv
from clipreid_kit.retrieval import (
    Calibration,
    CameraPair,
    GalleryIndex,
    calibrate,
    discover_identities,
)

CURVE = Calibration(
    "logistic", 0.1, (), (), 20.0, -10.0, 0.6, 0.55, 0.65, 0.01, 0.9, 0.02, (), 9, 99, 5
)


def clusters(num_identities=12, images=5, noise=0.6, seed=0, dim=8):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((num_identities, dim)).repeat(images, axis=0)
    rows += noise * rng.standard_normal(rows.shape)
    order = rng.permutation(len(rows))
    records = [ImageRecord(f"{n}.jpg", int(n) // images, camera=int(n) % 2) for n in order]
    return rows[order].astype(np.float32), records


def built(folder, rows, records, calibration=CURVE):
    index = GalleryIndex.build(rows, records, store=folder / "i")
    index.set_calibration(calibration)
    return index


def probabilities_of(rows, calibration=CURVE):
    unit = rows.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return calibration.probability(unit @ unit.T)


def components(accepted):
    """Components of a matrix of accepted pairs, by powers of it."""
    reached = accepted | np.eye(len(accepted), dtype=bool)
    for _ in range(len(accepted)):
        reached = (reached.astype(int) @ reached.astype(int)) > 0
    return {frozenset(np.flatnonzero(row).tolist()) for row in reached}


def average_clusters(values, least):
    """Average linkage of the whole gallery, by a loop."""
    found = [[number] for number in range(len(values))]
    while len(found) > 1:
        best = max(
            (values[np.ix_(one, other)].mean(), i, j)
            for i, one in enumerate(found)
            for j, other in enumerate(found[:i])
        )
        if best[0] < least:
            break
        found[best[2]] += found.pop(best[1])
    return {frozenset(cluster) for cluster in found}


def groups_of(labels):
    own = [label if label >= 0 else f"own {n}" for n, label in enumerate(labels.tolist())]
    return {frozenset(n for n, other in enumerate(own) if other == one) for one in own}


@pytest.mark.parametrize("seed", range(4))
def test_identities_are_those_of_all_pairs(tmp_path, seed):
    rows, records = clusters(seed=seed)
    index = built(tmp_path, rows, records)
    values = probabilities_of(rows)

    found = discover_identities(index, method="threshold", min_probability=0.7)
    assert found.num_truncated == 0
    assert groups_of(found.labels) == components(values >= 0.7)

    found = discover_identities(index, min_probability=0.4)
    assert groups_of(found.labels) == average_clusters(values, 0.4)
    assert groups_of(found.labels) != components(values >= 0.4)
    assert found.num_identities == len(set(found.labels.tolist()) - {-1})
    assert found.num_unmatched == (found.labels < 0).sum()


def test_similarities_without_a_calibration(tmp_path):
    rows, records = clusters()
    index = built(tmp_path, rows, records, None)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = discover_identities(index, min_similarity=0.6)
    assert groups_of(found.labels) == average_clusters((unit @ unit.T).astype(np.float64), 0.6)


def test_the_base_rate_of_the_gallery_counts(tmp_path):
    rows, records = clusters()
    index = built(tmp_path, rows, records)
    count, images = len(rows), 3
    rate = (images - 1) / (count - 1)
    odds = rate / (1 - rate) * (1 - 0.1) / 0.1
    values = probabilities_of(rows)
    values = odds * values / (odds * values + 1 - values)

    found = discover_identities(index, images_per_identity=images, min_probability=0.3)
    assert groups_of(found.labels) == average_clusters(values, 0.3)


def test_pairs_of_cameras_have_their_own_probabilities(tmp_path):
    rows = np.array([[1, 0], [0.9, 0.3], [0, 1], [0.3, 0.9]], np.float32)
    records = [ImageRecord(f"{n}.jpg", n, camera=c) for n, c in enumerate([1, 1, 1, 2])]
    strict = replace(CURVE, intercept=-30.0)
    index = built(
        tmp_path, rows, records, replace(CURVE, camera_pairs=(CameraPair((1, 2), 9, 9, strict),))
    )
    assert discover_identities(index, method="threshold").labels.tolist() == [0, 0, -1, -1]
    assert discover_identities(index).labels.tolist() == [0, 0, -1, -1]


def test_clustered_embeddings_are_found(tmp_path):
    rows, records = clusters(40, 6, noise=0.5, dim=32)
    index = built(tmp_path, rows, records, calibrate(*clusters(40, 6, 0.5, seed=1, dim=32)))
    scores = discover_identities(index).evaluate()
    assert scores.ari > 0.98
    assert scores.ami > 0.98
    assert scores.pair_precision > 0.98
    assert scores.num_known == 40

    shuffled = np.random.default_rng(0).permutation([record.identity for record in records])
    assert abs(discover_identities(index).evaluate(shuffled.tolist()).ari) < 0.05


def test_records_are_read_back(tmp_path):
    rows = np.array([[0, 1], [1, 0], [1, 0.01], [-1, 0], [0.02, 1]], np.float32)
    records = [ImageRecord(f"{tmp_path}/{n}.jpg", "?", camera=n) for n in range(5)]
    found = discover_identities(built(tmp_path, rows, records))
    assert found.labels.tolist() == [0, 1, 1, -1, 0]
    names = [record.identity for record in found.records()]
    assert names == ["id-00000", "id-00001", "id-00001", "id-00002", "id-00000"]
    assert [r.identity for r in found.records("unknown")][3] == "unknown"
    assert len(found.records("leave_out")) == 4
    assert found.records()[0].extra == {"given_identity": "?"}

    write_csv(found.records(), tmp_path / "found.csv")
    assert read_csv(tmp_path / "found.csv") == found.records()
    assert (
        "found identities   2\nunmatched images   1\nlargest identity   2 images" in found.table()
    )


def test_neighbours_that_do_not_suffice_are_counted(tmp_path):
    rows, records = clusters(3, 8, noise=0.01)
    index = built(tmp_path, rows, records)
    few = discover_identities(index, num_neighbours=3)
    assert few.num_truncated == 24
    assert "truncated images   24: all their neighbours match" in few.table()
    assert discover_identities(index, num_neighbours=8).num_truncated == 0


def test_one_image_matches_no_other(tmp_path):
    rows, records = clusters()
    found = discover_identities(built(tmp_path, rows, records), where={"path": records[3].path})
    assert found.labels.tolist() == [-1]
    assert (found.num_identities, found.num_unmatched) == (0, 1)


def test_what_is_missing_is_said(tmp_path):
    rows, records = clusters()
    index = GalleryIndex.build(rows, records, store=tmp_path / "i")
    with pytest.raises(ValueError, match=r"the index has no calibration.*`clipreid calibrate`"):
        discover_identities(index)
    index.set_calibration(CURVE)
    with pytest.raises(ValueError, match="min_probability or min_similarity, one of the two"):
        discover_identities(index, min_probability=0.5, min_similarity=0.5)
    with pytest.raises(ValueError, match=r"min_probability is 1.5; it has to be above 0"):
        discover_identities(index, min_probability=1.5)
    with pytest.raises(ValueError, match="images_per_identity has no effect with min_similarity"):
        discover_identities(index, min_similarity=0.5, images_per_identity=5)
    with pytest.raises(ValueError, match="no image of the index meets the conditions"):
        discover_identities(index, where={"camera": 9})

    same = [replace(record, identity="x") for record in records]
    other = GalleryIndex.build(rows, same, store=tmp_path / "other")
    with pytest.raises(ValueError, match="all images have the identity 'x'"):
        discover_identities(other, min_similarity=0.5).evaluate()

    bare = GalleryIndex.build(rows, None, store=tmp_path / "bare")
    found = discover_identities(bare, min_similarity=0.5)
    with pytest.raises(ValueError, match="the index has no records"):
        found.records()
    with pytest.raises(ValueError, match="the index has no records; pass identities"):
        found.evaluate()

    index.remove(range(len(rows)))
    with pytest.raises(ValueError, match="no image of the index meets"):
        discover_identities(index)
