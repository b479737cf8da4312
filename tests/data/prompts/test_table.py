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


def test_texts_by_identity_variant_and_image():
    first, second = _image("01_1_front.jpg"), _image("02_1_front.jpg")
    by_identity = PromptTable({"id_1": "a tee"})
    by_variant = PromptTable({"id_1/01": "a red tee", "id_1/02": "a blue tee"}, key="variant")
    by_image = PromptTable({first.path: "a folded tee"}, key="image")
    assert [by_identity.text(r) for r in (first, second)] == ["a tee"] * 2
    assert [by_variant.text(r) for r in (first, second)] == ["a red tee", "a blue tee"]
    assert by_image.text(first) == "a folded tee"
    assert first in by_image
    assert second not in by_image
    assert "id_1" not in by_identity
    assert [r.caption for r in by_variant.caption([second, first])] == ["a blue tee", "a red tee"]
    assert first.caption is None
    assert PromptTable({"7": "seven"}).text(ImageRecord("x.jpg", 7)) == "seven"


def test_a_missing_text_is_named():
    with pytest.raises(
        ValueError,
        match=r"PromptTable\.text: expected a text by variant, got none for 'id_1/02' .*02_1",
    ):
        PromptTable({"id_1/01": "a"}, key="variant").text(_image("02_1_front.jpg"))


def test_a_column_tells_the_variant_before_the_name_does():
    assert variant_of(_image("02_1_front.jpg")) == "02"
    assert variant_of(_image("02_1_front.jpg", extra={"variant": "red"})) == "red"
    with pytest.raises(ValueError, match=r"variant_of: expected an extra column 'variant'"):
        variant_of(_image("front.jpg"))


def test_a_table_from_captions_and_from_a_template():
    records = [
        _image("01_a.jpg", caption="red", camera=1),
        _image("01_b.jpg", caption="blue", camera=2),
        _image("02_c.jpg"),
    ]
    assert PromptTable.from_records(records).texts == {
        records[0].path: "red",
        records[1].path: "blue",
    }
    with pytest.raises(
        ValueError,
        match=r"one text for each variant, got 'red' and 'blue' for id_1/01\. Key the table",
    ):
        PromptTable.from_records(records, key="variant")
    table = PromptTable.from_template(records, "A {noun}.", fields={"noun": "tee"})
    assert table.texts == {"id_1": "A tee."}


@pytest.mark.unhooked
def test_wrong_tables_are_explained():
    with pytest.raises(
        ValueError, match=r"PromptTable: expected a text for every key, got 1 empty ones: b"
    ):
        PromptTable({"a": "x", "b": "  "})
    with pytest.raises(
        ValueError, match=r"PromptTable: expected key to be one of identity, variant, image"
    ):
        PromptTable({}, key="item")


def test_files_are_read_back(tmp_path):
    table = PromptTable({"b": "é", "a": "x"})
    table.write(tmp_path / "p.json")
    assert (tmp_path / "p.json").read_text(encoding="utf-8") == '{\n  "a": "x",\n  "b": "é"\n}\n'
    assert PromptTable.read(tmp_path / "p.json").texts == table.texts
    assert PromptTable.read(tmp_path / "p.json", key="image", root="r").texts == {
        "r/a": "x",
        "r/b": "é",
    }


def test_a_table_made_safe_fits():
    table = PromptTable({"1": "a hat. " * 40, "2": "a hat"}, key="image")
    assert table.statistics().num_too_long == 1
    safe = table.token_safe(20)
    assert safe.statistics(20).num_too_long == 0
    assert safe.texts["2"] == "a hat"
    assert (safe.key, len(safe)) == ("image", 2)
    with pytest.raises(ValueError, match="got 1 empty ones: 1"):
        PromptTable({"1": "x" * 400}).token_safe(4)


def _shown(path):
    return ImageRecord(path, "id_1")


def test_a_key_may_be_the_end_of_a_path_from_a_folder_on():
    table = PromptTable({"img/a/1.jpg": "one", "a/1.jpg": "other", "2.jpg": "two"}, key="image")
    for path in (
        "img/a/1.jpg",
        "/data/img/a/1.jpg",
        "data/all.zip::img/a/1.jpg",
        "all.zip::x/img/a/1.jpg",
    ):
        assert table.text(_shown(path)) == "one", path
        assert table.key_of(_shown(path)) == "img/a/1.jpg"
        assert _shown(path) in table
    assert table.text(_shown("b/a/1.jpg")) == "other"
    assert table.text(_shown("2.jpg")) == "two"
    assert _shown("data/2.jpg") not in table  # a bare name says too little
    assert _shown("data/ximg/a/2.jpg") not in table
    assert table.key_of(_shown("data/2.jpg")) == "data/2.jpg"


def test_one_text_is_not_given_to_two_images_by_chance():
    table = PromptTable({"a/1.jpg": "one"}, key="image")
    assert [r.caption for r in table.caption([_shown("x/a/1.jpg")] * 2)] == ["one", "one"]
    with pytest.raises(
        ValueError,
        match=r"one image for each key, got x/a/1\.jpg and y/a/1\.jpg for 'a/1\.jpg'\. Begin",
    ):
        table.caption([_shown("x/a/1.jpg"), _shown("y/a/1.jpg")])
    assert (
        len(PromptTable({"id_1": "one"}).caption([_shown("x/a/1.jpg"), _shown("y/a/1.jpg")])) == 2
    )


def test_keys_are_written_below_a_folder_or_an_archive(tmp_path):
    file = tmp_path / "image_texts.json"
    for path, root in (
        ("data/img/a/1.jpg", "data"),
        ("data/img.zip::img/a/1.jpg", "data/img.zip"),
        ("all.zip::in/img/a/1.jpg", "all.zip::in"),
    ):
        PromptTable.from_records([ImageRecord(path, 1, caption="one")]).write(
            file, relative_to=root
        )
        assert json.loads(file.read_text()) == {"img/a/1.jpg": "one"}
        assert PromptTable.read(file, key="image").text(_shown(path)) == "one"
        assert (
            PromptTable.read(file, key="image", root=root.replace("::", "/")).text(_shown(path))
            == "one"
        )
    with pytest.raises(
        ValueError, match=r"PromptTable\.write: expected every image below other, got a/1\.jpg"
    ):
        PromptTable({"a/1.jpg": "x"}, key="image").write(file, relative_to="other")
    PromptTable({"id_1": "x"}).write(file, relative_to="other")  # these are no paths
    assert json.loads(file.read_text()) == {"id_1": "x"}


@pytest.mark.parametrize("packed", [False, True])
def test_in_shop_gets_captions_by_item_by_variant_and_by_image(tmp_path, packed):
    base = trees.inshop(tmp_path)
    described = [
        {
            "item": "id_00000002",
            "color": "Cream",
            "description": ["A knit dress. " * 60, "Hand wash."],
        },
        {"item": "id_00000080", "color": "Blue", "description": ["Slim jeans."]},
    ]
    descriptions = read_descriptions(
        trees.write(base, "Anno/list_description_inshop.json", json.dumps(described))
    )
    records = read_inshop(
        trees.pack(base, tmp_path / "inshop.zip") if packed else base, counts="ignore"
    )
    for by_variant, key in ((False, "identity"), (True, "variant")):
        table = PromptTable(
            structured_prompts(descriptions, records, by_variant=by_variant), key=key
        )
        captions = [record.caption for record in table.caption(records)]
        assert captions[0].startswith("A clothing item in cream, women's dresses. A knit dress.")
        assert captions[2:] == ["A clothing item in blue, men's denim. Slim jeans."] * 2
        assert max(map(count_clip_tokens, captions)) <= 77
    texts = {row[0]: f"picture {number}" for number, row in enumerate(trees.INSHOP_ROWS)}
    table = PromptTable.read(
        trees.write(tmp_path, "image_texts.json", json.dumps(texts)), key="image"
    )
    dataset = ReidDataset(table.caption(records), eval_transform(8))
    assert dataset.captions == tuple(f"picture {number}" for number in range(4))
    assert PromptTable.from_records(dataset.records).texts.keys() == {
        record.path for record in records
    }
