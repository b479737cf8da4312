import json

import pytest

from clipreid_kit.reports.json_files import read_json_lines, write_json


def test_failed_write_leaves_the_old_json(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_list_becomes_json_lines(tmp_path):
    write_json(tmp_path / "a.jsonl", [{"a": 1}, {"a": 2}])
    assert (tmp_path / "a.jsonl").read_text() == '{"a": 1}\n{"a": 2}\n'


@pytest.mark.parametrize("line", ["{", "[]", "1", "[" * 100_000])
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(f'{{"a": 1}}\n{line}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl: line 2 (is damaged|has to hold)"):
        read_json_lines(tmp_path / "a.jsonl")
