import json

import pytest
import trees

from clipreid_kit.data import (
    ImageRecord,
    PromptTable,
    ReidDataset,
    count_clip_tokens,
    eval_transform,
    read_inshop,
)
from clipreid_kit.data.fashion import read_descriptions, structured_prompts, variant_of


def _image(name, identity="id_1", **columns):
    return ImageRecord(f"img/WOMEN/Tees/{identity}/{name}", identity, **columns)


_FIRST = _image("01_1_front.jpg")
_SECOND = _image("02_1_front.jpg")


def test_texts_by_identity():
    table = PromptTable({"id_1": "a tee", "7": "seven"})

    assert table.text(_FIRST) == table.text(_SECOND) == "a tee"
    assert table.text(ImageRecord("x.jpg", 7)) == "seven"


def test_texts_by_variant():
    table = PromptTable({"id_1/01": "a red tee", "id_1/02": "a blue tee"}, key="variant")

    assert table.text(_FIRST) == "a red tee"
    assert table.text(_SECOND) == "a blue tee"


def test_texts_by_image():
    table = PromptTable({_FIRST.path: "a folded tee"}, key="image")

    assert table.text(_FIRST) == "a folded tee"
    assert _FIRST in table
    assert _SECOND not in table


def test_a_table_contains_records_and_not_keys():
    assert "id_1" not in PromptTable({"id_1": "a tee"})


def test_captions_are_written_into_copies():
    table = PromptTable({"id_1/01": "a red tee", "id_1/02": "a blue tee"}, key="variant")
    captioned = table.caption([_SECOND, _FIRST])

    assert [record.caption for record in captioned] == ["a blue tee", "a red tee"]
    assert _FIRST.caption is None


def test_a_missing_text_is_named():
    table = PromptTable({"id_1/01": "a"}, key="variant")

    with pytest.raises(
        ValueError, match=r"PromptTable\.text: no text for the variant 'id_1/02' .*02_1"
    ):
        table.text(_SECOND)


def test_a_column_takes_precedence_over_the_file_name():
    assert variant_of(_image("02_1_front.jpg")) == "02"
    assert variant_of(_image("02_1_front.jpg", extra={"variant": "red"})) == "red"


def test_an_image_without_a_variant_is_refused():
    with pytest.raises(ValueError, match="variant_of: expected an extra column 'variant'"):
        variant_of(_image("front.jpg"))


def test_a_table_from_captions():
    red, blue = _image("01_a.jpg", caption="red"), _image("01_b.jpg", caption="blue")
    table = PromptTable.from_records([red, blue, _image("02_c.jpg")])

    assert table.texts == {red.path: "red", blue.path: "blue"}


def test_different_captions_of_one_variant_are_refused():
    records = [_image("01_a.jpg", caption="red"), _image("01_b.jpg", caption="blue")]

    text = r"the variant id_1/01 has two texts, 'red' and 'blue'\. Key the table"
    with pytest.raises(ValueError, match=text):
        PromptTable.from_records(records, key="variant")


def test_a_table_from_a_template():
    table = PromptTable.from_template([_FIRST, _SECOND], "A {noun}.", fields={"noun": "tee"})

    assert table.texts == {"id_1": "A tee."}


def test_the_repr_names_size_and_key():
    table = PromptTable({"1": "x " * 1000, "2": "y"}, key="image")

    assert repr(table) == "PromptTable(num_texts=2, key='image')"


def test_empty_texts_are_refused():
    with pytest.raises(ValueError, match="PromptTable: 1 of 2 texts are empty: b"):
        PromptTable({"a": "x", "b": "  "})


@pytest.mark.unhooked
def test_an_unknown_kind_of_key_is_refused():
    text = "PromptTable: expected key to be one of identity, variant, image"

    with pytest.raises(ValueError, match=text):
        PromptTable({}, key="item")


def test_files_are_read_back(tmp_path):
    file = tmp_path / "p.json"
    table = PromptTable({"b": "é", "a": "x"})
    table.write(file)

    assert file.read_text(encoding="utf-8") == '{\n  "a": "x",\n  "b": "é"\n}\n'
    assert PromptTable.read(file).texts == table.texts

    by_image = PromptTable.read(file, key="image", root="r")
    assert by_image.texts == {"r/a": "x", "r/b": "é"}


def test_a_token_safe_table_fits():
    table = PromptTable({"1": "a hat. " * 40, "2": "a hat"}, key="image")
    assert table.statistics().num_too_long == 1

    safe = table.token_safe(20)
    assert safe.statistics(20).num_too_long == 0
    assert safe.texts["2"] == "a hat"
    assert (safe.key, len(safe)) == ("image", 2)


def test_a_text_of_which_nothing_fits_is_refused():
    with pytest.raises(ValueError, match="1 of 1 texts are empty: 1"):
        PromptTable({"1": "x" * 400}).token_safe(4)


def _at(path):
    return ImageRecord(path, "id_1")


_BY_PATH = PromptTable({"img/a/1.jpg": "one", "a/1.jpg": "other", "2.jpg": "two"}, key="image")


@pytest.mark.parametrize(
    "path",
    [
        "img/a/1.jpg",
        "/data/img/a/1.jpg",
        "data/all.zip::img/a/1.jpg",
        "all.zip::x/img/a/1.jpg",
    ],
)
def test_a_key_may_be_the_end_of_a_path_from_a_folder_on(path):
    assert _BY_PATH.text(_at(path)) == "one"
    assert _BY_PATH.key_of(_at(path)) == "img/a/1.jpg"
    assert _at(path) in _BY_PATH


def test_a_shorter_key_matches_if_no_longer_one_does():
    assert _BY_PATH.text(_at("b/a/1.jpg")) == "other"


def test_a_bare_name_matches_only_itself():
    assert _BY_PATH.text(_at("2.jpg")) == "two"
    assert _at("data/2.jpg") not in _BY_PATH
    assert _at("data/ximg/a/2.jpg") not in _BY_PATH
    assert _BY_PATH.key_of(_at("data/2.jpg")) == "data/2.jpg"


def test_one_text_is_not_given_to_two_images_by_accident():
    table = PromptTable({"a/1.jpg": "one"}, key="image")
    same, other = _at("x/a/1.jpg"), _at("y/a/1.jpg")
    assert [record.caption for record in table.caption([same, same])] == ["one", "one"]

    text = r"x/a/1\.jpg and y/a/1\.jpg both match the key 'a/1\.jpg'\. Begin"
    with pytest.raises(ValueError, match=text):
        table.caption([same, other])


def test_images_of_one_identity_share_a_text():
    captioned = PromptTable({"id_1": "one"}).caption([_at("x/a/1.jpg"), _at("y/a/1.jpg")])

    assert [record.caption for record in captioned] == ["one", "one"]


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("data/img/a/1.jpg", "data"),
        ("data/img.zip::img/a/1.jpg", "data/img.zip"),
        ("all.zip::in/img/a/1.jpg", "all.zip::in"),
    ],
)
def test_keys_are_written_relative_to_a_folder_or_an_archive(tmp_path, path, root):
    file = tmp_path / "image_texts.json"
    table = PromptTable.from_records([ImageRecord(path, 1, caption="one")])
    table.write(file, relative_to=root)

    assert json.loads(file.read_text()) == {"img/a/1.jpg": "one"}
    assert PromptTable.read(file, key="image").text(_at(path)) == "one"

    below_root = PromptTable.read(file, key="image", root=root.replace("::", "/"))
    assert below_root.text(_at(path)) == "one"


def test_images_outside_the_folder_are_refused(tmp_path):
    table = PromptTable({"a/1.jpg": "x"}, key="image")

    text = r"PromptTable\.write: expected every image below other, got a/1\.jpg"
    with pytest.raises(ValueError, match=text):
        table.write(tmp_path / "p.json", relative_to="other")


def test_only_paths_are_written_relative_to_a_folder(tmp_path):
    file = tmp_path / "p.json"
    PromptTable({"id_1": "x"}).write(file, relative_to="other")

    assert json.loads(file.read_text()) == {"id_1": "x"}


_DESCRIPTIONS = [
    {"item": "id_00000002", "color": "Cream", "description": ["A knit dress. " * 60, "Hand wash."]},
    {"item": "id_00000080", "color": "Blue", "description": ["Slim jeans."]},
]


@pytest.fixture(params=["folder", "archive"])
def inshop_records(request, tmp_path):
    base = trees.inshop(tmp_path)
    if request.param == "archive":
        base = trees.pack(base, tmp_path / "inshop.zip")
    return read_inshop(base, counts="ignore")


@pytest.mark.parametrize(("by_variant", "key"), [(False, "identity"), (True, "variant")])
def test_in_shop_gets_captions_from_its_descriptions(tmp_path, inshop_records, by_variant, key):
    file = trees.write(tmp_path, "descriptions.json", json.dumps(_DESCRIPTIONS))
    prompts = structured_prompts(read_descriptions(file), inshop_records, by_variant=by_variant)
    captioned = PromptTable(prompts, key=key).caption(inshop_records)
    captions = [record.caption for record in captioned]

    assert captions[0].startswith("A clothing item in cream, women's dresses. A knit dress.")
    assert captions[2:] == ["A clothing item in blue, men's denim. Slim jeans."] * 2
    assert max(map(count_clip_tokens, captions)) <= 77


def test_in_shop_gets_captions_by_image(tmp_path, inshop_records):
    texts = {row[0]: f"image {number}" for number, row in enumerate(trees.INSHOP_ROWS)}
    file = trees.write(tmp_path, "image_texts.json", json.dumps(texts))
    table = PromptTable.read(file, key="image")

    dataset = ReidDataset(table.caption(inshop_records), eval_transform(8))
    assert dataset.captions == tuple(f"image {number}" for number in range(4))

    paths = {record.path for record in inshop_records}
    assert PromptTable.from_records(dataset.records).texts.keys() == paths
