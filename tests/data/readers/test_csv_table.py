import gzip
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord, read_csv, read_folder, read_table, write_csv

COLUMNS = {"path", "identity", "camera", "view", "caption", "split", "modality", "box", "corners"}


def write_table(folder, text, encoding="utf-8"):
    path = folder / "images.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_every_column_fills_its_field(tmp_path):
    table = write_table(
        tmp_path,
        "age,path,identity,camera,view,caption,split\n"
        "30,in/a.jpg,rex,2,front,a dog,train\n"
        ",b.jpg,tom,,,,\n",
    )
    assert read_csv(table) == [
        ImageRecord(f"{tmp_path}/in/a.jpg", "rex", 2, "front", "a dog", "train", {"age": "30"}),
        ImageRecord(f"{tmp_path}/b.jpg", "tom"),
    ]


def test_relative_paths_start_from_root_and_absolute_ones_stay(tmp_path):
    table = write_table(tmp_path, "path,identity\na.jpg,1\n/abs/b.jpg,1\npack.zip::in/c.jpg,1\n")
    assert [record.path for record in read_csv(table, root="set")] == [
        "set/a.jpg",
        "/abs/b.jpg",
        "set/pack.zip::in/c.jpg",
    ]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("1", "20"), [1, 20]),
        (("0001", "2"), ["0001", "2"]),
        (("1", "rex"), ["1", "rex"]),
        (("-5", "0"), [-5, 0]),
    ],
)
def test_identities_and_cameras_are_integers_only_if_all_are(tmp_path, cells, expected):
    rows = "".join(f"a.jpg,{cell},{cell}\n" for cell in cells)
    records = read_csv(write_table(tmp_path, f"path,identity,camera\n{rows}"))

    assert [record.identity for record in records] == expected
    assert [record.camera for record in records] == expected


def test_an_empty_camera_is_none_and_leaves_the_others_integers(tmp_path):
    table = write_table(tmp_path, "path,identity,camera\na.jpg,1,5\nb.jpg,1,\n")
    assert [record.camera for record in read_csv(table)] == [5, None]


def test_columns_are_renamed(tmp_path):
    table = write_table(tmp_path, "file,pid,identity\na.jpg,7,a note\n")
    (record,) = read_csv(table, columns={"path": "file", "identity": "pid"})

    assert (record.path, record.identity) == (f"{tmp_path}/a.jpg", 7)
    assert record.extra == {"identity": "a note"}


def test_byte_order_mark_quotes_line_ends_and_blank_lines(tmp_path):
    text = '\ufeffpath,identity,caption\r\n"a,b.jpg",1,"he said ""hi""\nand left"\r\n\r\n'
    (record,) = read_csv(write_table(tmp_path, text))

    assert record.path == f"{tmp_path}/a,b.jpg"
    assert record.caption == 'he said "hi"\nand left'


def test_a_header_alone_gives_an_empty_list(tmp_path):
    assert read_csv(write_table(tmp_path, "path,identity\n")) == []


def test_an_index_column_without_a_name_is_extra(tmp_path):
    (record,) = read_csv(write_table(tmp_path, ",path,identity\n0,a.jpg,1\n"))
    assert record.extra == {"": "0"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", r".*images\.csv is empty; expected a header row"),
        ("\n\n", r".*images\.csv is empty; expected a header row"),
        (
            "path,identity\na.jpg,1\n\nb.jpg,\n",
            r"column 'identity' is empty in row 4 of .*\. Fill the cell",
        ),
        ("path,identity\n ,1\n", "column 'path' is empty in row 2"),
        ("path,identity\na.jpg,1,2\n", "row 2 of .* has 3 cells, the header has 2. Put cells"),
        ("path,identity\na.jpg\n", "row 2 of .* has 1 cells, the header has 2"),
        (
            'path,identity\n"a.jpg,1\n',
            r"row 2 of .*images\.csv, which ends in line 2, has a quote .* that is never closed",
        ),
        (
            'path,identity\n"a".jpg,1\n',
            r"row 2 of .*images\.csv, which ends in line 2, is not CSV: ',' expected",
        ),
    ],
)
def test_a_bad_table_is_explained(tmp_path, text, problem):
    with pytest.raises(ValueError, match=f"read_csv: {problem}"):
        read_csv(write_table(tmp_path, text))


def test_another_encoding_is_explained(tmp_path):
    table = write_table(tmp_path, "path,identity,caption\na.jpg,1,caf\u00e9\n", "latin-1")
    with pytest.raises(ValueError, match=r"cannot read .*: UnicodeDecodeError.*UTF-8"):
        read_csv(table)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"read_csv: there is no file at .*none\.csv"):
        read_csv(tmp_path / "none.csv")


def test_a_folder_is_not_a_table(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*: (IsADirectory|Permission)Error"):
        read_csv(tmp_path)


cell = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20
)
stripped = cell.map(str.strip).filter(bool)
name = stripped.filter(lambda text: not text.lstrip("-").isdigit())
extra_key = cell.filter(lambda text: text.strip() not in COLUMNS)
folder_name = st.lists(st.sampled_from("ab \u00e9,\"'"), min_size=1, max_size=5).map("".join)


def record_lists(identity, camera):
    record = st.builds(
        ImageRecord,
        path=folder_name.map(lambda folder: f"set/{folder}/x.jpg"),
        identity=identity,
        camera=st.none() | camera,
        view=st.none() | stripped,
        modality=st.none() | stripped,
        caption=st.none() | cell.filter(str.strip),  # a blank one is none
        split=st.none() | stripped,
        extra=st.dictionaries(extra_key, cell, max_size=2),
    )
    return st.lists(record, max_size=6)


@pytest.mark.filterwarnings(
    "ignore:read_csv. .* (several ways|goes to extra|as the name of one|is read as)"
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    records=record_lists(st.integers(-(10**9), 10**9), st.integers(0, 9)) | record_lists(name, name)
)
def test_a_written_table_is_read_back(tmp_path, records):
    write_csv(records, tmp_path / "a.csv", relative_to="set")
    assert read_csv(tmp_path / "a.csv", root="set") == records


def test_without_relative_to_paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set" / "rex").mkdir(parents=True)
    (tmp_path / "set" / "rex" / "a.jpg").touch()
    (tmp_path / "elsewhere").mkdir()
    write_csv(read_folder("set"), "elsewhere/images.csv")

    (record,) = read_csv("elsewhere/images.csv")
    assert record.path == str(tmp_path / "set" / "rex" / "a.jpg")


def test_an_archive_member_is_written_relative_to_its_archive(tmp_path):
    write_csv([ImageRecord("set/pack.zip::in/a.jpg", 1)], tmp_path / "a.csv", relative_to="set")
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == "pack.zip::in/a.jpg,1"


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (ImageRecord("other/a.jpg", 1), r"other/a\.jpg is not below set\. Pass a folder"),
        (
            ImageRecord("set/a.jpg", 1, extra={"camera": "1"}),
            "the keys camera of extra are names of columns already",
        ),
        (ImageRecord("set/a.jpg", 1, caption="\ud800"), r"cannot write .*a\.csv: .*surrogates"),
    ],
)
def test_a_record_that_cannot_be_written_leaves_the_old_file(tmp_path, record, problem):
    target = tmp_path / "a.csv"
    target.write_text("old")

    with pytest.raises(ValueError, match=f"write_csv: {problem}"):
        write_csv([ImageRecord("set/b.jpg", 1), record], target, relative_to="set")

    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_target_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"write_csv: cannot write .*none"):
        write_csv([], tmp_path / "none" / "a.csv")


def test_a_crash_while_renaming_leaves_the_old_file(tmp_path, monkeypatch):
    def fail_to_replace(self, target):
        raise OSError("disk on fire")

    target = tmp_path / "a.csv"
    target.write_text("old")
    monkeypatch.setattr(Path, "replace", fail_to_replace)

    with pytest.raises(ValueError, match="disk on fire"):
        write_csv([], target)
    assert target.read_text() == "old"


def test_white_space_around_names_is_dropped(tmp_path):
    table = write_table(
        tmp_path,
        " path, identity ,camera,split,note\na.jpg, rex, 1, train, x\nb.jpg,rex,1 ,train,y\n",
    )
    first, second = read_csv(table)

    assert (first.identity, first.camera, first.split) == ("rex", 1, "train")
    assert (second.identity, second.camera, second.split) == ("rex", 1, "train")
    assert first.extra == {"note": " x"}  # values without a meaning here stay as they are


@pytest.mark.parametrize(
    ("field", "plural", "first", "second"),
    [
        ("identity", "identities", "rex", "Rex"),
        ("identity", "identities", "rex\u200b", "rex"),
        ("identity", "identities", "caf\u00e9", "cafe\u0301"),
        ("identity", "identities", "rex  the dog", "rex the dog"),
        ("camera", "cameras", "1", "01"),
        ("camera", "cameras", "1", "1.0"),
        ("split", "splits", "train", "Train"),
        ("view", "views", "front", "FRONT"),
    ],
)
def test_names_that_look_alike_stay_different_and_are_named(tmp_path, field, plural, first, second):
    columns = ["path", "identity", "camera", "split", "view"]
    rows = []
    for path, value in (("a.jpg", first), ("b.jpg", second)):
        cells = {"path": path, "identity": "x", field: value}
        rows.append(",".join(cells.get(column, "") for column in columns))

    table = write_table(tmp_path, "\n".join([",".join(columns), *rows]) + "\n")
    with pytest.warns(UserWarning, match=f"read_csv: 1 {plural} are written in several ways"):
        records = read_csv(table)
    assert [getattr(record, field) for record in records] == [first, second]


@pytest.mark.parametrize("name", ["Camera", "CAM", "cam_id", "camra", "cameras"])
def test_a_column_named_nearly_as_a_field_is_named(tmp_path, name):
    table = write_table(tmp_path, f"path,identity,{name},split\na.jpg,1,2,train\n")
    with pytest.warns(
        UserWarning, match=f"the column '{name}' .* goes to extra, and no record has"
    ):
        (record,) = read_csv(table)
    assert record.extra == {name: "2"}

    (record,) = read_csv(table, columns={"camera": name})
    assert record.camera == 2


def test_the_line_that_names_the_separator_for_excel_is_skipped(tmp_path):
    (record,) = read_csv(write_table(tmp_path, "sep=,\npath,identity\na.jpg,1\n"))
    assert record.identity == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "path;identity\na.jpg;1;2\n",
            r"row 2 of .* has 3 cells, .* Put cells that hold semicolons",
        ),
        (
            "sep=,\npath;identity\na.jpg;1\n",
            r"has no column 'path'; its columns are 'path;identity'",
        ),
        (
            'path,identity\na.jpg,1\nb.jpg,"2\nc.jpg,3\n',
            r"row 3 of .*, which ends in line 4, has a quote \(\"\) that is never closed",
        ),
        (
            f"path,identity\na.jpg,1\nb.jpg,{'2' * 200_000}\n",
            r"row 3 of .* has a cell of more than 131072 characters\. Is a quote before it not c",
        ),
    ],
)
def test_the_row_and_what_is_wrong_in_it_are_named(tmp_path, text, problem):
    with pytest.raises(ValueError, match=f"read_csv: .*{problem}"):
        read_csv(write_table(tmp_path, text))


@pytest.mark.parametrize("field", ["identity", "camera", "view", "split", "modality"])
def test_names_that_would_be_read_otherwise_are_not_written(tmp_path, field):
    record = ImageRecord("a.jpg", **{"identity": "rex", field: " rex"})
    with pytest.raises(ValueError, match=f"the {field} ' rex' of a.jpg has white space around it"):
        write_csv([record], tmp_path / "a.csv")


@pytest.mark.skipif(os.name != "posix", reason="no pipes in folders")
def test_a_pipe_is_no_table(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"read_csv: cannot read .*: it is a named pipe"):
        read_csv(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["nan", "None", "<NA>", "NULL", "n/a", "-", "?", "#REF!", "NIL"])
def test_names_that_mean_that_there_is_none_are_named(tmp_path, name):
    file = tmp_path / "images.csv"
    file.write_text(f"path,identity\na.jpg,rex\nb.jpg,{name}\n")

    with pytest.warns(UserWarning, match=f"'{name}' is read as the name of one identity"):
        records = read_csv(file)
    assert [record.identity for record in records] == ["rex", name]


def test_two_spellings_of_a_column_are_named(tmp_path):
    file = tmp_path / "images.csv"
    file.write_text("path,identity,camera,Camera\na.jpg,rex,1,2\n")

    with pytest.warns(UserWarning, match=r"column 'Camera' of .* goes to extra, beside 'camera'"):
        (record,) = read_csv(file)
    assert (record.camera, record.extra) == (1, {"Camera": "2"})


@pytest.mark.parametrize("text", ["path,identity\na.jpg,re\0x\n", "\0" * 100_000])
def test_null_characters_are_named_in_a_short_sentence(tmp_path, text):
    file = tmp_path / "images.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match="holds a null character in line") as caught:
        read_csv(file)
    assert len(str(caught.value)) < 500


def test_a_header_of_one_long_name_is_shortened(tmp_path):
    file = tmp_path / "images.csv"
    file.write_text("x" * 100_000)
    with pytest.raises(ValueError, match="has no column 'path'") as caught:
        read_csv(file)
    assert len(str(caught.value)) < 1500


TWO = [ImageRecord("in/a.jpg", "rex", 1), ImageRecord("in/b, c.jpg", "tom", 2)]


def separated(delimiter):
    rows = (("path", "identity", "camera"), ("a.jpg", "rex", "1"), ("b, c.jpg", "tom", "2"))
    cells = [[f'"{cell}"' if delimiter in cell else cell for cell in row] for row in rows]
    return "".join(f"{delimiter.join(row)}\n" for row in cells)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["images.csv", "images.tsv", "images.csv.gz"])
def test_the_delimiter_is_found_out_or_named(tmp_path, delimiter, name):
    content = separated(delimiter).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)

    assert read_table(path, root="in") == TWO
    assert read_csv(path, root="in", delimiter=delimiter) == TWO
    path.write_bytes(
        path.read_bytes()
        if name.endswith(".gz")
        else b"sep=" + delimiter.encode() + b"\n" + content
    )
    assert read_csv(path, root="in") == TWO


def test_a_delimiter_is_found_by_renamed_columns(tmp_path):
    table = write_table(tmp_path, "file, or path;name\na.jpg;rex\n")
    columns = {"path": "file, or path", "identity": "name"}
    assert read_csv(table, root="in", columns=columns) == [ImageRecord("in/a.jpg", "rex")]


def test_an_error_lists_the_columns_of_another_delimiter(tmp_path):
    with pytest.raises(ValueError, match=r"has no column 'path'; its columns are 'file', 'name'\."):
        read_csv(write_table(tmp_path, "file;name\na;b\n"))


@pytest.mark.parametrize("delimiter", ["", ";;", "\n", '"'])
def test_what_cannot_be_a_delimiter_is_an_error(tmp_path, delimiter):
    with pytest.raises(ValueError, match="read_csv: expected delimiter as one character"):
        read_csv(write_table(tmp_path, "path,identity\n"), delimiter=delimiter)


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "utf-8-sig"])
def test_other_encodings_are_found_out_or_named(tmp_path, encoding):
    table = write_table(tmp_path, "path;identity\ncaf\u00e9.jpg;1\n", encoding)
    named = encoding if encoding == "cp1252" else None
    assert read_csv(table, root="in", encoding=named) == [ImageRecord("in/caf\u00e9.jpg", 1)]
    if encoding == "cp1252":
        with pytest.raises(ValueError, match=r"pass encoding=, such as 'cp1252'"):
            read_csv(table)


def test_an_unknown_encoding_and_a_damaged_archive_are_explained(tmp_path):
    table = write_table(tmp_path, "path,identity\n")
    with pytest.raises(ValueError, match="read_csv: there is no encoding 'klingon'"):
        read_csv(table, encoding="klingon")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"path,identity\n")[:-4])
    with pytest.raises(ValueError, match=r"read_csv: cannot read .*: it is no gzip file, or dam"):
        read_csv(tmp_path / "a.csv.gz")


@pytest.mark.parametrize(
    ("header", "cells", "columns"),
    [
        ("box", '"10,20,30,40"', {}),
        ("corners", "10 20 40 60", {}),
        ("bbox", '"[10.2, 19.9, 30, 40]"', {"box": "bbox"}),
        ("x1,y1,x2,y2", "10,20,40,60", {"corners": "x1,y1,x2,y2"}),
        ("x,y,w,h", "10,20,30,40", {"box": "x, y, w, h"}),
    ],
)
def test_a_box_is_a_part_of_the_path(tmp_path, header, cells, columns):
    empty = "," * header.count(",")
    text = f"path,identity,{header},score\na.jpg,1,{cells},0.9\nb.jpg,1,{empty},\n"
    records = read_csv(write_table(tmp_path, text), root="in", columns=columns)

    first = ImageRecord("in/a.jpg#xywh=10,20,30,40", 1, extra={"score": "0.9"})
    assert records == [first, ImageRecord("in/b.jpg", 1)]

    write_csv(records, tmp_path / "again.csv", relative_to="in")
    assert read_csv(tmp_path / "again.csv", root="in") == records


@pytest.mark.parametrize(
    ("text", "columns", "problem"),
    [
        ('path,identity,box\na,1,"1,2,3"\n', {}, "a box of four numbers in row 2 of"),
        ('path,identity,corners\na,1,"5,5,2,2"\n', {}, r"row 2 of .* holds no pixel"),
        ("path,identity,box,corners\n", {}, r"has box \(left, top, width, height\) and corners"),
        ("path,identity,x\n", {"box": "x,y,w,h"}, "has no column 'y', which columns"),
        ("path,identity,x,y,w,h\na,1,1,,3,4\n", {"box": "x,y,w,h"}, "a box of four numbers in row"),
    ],
)
def test_a_bad_box_is_explained(tmp_path, text, columns, problem):
    with pytest.raises(ValueError, match=problem):
        read_csv(write_table(tmp_path, text), columns=columns)


def test_further_captions_are_columns(tmp_path):
    table = write_table(tmp_path, "path,identity,caption,caption_2\na,1,a coat,red wool\n")
    (record,) = read_csv(table)
    assert (record.caption, record.extra) == ("a coat", {"caption_2": "red wool"})


def test_minus_one_as_the_only_negative_number_is_named(tmp_path):
    table = write_table(tmp_path, "path,identity\na.jpg,4\nb.jpg,-1\n")
    with pytest.warns(UserWarning, match="-1 is read as the name of one identity"):
        assert [record.identity for record in read_csv(table)] == [4, -1]


def test_a_caption_that_means_that_there_is_none_is_named(tmp_path):
    table = write_table(tmp_path, "path,identity,caption\na.jpg,1,nan\nb.jpg,1,a coat\n")
    with pytest.warns(UserWarning, match="'nan' is read as a caption"):
        read_csv(table)


def test_a_blank_caption_is_none(tmp_path):
    table = write_table(tmp_path, 'path,identity,caption\na.jpg,1,"  "\nb.jpg,1," red "\n')
    assert [record.caption for record in read_csv(table)] == [None, " red "]


def test_numbers_that_a_spreadsheet_shortened_are_named(tmp_path):
    table = write_table(tmp_path, "path,identity\na.jpg,1.23E+12\nb.jpg,1.23E+12\n")
    with pytest.warns(UserWarning, match=r"the identity '1\.23E\+12' looks like a long number"):
        read_csv(table)


@pytest.mark.parametrize(
    ("splits", "named"),
    [
        (("train", "trian"), "the split 'trian' is read as one beside 'train'"),
        (("train", "training"), "the split 'training' is read as one beside 'train'"),
        (("query", "galery"), "the split 'galery' is read as one beside 'gallery'"),
        (("val", "validation"), "the split 'validation' is read as one beside 'val'"),
    ],
)
def test_splits_that_are_nearly_others_are_named(tmp_path, splits, named):
    rows = "".join(f"{split}.jpg,1,{split}\n" for split in splits)
    with pytest.warns(UserWarning, match=named):
        read_csv(write_table(tmp_path, f"path,identity,split\n{rows}"))


@pytest.mark.parametrize(
    "splits", [("train", "val", "test"), ("fold1", "fold2"), ("train", "trainval", "unlabelled")]
)
def test_splits_of_usual_names_are_no_warning(tmp_path, splits):
    rows = "".join(f"{split}.jpg,1,{split}\n" for split in splits)
    assert len(read_csv(write_table(tmp_path, f"path,identity,split\n{rows}"))) == len(splits)


@pytest.mark.parametrize("other", ["Identity", "PATH", "\uff49dentity"])
def test_two_spellings_of_a_required_column_are_named(tmp_path, other):
    table = write_table(tmp_path, f"path,identity,{other}\na.jpg,1,2\n")
    with pytest.warns(UserWarning, match="goes to extra, beside '(identity|path)'"):
        read_csv(table)


def test_identities_that_differ_in_what_separates_their_words_are_named(tmp_path):
    table = write_table(tmp_path, "path,identity\na.jpg,rex_one\nb.jpg,rex one\nc.jpg,-1a\n")
    with pytest.warns(UserWarning, match="1 identities are written in several ways"):
        read_csv(table)


def test_columns_without_name_and_cells_are_left_out(tmp_path):
    table = write_table(tmp_path, "path,identity,,\na.jpg,1,,\nb.jpg,2,,\n")
    assert [record.extra for record in read_csv(table)] == [{}, {}]

    table = write_table(tmp_path, "path,identity,,\na.jpg,1,,x\n")
    with pytest.raises(ValueError, match="the columns '' occur more than once"):
        read_csv(table)
