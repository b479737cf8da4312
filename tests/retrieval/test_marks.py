"""Marks: the last word counts, a torn line does not, and right ones join identities."""

import pytest

from clipreid_kit.retrieval import Mark, read_marks, records_of_marks
from clipreid_kit.retrieval.marks import append_mark


def test_the_last_word_on_a_pair_counts(tmp_path):
    file = tmp_path / "m.jsonl"
    for mark in [
        Mark("b.jpg", 1, True, "a.jpg"),
        Mark("b.jpg", 1, True, query_text="a coat"),
        Mark("c.jpg", 2, False, query_sha256="0" * 64, identity=7),
        Mark("b.jpg", 1, None, "a.jpg"),
        Mark("c.jpg", 2, True, query_sha256="0" * 64, identity=7),
    ]:
        append_mark(file, mark)

    assert read_marks(file) == [
        Mark("b.jpg", 1, True, query_text="a coat"),
        Mark("c.jpg", 2, True, query_sha256="0" * 64, identity=7),
    ]


def test_a_torn_last_line_is_left_out_and_the_next_mark_is_whole(tmp_path):
    file = tmp_path / "m.jsonl"
    append_mark(file, Mark("b.jpg", 1, True, "ä.jpg"))
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole + whole[:length])
        first = read_marks(file)
        assert [mark.query_path for mark in first] == ["ä.jpg"]

    file.write_bytes(whole[:-1])  # all but the end of the line
    assert len(read_marks(file)) == 1
    append_mark(file, Mark("c.jpg", 2, True, "a.jpg"))
    assert [mark.path for mark in read_marks(file)] == ["b.jpg", "c.jpg"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x\n", "line 1 of .* is not JSON"),
        ("\n[1]\n", "line 2 of .* is not a mark"),
        ('{"path": "a"}\n', "line 1 of .* is not a mark"),
        ('{"path": "a", "key": 1, "is_match": 3}\n', "line 1 of .* is not a mark"),
    ],
)
def test_other_files(tmp_path, text, words):
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_marks(tmp_path / "m.jsonl")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*m\.jsonl"):
        read_marks(tmp_path / "m.jsonl")
    with pytest.raises(ValueError, match=r"append_mark: cannot write to .*: No such file"):
        append_mark(tmp_path / "no" / "m.jsonl", Mark("a", 1, True))


def test_fields_of_later_versions_are_left_out(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"path": "a", "key": 1, "is_match": true, "who": "x"}\n')
    assert read_marks(tmp_path / "m.jsonl") == [Mark("a", 1, True)]


def test_right_marks_join_identities():
    marks = [
        Mark("b", 1, True, "a"),
        Mark("d", 3, True, "c"),
        Mark("c", 2, True, "b"),
        Mark("e", 4, False, "a"),
        Mark("f", 5, True, query_text="a coat"),
    ]
    found = {record.path: record.identity for record in records_of_marks(marks)}
    assert found == {**dict.fromkeys("abcd", "marked-0"), "e": "marked-1"}
    assert records_of_marks([]) == []


def test_marks_that_contradict_each_other():
    marks = [Mark("b", 1, True, "a"), Mark("c", 2, True, "b"), Mark("c", 2, False, "a")]
    with pytest.raises(ValueError, match="a and c are marked as wrong"):
        records_of_marks(marks)
