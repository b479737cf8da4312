import pytest
import trees

from clipreid_kit.data import read_regdb


def test_both_modalities_of_a_split(tmp_path):
    base = trees.regdb(tmp_path)
    records = read_regdb(base, counts="ignore")

    found = [(r.split, r.identity, r.camera, r.modality) for r in records]
    # the lists number the persons of both parts from 0
    assert found == [
        *[("train", 0, 1, "visible")] * 2,
        *[("train", 0, 2, "thermal")] * 2,
        *[("test", 1, 1, "visible")] * 2,
        *[("test", 1, 2, "thermal")] * 2,
    ]
    assert records[2].path == f"{base}/Thermal/7/male_back_t_01_7.bmp"


def test_another_split(tmp_path):
    base = trees.regdb(tmp_path, split=10)
    assert len(read_regdb(base, split=10, counts="ignore")) == 8
    with pytest.raises(ValueError, match=r"missing: idx/train_visible_2\.txt"):
        read_regdb(base, split=2)
    with pytest.raises(ValueError, match="expected split from 1 to 10, got 11"):
        read_regdb(base, split=11)


def test_a_row_of_another_form(tmp_path):
    base = trees.regdb(tmp_path)
    trees.write(base, "idx/test_visible_1.txt", "Visible/8/a.bmp\n")
    with pytest.raises(ValueError, match=r"row 1 of idx/test_visible_1\.txt is .* <image> <ident"):
        read_regdb(base)
