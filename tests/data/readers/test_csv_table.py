from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord, read_csv, read_folder, write_csv


def _table(folder, text, encoding="utf-8"):
    path = folder / "images.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_every_column_finds_its_place(tmp_path):
    table = _table(
        tmp_path,
        "age,path,identity,camera,view,caption,split\n30,in/a.jpg,rex,2,front,a dog,train\n,b.jpg,tom,,,,\n",
    )
    assert read_csv(table) == [
        ImageRecord(f"{tmp_path}/in/a.jpg", "rex", 2, "front", "a dog", "train", {"age": "30"}),
        ImageRecord(f"{tmp_path}/b.jpg", "tom"),
    ]


def test_relative_paths_begin_at_root_and_absolute_ones_stay(tmp_path):
    table = _table(tmp_path, "path,identity\na.jpg,1\n/abs/b.jpg,1\npack.zip::in/c.jpg,1\n")
    assert [r.path for r in read_csv(table, root="set")] == [
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
        (("-1", "0"), [-1, 0]),
    ],
)
def test_identities_are_integers_only_if_all_are(tmp_path, cells, expected):
    rows = "".join(f"a.jpg,{cell},{cell}\n" for cell in cells)
    records = read_csv(_table(tmp_path, f"path,identity,camera\n{rows}"))
    assert [record.identity for record in records] == expected
    assert [record.camera for record in records] == expected


def test_an_empty_camera_is_unknown_and_leaves_the_others_integers(tmp_path):
    table = _table(tmp_path, "path,identity,camera\na.jpg,1,5\nb.jpg,1,\n")
    assert [record.camera for record in read_csv(table)] == [5, None]


def test_columns_are_renamed(tmp_path):
    table = _table(tmp_path, "file,pid,identity\na.jpg,7,a note\n")
    (record,) = read_csv(table, columns={"path": "file", "identity": "pid"})
    assert (record.path, record.identity, record.extra) == (
        f"{tmp_path}/a.jpg",
        7,
        {"identity": "a note"},
    )


def test_byte_order_mark_quotes_newlines_and_blank_lines(tmp_path):
    table = _table(
        tmp_path, '\ufeffpath,identity,caption\r\n"a,b.jpg",1,"he said ""hi""\nand left"\r\n\r\n'
    )
    (record,) = read_csv(table)
    assert (record.path, record.caption) == (f"{tmp_path}/a,b.jpg", 'he said "hi"\nand left')


def test_a_header_alone_is_an_empty_list(tmp_path):
    assert read_csv(_table(tmp_path, "path,identity\n")) == []


def test_an_index_column_without_a_name_is_extra(tmp_path):
    (record,) = read_csv(_table(tmp_path, ",path,identity\n0,a.jpg,1\n"))
    assert record.extra == {"": "0"}


@pytest.mark.parametrize(
    ("text", "columns", "problem"),
    [
        ("", None, "a header row in .*images.csv, got an empty file"),
        ("\n\n", None, "a header row in .*images.csv, got an empty file"),
        (
            "path,Identities,x\n",
            None,
            r"a column 'identity' in .*, got columns 'path', 'Identities', 'x'\. .*=\{'identity': 'Identities'\}",
        ),
        ("path, identity\n", None, r"columns=\{'identity': ' identity'\}"),
        ("path,zzz\n", None, r"columns=\{'identity': <its name in the table>\}"),
        (
            "path;identity\na.jpg;1\n",
            None,
            "got columns 'path;identity'. Its cells seem to be separated by ';': save",
        ),
        (
            "path\tidentity\na.jpg\t1\n",
            None,
            r"Its cells seem to be separated by '\\t': save it with commas",
        ),
        (
            "in/a.jpg,rex\nin/b.jpg,rex\n",
            None,
            r"got columns 'in/a\.jpg', 'rex'\. Its first row has to name the columns",
        ),
        ("path,identity\n", {"camera": "cam"}, "a column 'cam' in"),
        (
            "path,identity\n",
            {"person": "pid"},
            "keys of columns among path, identity, .*, got 'person'",
        ),
        ("path,identity\n", {"caption": "identity"}, "one used twice"),
        ("path,identity,x,x\n", None, "column names that differ, got 'x' more than once"),
        (
            "path,identity\na.jpg,1\n\nb.jpg,\n",
            None,
            "a value in column 'identity' of each row, got none in row 4",
        ),
        ("path,identity\n ,1\n", None, "a value in column 'path' of each row, got none in row 2"),
        ("path,identity\na.jpg,1,2\n", None, "2 cells in each row, got 3 in row 2"),
        ("path,identity\na.jpg\n", None, "2 cells in each row, got 1 in row 2"),
        ('path,identity\n"a.jpg,1\n', None, "as a CSV table, got Error: unexpected end of data"),
        ('path,identity\n"a".jpg,1\n', None, "as a CSV table, got Error"),
    ],
)
def test_a_bad_table_is_explained(tmp_path, text, columns, problem):
    with pytest.raises(ValueError, match=f"read_csv: expected .*{problem}"):
        read_csv(_table(tmp_path, text), columns=columns)


def test_other_encodings_and_missing_tables_are_explained(tmp_path):
    with pytest.raises(ValueError, match=r"as a CSV table, got UnicodeDecodeError.*UTF-8"):
        read_csv(_table(tmp_path, "path,identity,caption\na.jpg,1,caf\u00e9\n", encoding="latin-1"))
    with pytest.raises(ValueError, match=r"an existing CSV file, got no file at .*none\.csv"):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"as a CSV table, got (IsADirectory|Permission)Error"):
        read_csv(tmp_path)


_cell = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20
)
_word = _cell.filter(lambda text: text.strip() and not text.lstrip("-").isdigit())
_name = _cell.filter(
    lambda text: text not in {"path", "identity", "camera", "view", "caption", "split"}
)


def _records(identity, camera):
    return st.lists(
        st.builds(
            ImageRecord,
            path=st.lists(st.sampled_from("ab \u00e9,\"'"), min_size=1, max_size=5).map(
                lambda letters: f"set/{''.join(letters)}/x.jpg"
            ),
            identity=identity,
            camera=st.none() | camera,
            view=st.none() | _cell,
            caption=st.none() | _cell,
            split=st.none() | _cell,
            extra=st.dictionaries(_name, _cell, max_size=2),
        ),
        max_size=6,
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=_records(st.integers(-(10**9), 10**9), st.integers(0, 9)) | _records(_word, _word),
)
def test_what_is_written_is_read_back(tmp_path, records):
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
        (ImageRecord("other/a.jpg", 1), "every image below set, got other/a.jpg"),
        (
            ImageRecord("set/a.jpg", 1, extra={"camera": "1"}),
            "keys of extra that are not columns already, got camera",
        ),
        (ImageRecord("set/a.jpg", 1, caption="\ud800"), "to write .*surrogates"),
    ],
)
def test_what_cannot_be_written_leaves_the_old_file(tmp_path, record, problem):
    target = tmp_path / "a.csv"
    target.write_text("old")
    with pytest.raises(ValueError, match=f"write_csv: expected .*{problem}"):
        write_csv([ImageRecord("set/b.jpg", 1), record], target, relative_to="set")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_target_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"write_csv: expected to write .*none"):
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
