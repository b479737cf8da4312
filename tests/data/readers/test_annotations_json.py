import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord, read_annotations, write_annotations

ENTRY = {
    "image_path": "in/a.jpg",
    "caption": " a red door ",
    "id": 4,
    "category": "door",
    "year": 1990,
    "none": None,
}


def write(folder, content):
    file = folder / "annotations.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


@pytest.fixture
def file_with_splits(tmp_path):
    splits = {"train": [ENTRY], "val": [{**ENTRY, "id": "x"}], "test": []}
    return write(tmp_path, {"splits": splits})


def test_all_splits_are_read(file_with_splits):
    folder = file_with_splits.parent
    fields = {"caption": "a red door", "extra": {"category": "door", "year": "1990"}}

    records = read_annotations(file_with_splits)
    assert records == [
        ImageRecord(f"{folder}/in/a.jpg", 4, split="train", **fields),
        ImageRecord(f"{folder}/in/a.jpg", "x", split="val", **fields),
    ]
    assert read_annotations(folder) == records


def test_one_split_is_read(file_with_splits):
    everything = read_annotations(file_with_splits)

    assert read_annotations(file_with_splits, split="val") == everything[1:]
    assert read_annotations(file_with_splits, split="test") == []


def test_paths_start_from_root(file_with_splits):
    assert read_annotations(file_with_splits, root="r")[0].path == "r/in/a.jpg"


def test_a_list_gets_the_given_split(tmp_path):
    file = write(tmp_path, [ENTRY])

    assert [record.split for record in read_annotations(file)] == [None]
    assert [record.split for record in read_annotations(file, split="train")] == ["train"]


def test_without_ids_every_image_is_an_identity(tmp_path):
    """As the top-k pipeline's page prints an entry."""
    building = {
        "image_path": "buildings/001.jpg",
        "caption": "Modern glass skyscraper with reflective windows",
        "category": "architecture",
    }
    again = {**building, "caption": "A tower of glass"}
    records = read_annotations(write(tmp_path, [building, again, {**building, "image_path": "b"}]))

    assert [record.identity for record in records] == ["buildings/001.jpg"] * 2 + ["b"]
    assert records[0].extra == {"category": "architecture"}


@pytest.mark.parametrize(
    ("content", "options", "problem"),
    [
        (
            {"splits": {"train": [], "val": []}},
            {"split": "test"},
            ".* has no split 'test'; its splits are 'train', 'val'",
        ),
        ({"train": []}, {}, "expected .* or a list in .*, got an object with 'train'"),
        ("3", {}, "expected .* or a list in .*, got 3"),
        ("{", {}, r"cannot read .*annotations\.json as JSON: Expecting property"),
        (
            {"splits": {"train": {}}},
            {},
            "split 'train' of .* has to be a list of entries, not dict",
        ),
        ([ENTRY, {"image_path": "a", "id": 1}], {}, "entry 2 in .* has no caption"),
        ([{"caption": "a", "category": "b"}], {}, "entry 1 in .* has no image_path"),
        (
            {"splits": {"train": [ENTRY], "val": [{"image_path": "b.jpg", "caption": "b"}]}},
            {},
            "entry 1 of split 'val' in .* has no id",
        ),
        (
            {"splits": {"val": ["x"]}},
            {},
            "entry 1 of split 'val' in .* is not an object with image_path, caption, id",
        ),
        (
            [{**ENTRY, "caption": 3}],
            {},
            r"expected image_path and caption as strings, got 'in/a\.jpg' and 3 in entry 1 in",
        ),
        ([{**ENTRY, "image_path": ""}], {}, "expected image_path and caption as strings"),
    ],
)
def test_another_form_is_explained(tmp_path, content, options, problem):
    with pytest.raises(ValueError, match=f"read_annotations: {problem}"):
        read_annotations(write(tmp_path, content), **options)


def test_a_missing_file_is_named(tmp_path):
    message = r"read_annotations: there is no file at .*annotations\.json"
    with pytest.raises(ValueError, match=message):
        read_annotations(tmp_path)


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
captions = words.map(str.strip).filter(bool)
rows = st.lists(
    st.tuples(st.integers(-(2**63), 2**63 - 1) | captions, captions, st.sampled_from("abc"), words),
    max_size=6,
)


@pytest.mark.filterwarnings("ignore:read_annotations. .* (several ways|is read as|shortened)")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=rows, with_splits=st.booleans())
def test_a_written_file_is_read_back(tmp_path, rows, with_splits):
    records = []
    for number, (identity, caption, split, category) in enumerate(rows):
        records.append(
            ImageRecord(
                f"r/{number}.jpg",
                identity,
                caption=caption,
                split=split if with_splits else None,
                extra={"category": category},
            )
        )
    write_annotations(records, tmp_path, relative_to="r")

    # Splits are in the order of their first record.
    order = list(dict.fromkeys(record.split for record in records))
    expected = sorted(records, key=lambda record: order.index(record.split))
    assert read_annotations(tmp_path, root="r") == expected


@pytest.mark.parametrize(
    ("records", "kind"),
    [
        ([], list),
        ([ImageRecord("a.jpg", 1, caption="x")], list),
        ([ImageRecord("a.jpg", 1, caption="x", split="train")], dict),
    ],
)
def test_a_file_has_splits_if_the_records_have(tmp_path, records, kind):
    write_annotations(records, tmp_path)
    assert isinstance(json.loads((tmp_path / "annotations.json").read_text()), kind)


RECORD = ImageRecord(
    "r/a.jpg", 4, camera=2, view="front", caption="\u00e9", split="val", extra={"category": "door"}
)


def test_the_written_form(tmp_path):
    write_annotations([RECORD], tmp_path / "x.json", relative_to="r")

    entry = {
        "image_path": "a.jpg",
        "caption": "\u00e9",
        "id": 4,
        "camera": 2,
        "view": "front",
        "category": "door",
    }
    content = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert content == {"splits": {"val": [entry]}}


def test_cameras_and_views_come_back_as_extra(tmp_path):
    write_annotations([RECORD], tmp_path / "x.json", relative_to="r")
    (record,) = read_annotations(tmp_path / "x.json")
    assert record.extra == {"camera": "2", "view": "front", "category": "door"}

    write_annotations([record], tmp_path / "y.json")
    assert read_annotations(tmp_path / "y.json") == [record]


def test_without_relative_to_paths_are_absolute(tmp_path):
    write_annotations([RECORD], tmp_path / "x.json")

    path = json.loads((tmp_path / "x.json").read_text())["splits"]["val"][0]["image_path"]
    assert path.startswith("/")
    assert path.endswith("/r/a.jpg")


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ([ImageRecord("r/a.jpg", 1)], r"r/a\.jpg has no caption\. Give every record one"),
        (
            [
                ImageRecord("r/a.jpg", 1, caption="x", split="s"),
                ImageRecord("r/b.jpg", 2, caption="y"),
            ],
            "1 of 2 records have no split",
        ),
        (
            [ImageRecord("r/a.jpg", 1, caption="x", extra={"id": "7"})],
            r"the keys 'id' of extra, for r/a\.jpg, are keys of the format already",
        ),
        (
            [ImageRecord("r/a.jpg", 1, view="f", caption="x", extra={"view": "7"})],
            r"the keys 'view' of extra, for r/a\.jpg",
        ),
        ([ImageRecord("q/a.jpg", 1, caption="x")], r"q/a\.jpg is not below r"),
        (
            [ImageRecord("r/a.jpg", 1, caption="\ud800")],
            "cannot write .*surrogates not allowed",
        ),
    ],
)
def test_records_that_cannot_be_written_are_explained(tmp_path, records, problem):
    with pytest.raises(ValueError, match=f"write_annotations: {problem}"):
        write_annotations(records, tmp_path, relative_to="r")
    assert not list(tmp_path.iterdir())


def test_the_first_of_several_captions_counts_and_the_others_are_kept(tmp_path):
    entry = {"image_path": "a.jpg", "caption": ["a red door ", "a door"], "id": " x "}
    (record,) = read_annotations(write(tmp_path, [entry]))
    assert (record.identity, record.caption) == ("x", "a red door")
    assert record.extra == {"caption_2": "a door"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"splits": {"train": [], "train": []}}', "'train' more than once"),
        ('[{"image_path": "a", "caption": "b", "id": 1, "id": 2}]', "'id' more than once"),
        ("[" * 5000 + "]" * 5000, "nested more than 100 levels"),
        ("[" + "9" * 5000 + "]", "limit .* for integer string conversion"),
    ],
)
def test_json_that_is_ambiguous_or_boundless_is_refused(tmp_path, text, problem):
    with pytest.raises(ValueError, match=f"read_annotations: cannot read .* as JSON: .*{problem}"):
        read_annotations(write(tmp_path, text))


def test_white_space_around_the_name_of_a_split_is_dropped(tmp_path):
    entry = {"id": 1.0, "image_path": "a.jpg", "caption": "a coat"}
    (record,) = read_annotations(write(tmp_path, {"splits": {" train ": [entry]}}))
    assert (record.split, record.identity) == ("train", 1)

    file = write(tmp_path, {"splits": {"train": [entry], "train ": [entry]}})
    with pytest.raises(ValueError, match=r"two splits of .* differ only in the white space"):
        read_annotations(file)
