import pytest

from clipreid_kit.data import ImageRecord, PromptTable, variant_of


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
        ValueError, match=r"PromptTable\.text: expected a text by variant, got none for 'id_1/02' .*02_1"
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
    assert PromptTable.from_records(records).texts == {records[0].path: "red", records[1].path: "blue"}
    with pytest.raises(
        ValueError, match=r"one text for each variant, got 'red' and 'blue' for id_1/01\. Key the table"
    ):
        PromptTable.from_records(records, key="variant")
    table = PromptTable.from_template(records, "A {noun}.", fields={"noun": "tee"})
    assert table.texts == {"id_1": "A tee."}


@pytest.mark.unhooked
def test_wrong_tables_are_explained():
    with pytest.raises(ValueError, match=r"PromptTable: expected a text for every key, got 1 empty ones: b"):
        PromptTable({"a": "x", "b": "  "})
    with pytest.raises(ValueError, match=r"PromptTable: expected key to be one of identity, variant, image"):
        PromptTable({}, key="item")


def test_files_are_read_back(tmp_path):
    table = PromptTable({"b": "é", "a": "x"})
    table.write(tmp_path / "p.json")
    assert (tmp_path / "p.json").read_text(encoding="utf-8") == '{\n  "a": "x",\n  "b": "é"\n}\n'
    assert PromptTable.read(tmp_path / "p.json").texts == table.texts
    assert PromptTable.read(tmp_path / "p.json", key="image", root="r").texts == {"r/a": "x", "r/b": "é"}


def test_a_table_made_safe_fits():
    table = PromptTable({"1": "a hat. " * 40, "2": "a hat"}, key="image")
    assert table.statistics().num_too_long == 1
    safe = table.token_safe(20)
    assert safe.statistics(20).num_too_long == 0
    assert safe.texts["2"] == "a hat"
    assert (safe.key, len(safe)) == ("image", 2)
    with pytest.raises(ValueError, match="got 1 empty ones: 1"):
        PromptTable({"1": "x" * 400}).token_safe(4)
