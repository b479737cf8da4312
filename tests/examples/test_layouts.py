"""Every source is read from a small set of images, whose splits can be trained and tested."""

from collections import Counter
from functools import partial

import layouts
import pytest
from PIL import Image

from clipreid_kit import data as kit
from clipreid_kit.data import check_files, records_of
from clipreid_kit.data.fashion import read_descriptions
from clipreid_kit.data.hands import split_hands

READERS = {
    "market1501": lambda root: kit.read_market1501(root, counts="ignore"),
    "cuhk03": lambda root: kit.read_cuhk03(root, boxes="detected", counts="ignore"),
    "veri776": lambda root: kit.read_veri776(root, counts="ignore"),
    "msmt17": lambda root: kit.read_msmt17(root, merge_val=True, counts="ignore"),
    "vehicleid": lambda root: kit.read_vehicleid(root, counts="ignore"),
    "inshop": lambda root: kit.read_inshop(root, counts="ignore"),
    "hands11k": lambda root: kit.read_hands11k(root, counts="ignore"),
    "polyu_hands": lambda root: kit.read_polyu_hands(root, counts="ignore"),
    "online_products": lambda root: kit.read_online_products(root, counts="ignore"),
    "cuhk_pedes": lambda root: kit.read_cuhk_pedes(root, counts="ignore"),
    "icfg_pedes": lambda root: kit.read_icfg_pedes(root, counts="ignore"),
    "mars": lambda root: kit.read_mars(root, counts="ignore"),
    "rstpreid": lambda root: kit.read_rstpreid(root, counts="ignore"),
    **{
        name: partial(getattr(kit, f"read_{name}"), counts="ignore")
        for name in ("sysu_mm01", "regdb", "llcm", "ag_reid", "cargo")
    },
    "annotations": kit.read_annotations,
    "captioned_folder": lambda root: kit.read_captioned_folder(
        root, splits=("train", "val", "test")
    ),
}
ACROSS = {"sysu_mm01", "regdb", "llcm", "ag_reid", "cargo"}
CAPTIONED = {"cuhk_pedes", "icfg_pedes", "rstpreid", "annotations", "captioned_folder"}
WITH_CAMERAS = {"market1501", "cuhk03", "veri776", "msmt17", "mars", *ACROSS}


@pytest.fixture(scope="module", params=READERS)
def source(request, tmp_path_factory):
    root = getattr(layouts, request.param)(tmp_path_factory.mktemp(request.param))
    return request.param, READERS[request.param](str(root))


def splits_of(name, records):
    """As they are, or by the protocol of the set."""
    if name in ("hands11k", "polyu_hands"):
        return kit.apply_split(records, split_hands(records, aspect="dorsal_r", num_splits=2))
    if name == "vehicleid":
        test = records_of(records, "test")
        return [*records, *kit.apply_split(test, kit.split_query_gallery(test, num_splits=1))]
    return records


def test_pictures_are_small_and_differ(source):
    _, records = source
    check_files(records)
    pictures = []
    for record in records[:6]:
        with Image.open(record.path) as image:
            assert image.size == (32, 32)
            pictures.append(image.tobytes())
    assert len(set(pictures)) == len(pictures)


def test_training_has_pairs(source):
    name, records = source
    train = records_of(splits_of(name, records), "train")
    counts = Counter(record.identity for record in train)
    assert len(counts) >= 6
    if name == "captioned_folder":  # every image is its own identity there
        assert set(counts.values()) == {1}
    else:
        assert min(counts.values()) >= 4


def test_every_query_has_a_match(source):
    name, records = source
    records = splits_of(name, records)
    if name in CAPTIONED | {"online_products", "regdb", "llcm"}:
        test = Counter(record.identity for record in records_of(records, "test"))
        assert name == "captioned_folder" or min(test.values()) >= 2
        return
    query, gallery = (
        ("query0", "gallery0")
        if name in ("hands11k", "polyu_hands", "vehicleid")
        else ("query", "gallery")
    )
    kit.check_splits(records, query=query, gallery=gallery)
    if name in WITH_CAMERAS:
        seen = {(record.identity, record.camera) for record in records_of(records, gallery)}
        for record in records_of(records, query):
            assert any(
                identity == record.identity and camera != record.camera for identity, camera in seen
            )
    if name == "hands11k":
        assert len(records_of(records, "gallery0_all")) > 3 * len(records_of(records, "gallery0"))
    if name == "polyu_hands":
        assert {r.identity for r in records_of(records, "gallery0")} > {
            r.identity for r in records_of(records, query)
        }


def test_captions_are_there_where_the_layout_has_them(source):
    name, records = source
    assert all(bool(record.caption) == (name in CAPTIONED) for record in records)


def test_prompts_of_inshop_name_every_item(tmp_path):
    root = layouts.inshop(tmp_path)
    records = kit.read_inshop(root, counts="ignore")
    for name, key in zip(layouts.PROMPTS, ("identity", "identity", "variant"), strict=True):
        table = kit.PromptTable.read(root / name, key=key)
        assert all(record.caption for record in table.caption(records))
    assert len(read_descriptions(root / "Anno" / "list_description_inshop.json")) == 24
