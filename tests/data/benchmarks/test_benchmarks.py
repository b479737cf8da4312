"""Properties of every benchmark reader; those of a single one are tested in its own file."""

import shutil

import pytest
import trees

from clipreid_kit import data
from clipreid_kit.data import check_files

READERS = {
    "read_market1501": (trees.market1501, {}),
    "read_cuhk03": (trees.cuhk03, {"boxes": "detected"}),
    "read_veri776": (trees.veri776, {}),
    "read_msmt17": (trees.msmt17, {"merge_val": True}),
    "read_vehicleid": (trees.vehicleid, {}),
    "read_inshop": (trees.inshop, {}),
    "read_hands11k": (trees.hands11k, {}),
    "read_polyu_hands": (trees.polyu_hands, {}),
    "read_online_products": (trees.online_products, {}),
    "read_cuhk_pedes": (trees.cuhk_pedes, {}),
    "read_icfg_pedes": (trees.icfg_pedes, {}),
    "read_rstpreid": (trees.rstpreid, {}),
    "read_sysu_mm01": (trees.sysu_mm01, {}),
    "read_regdb": (trees.regdb, {}),
    "read_llcm": (trees.llcm, {}),
    "read_ag_reid": (trees.ag_reid, {}),
    "read_cargo": (trees.cargo, {}),
    "read_mars": (trees.mars, {}),
}
NEEDED = {
    "read_market1501": "bounding_box_test",
    "read_cuhk03": "detected/bounding_box_test",
    "read_veri776": "image_test",
    "read_msmt17": "list_val.txt",
    "read_vehicleid": "image",
    "read_inshop": "Eval",
    "read_hands11k": "Hands",
    "read_polyu_hands": "Original Images/502-712",
    "read_online_products": "Ebay_test.txt",
    "read_cuhk_pedes": "imgs",
    "read_icfg_pedes": "ICFG-PEDES.json",
    "read_rstpreid": "data_captions.json",
    "read_sysu_mm01": "exp/val_id.txt",
    "read_regdb": "idx/test_thermal_1.txt",
    "read_llcm": "test_nir",
    "read_ag_reid": "bounding_box_test_all_c0",
    "read_cargo": "gallery",
    "read_mars": "info/query_IDX.mat",
}
every_reader = pytest.mark.parametrize("name", READERS)


def make(name, root):
    return READERS[name][0](root)


def read(name, path, counts="ignore"):
    return getattr(data, name)(path, counts=counts, **READERS[name][1])


def rows_below(records, base):
    """The fields of records, with paths below the folder of the set, in a folder or archive."""
    rows = []
    for record in records:
        path = record.path.replace("::", "/").partition(base.name)[2]
        rows.append((path, record.identity, record.camera, record.split, record.extra))
    return rows


def test_every_reader_of_a_benchmark_is_tested_here():
    others = {
        "read_annotations",
        "read_captioned_folder",
        "read_coco",
        "read_csv",
        "read_folder",
        "read_images",
        "read_omniglot",
        "read_split",
        "read_sysu_permutations",
        "read_table",
    }
    readers = {name for name in data.__all__ if name.startswith("read_")}
    assert readers - others == set(READERS) == set(NEEDED)


@every_reader
def test_all_images_exist(tmp_path, name):
    records = read(name, make(name, tmp_path))

    assert len(records) >= 3
    check_files(records)


@every_reader
def test_the_folder_above_gives_the_same(tmp_path, name):
    base = make(name, tmp_path / "set")
    assert rows_below(read(name, base.parent), base) == rows_below(read(name, base), base)


@every_reader
def test_an_archive_gives_the_same(tmp_path, name):
    base = make(name, tmp_path / "set")
    packed = read(name, trees.pack(base, tmp_path / "archive.zip"))

    assert rows_below(packed, base) == rows_below(read(name, base), base)
    check_files(packed)


@every_reader
def test_a_relative_path_stays_relative(tmp_path, monkeypatch, name):
    base = make(name, tmp_path)
    monkeypatch.chdir(base.parent)

    assert all(record.path.startswith(base.name) for record in read(name, base.name))


@every_reader
def test_a_missing_part_is_named(tmp_path, name):
    base = make(name, tmp_path)
    needed = base / NEEDED[name]
    if needed.is_dir():
        shutil.rmtree(needed)
    else:
        needed.unlink()

    message = rf"{name}: expected .*, found .*; missing: .*{needed.name}.*\. Pass the folder"
    with pytest.raises(ValueError, match=message):
        read(name, base)


@every_reader
def test_a_missing_path_is_named(tmp_path, name):
    message = rf"{name}: there is nothing at .*none; expected a folder or zip archive with"
    with pytest.raises(ValueError, match=message):
        read(name, tmp_path / "none")


@every_reader
def test_an_empty_folder_is_an_error(tmp_path, name):
    with pytest.raises(ValueError, match=rf"{name}: expected .*, found no files; missing: "):
        read(name, tmp_path)


@every_reader
def test_a_broken_archive_is_an_error(tmp_path, name):
    broken = trees.write(tmp_path, "set.zip", "no archive")
    with pytest.raises(ValueError, match=rf"{name}: cannot read .*set\.zip: BadZipFile"):
        read(name, broken)


@pytest.mark.unhooked
@every_reader
def test_an_unknown_policy_is_an_error(tmp_path, name):
    message = f"{name}: expected counts to be one of warn, raise, ignore"
    with pytest.raises(ValueError, match=message):
        read(name, tmp_path, counts="no")


@every_reader
def test_other_counts_are_a_warning(tmp_path, name):
    base = make(name, tmp_path)
    message = rf"{name}: .* has \d+ images of \d+ identities, officially \d+"
    with pytest.warns(UserWarning, match=message) as caught:
        records = read(name, base, counts="warn")

    assert len(caught) == 1
    assert records == read(name, base, counts="ignore")


@every_reader
def test_other_counts_are_an_error_if_asked_for(tmp_path, name):
    with pytest.raises(ValueError, match=rf'{name}: .* officially .*counts="ignore"'):
        read(name, make(name, tmp_path), counts="raise")


@pytest.mark.call_stack
@every_reader
def test_the_warning_points_at_the_caller(tmp_path, name):
    base = make(name, tmp_path)
    with pytest.warns(UserWarning, match="officially") as caught:
        read(name, base, counts="warn")

    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("read_msmt17", "train/0000/0000_001_12_0303morning_0016_0.jpg"),
        ("read_vehicleid", "image/0000004.jpg"),
        ("read_inshop", "Img/img/MEN/Denim/id_00000080/01_4_full.jpg"),
        ("read_hands11k", "Hands/Hand_0000003.jpg"),
        ("read_online_products", "bicycle_final/11_1.JPG"),
        ("read_cuhk_pedes", "imgs/Market/3.jpg"),
        ("read_icfg_pedes", "imgs/train/0001/0001_000_15_0113noon_0001_1.jpg"),
        ("read_rstpreid", "imgs/3701_c1_0002.jpg"),
        ("read_regdb", "Thermal/8/male_back_t_02_8.bmp"),
        ("read_llcm", "nir/0004/0004_c02_s1_01.jpg"),
        ("read_mars", "bbox_test/00-1/00-1C1T0001F002.jpg"),
    ],
)
def test_a_listed_image_that_is_missing_is_named(tmp_path, name, image):
    base = make(name, tmp_path)
    (base / image).unlink()

    message = rf"{name}: 1 of the \d+ images in .* are missing: .*{image}"
    with pytest.raises(ValueError, match=message):
        read(name, base)
