"""Tables and folders that neighbouring projects read in part or misread."""

from PIL import Image

from clipreid_kit.data import (
    ImageRecord,
    ReidDataset,
    eval_transform,
    evaluation_ids,
    read_folder,
)


def images(folder, *names):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(file)
    return folder


def test_labels_do_not_depend_on_an_order(tmp_path):
    """CLIP-ReID, `pid2label`: identities are numbered in the order of a `set`.

    Here: in sorted order, so a row of a classifier is the same identity in every process.
    """
    names = ["rex", "bo", "ada", "zoe"]
    images(tmp_path, *(f"{name}.png" for name in names))
    records = [ImageRecord(str(tmp_path / f"{name}.png"), name) for name in names]

    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        labels = ReidDataset([records[row] for row in order], eval_transform(2)).labels
        assert [[2, 1, 0, 3][row] for row in order] == list(labels)


def test_labels_of_a_subset_are_dense(tmp_path):
    """deep-person-reid#361: 77 identities with numbers up to 122 are an index out of bounds.

    Here: labels count from 0 to the number of identities, whatever the identities are called.
    """
    images(tmp_path, "a.png", "b.png", "c.png")
    records = [
        ImageRecord(str(tmp_path / name), identity)
        for name, identity in (("a.png", 122), ("b.png", 7), ("c.png", 122))
    ]
    dataset = ReidDataset(records, eval_transform(2))
    assert list(dataset.labels) == [1, 0, 1]


def test_a_table_without_cameras(tmp_path):
    """deep-person-reid#255: a custom set has no cameras, and the loader needs one for every image.

    Here: a table or folder without cameras has none, and evaluation needs none.
    """
    root = images(tmp_path, "rex/a.png", "rex/b.png", "bo/c.png")
    records = read_folder(root)

    assert {(r.identity, r.camera) for r in records} == {("rex", None), ("bo", None)}
    assert set(evaluation_ids(records)) == {"query_ids"}


def test_identities_of_objects_other_than_people(tmp_path):
    """deep-person-reid#326: other objects, cows, need a copy of a person's file names.

    Here: a pattern reads any names.
    """
    root = images(tmp_path, "cow-12_barn3.png", "cow-7_barn1.png")
    records = read_folder(root, pattern="cow-{identity}_barn{camera}.png")
    assert [(r.identity, r.camera) for r in records] == [("12", 3), ("7", 1)]
