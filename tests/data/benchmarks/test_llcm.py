import pytest
import trees

from clipreid_kit.data import read_llcm


def test_both_parts(tmp_path):
    records = read_llcm(trees.llcm(tmp_path), counts="ignore")
    found = [(r.split, r.identity, r.camera, r.modality) for r in records]
    # test identity 5 comes behind the one training identity; 6 is not listed
    assert found == [
        ("train", 0, 2, "visible"),
        ("train", 0, 2, "infrared"),
        ("test", 6, 3, "visible"),
        ("test", 6, 3, "infrared"),
    ]


def test_a_path_without_a_camera(tmp_path):
    base = trees.llcm(tmp_path)
    trees.fill(base, "vis/a.jpg")
    trees.write(base, "idx/train_vis.txt", "vis/a.jpg 0\n")
    assert read_llcm(base, counts="ignore")[0].camera is None


def test_no_listed_identity(tmp_path):
    base = trees.llcm(tmp_path)
    trees.write(base, "idx/test_id.txt", "77")
    with pytest.raises(ValueError, match=r"test_id\.txt names no identity with images in test_vis"):
        read_llcm(base, counts="ignore")
