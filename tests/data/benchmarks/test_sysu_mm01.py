import numpy as np
import pytest
import trees

from clipreid_kit.data import read_sysu_mm01, read_sysu_permutations


def test_infrared_test_images_are_queries(tmp_path):
    base = trees.sysu_mm01(tmp_path)
    records = read_sysu_mm01(base, counts="ignore")

    found = [(r.identity, r.camera, r.modality) for r in records if r.split == "query"]
    assert found == [(6, 3, "infrared"), (6, 6, "infrared")]
    gallery = [record for record in records if record.split == "gallery"]
    assert [record.camera for record in gallery] == [1, 1, 2, 4, 5]
    assert {record.modality for record in gallery} == {"visible"}
    assert gallery[1].path == f"{base}/cam1/0006/0002.jpg"

    # validation identities are trained on, and those in no list are left out
    train = {record.identity for record in records if record.split == "train"}
    assert train == {1, 3}
    apart = read_sysu_mm01(base, merge_val=False, counts="ignore")
    assert [record.identity for record in apart if record.split == "val"] == [3]


def test_an_image_outside_a_folder_of_an_identity(tmp_path):
    base = trees.sysu_mm01(tmp_path)
    trees.fill(base, "cam4/0001.jpg")
    with pytest.raises(ValueError, match=r"cam4.0001\.jpg is not in a folder of an identity"):
        read_sysu_mm01(base, counts="ignore")


@pytest.mark.parametrize(("text", "found"), [("1,x", "'x'"), ("", "nothing")])
def test_a_list_of_another_form(tmp_path, text, found):
    base = trees.sysu_mm01(tmp_path)
    trees.write(base, "exp/val_id.txt", text)
    with pytest.raises(ValueError, match=rf"val_id\.txt holds {found}; expected identities, separ"):
        read_sysu_mm01(base, counts="ignore")


def write_permutations(base, cameras=6):
    """Two trials of two images of identity 6 by camera 1, in the cells of the authors' file."""
    io = pytest.importorskip("scipy.io")
    cells = np.empty((cameras, 1), dtype=object)
    for camera in range(cameras):
        of_camera = np.empty((6, 1), dtype=object)
        for identity in range(6):
            is_there = (camera, identity) == (0, 5)
            of_camera[identity, 0] = np.array([[2, 1], [1, 2]]) if is_there else np.zeros((0, 0))
        cells[camera, 0] = of_camera
    io.savemat(base / "exp" / "rand_perm_cam.mat", {"rand_perm_cam": cells})


@pytest.mark.parametrize("packed", [False, True])
def test_fixed_draws(tmp_path, packed):
    base = trees.sysu_mm01(tmp_path)
    assert read_sysu_permutations(base) is None

    write_permutations(base)
    source = trees.pack(base, tmp_path / "set.zip") if packed else base
    permutations = read_sysu_permutations(source)
    assert {key: matrix.tolist() for key, matrix in permutations.items()} == {
        (6, 1): [[1, 0], [0, 1]]
    }


def test_a_damaged_file_of_draws(tmp_path):
    base = trees.sysu_mm01(tmp_path)
    trees.write(base, "exp/rand_perm_cam.mat", "no matrix" * 40)
    with pytest.raises(ValueError, match=r"rand_perm_cam\.mat is not the file of the authors"):
        read_sysu_permutations(base)

    write_permutations(base, cameras=4)
    with pytest.raises(ValueError, match=r"not the file of the authors: expected six cameras"):
        read_sysu_permutations(base)
