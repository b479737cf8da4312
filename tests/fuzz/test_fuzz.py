"""A short fuzz of every door; ``make fuzz`` runs a longer one.

The properties: no foreign traceback, an error of one line, no hang, bounded memory, and equal
content for a neutral rewrite.
"""

import json
import string

import pytest
from fuzz.doors import DOORS
from fuzz.mutations import generator_of, mutate
from fuzz.run import Finding, fuzz, input_of, main, problem_of, save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SEED = 20
INPUTS = 40

JSON_DOORS = [
    "json-table",
    "annotations",
    "split",
    "descriptions",
    "image-paths",
    "image-splits",
    "texts",
    "prompts",
    "recipe",
    "card",
    "result",
]

# Keys that the readers look for, so that documents get past the first check.
KEYS = st.sampled_from(
    [
        *("path", "identity", "camera", "split", "caption", "image_path", "id", "splits", "train"),
        *("data", "item", "color", "description", "note", "stage", "base", "model", "name"),
        *("image_size", "per_query", "format", "version", "sha256", "identities", "item_id"),
    ]
) | st.text(string.printable, max_size=4)

VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 3)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["a.jpg", "train", "../a", "joint", "a\0b", "\ud800", "", " "])
)

DOCUMENTS = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)


@pytest.mark.slow
@pytest.mark.unhooked
@pytest.mark.parametrize("name", DOORS)
def test_mutated_files(name):
    """Findings are printed with the door, the seed and the number of the input."""
    assert fuzz(name, SEED, range(INPUTS)) == []


@pytest.mark.slow
@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", JSON_DOORS)
def test_any_json_document(name, tmp_path):
    @settings(max_examples=20, suppress_health_check=list(HealthCheck))
    @given(DOCUMENTS)
    def opens_or_refuses(document):
        content = json.dumps(document).encode()
        assert problem_of(DOORS[name], content, None, tmp_path) is None

    opens_or_refuses()


# The engine itself.


@pytest.mark.parametrize("name", ["csv", "recipe", "safetensors"])
def test_an_input_depends_on_its_seed_door_and_number(name):
    assert input_of(1, name, 7) == input_of(1, name, 7)
    assert input_of(1, name, 7) != input_of(2, name, 7)
    assert input_of(1, name, 7) != input_of(1, name, 8)


def test_mutations_change_most_files():
    content = b'{"a": 1, "b": [2, 3.5]}\n{"a": 4}\n'
    changed = [mutate(content, [content], generator_of(0, "x", i)) for i in range(200)]
    assert sum(other != content for other in changed) > 150
    assert any(other.count(b'"a"') > 2 for other in changed)
    assert any(b"1e309" in other or b"9223372036854775808" in other for other in changed)


def door_of(monkeypatch, opened):
    door = DOORS["csv"]._replace(open=opened)
    monkeypatch.setitem(DOORS, "csv", door)


def raise_key_error(path):
    raise KeyError("path")


def end_the_worker(path):
    import os

    os._exit(7)


def take_all_memory(path):
    return bytearray(1 << 40)


def raise_two_lines(path):
    raise ValueError("one\ntwo")


@pytest.mark.parametrize(
    ("opened", "problem"),
    [
        (raise_key_error, "KeyError"),
        (take_all_memory, "MemoryError"),
        (raise_two_lines, "an error of 2 lines"),
        (end_the_worker, "exit code 7"),
    ],
)
def test_faults_are_found(monkeypatch, opened, problem):
    door_of(monkeypatch, opened)
    findings = fuzz("csv", 0, range(1, 4))

    assert [finding.index for finding in findings] == [1, 2, 3]
    assert all(problem in finding.problem for finding in findings)


def test_a_hang_is_found(monkeypatch):
    def wait(path):
        import time

        time.sleep(60)

    monkeypatch.setattr("fuzz.run._SECONDS_AN_INPUT", 1)
    door_of(monkeypatch, wait)
    (finding,) = fuzz("csv", 0, [1])
    assert finding.problem.startswith("it takes more than 1 seconds")


def test_other_content_is_found(monkeypatch):
    door_of(monkeypatch, lambda path: path.read_bytes())
    (finding,) = fuzz("csv", 0, [0])
    assert finding.problem == "a neutral rewrite has another content"


def test_findings_are_saved_and_replayed(monkeypatch, tmp_path, capsys):
    path = save(Finding("csv", 5, "KeyError"), 3, tmp_path / "found")
    assert path.name == "csv-3-5.csv"
    assert path.read_bytes() == input_of(3, "csv", 5)[0]
    assert path.with_suffix(".txt").read_text() == "KeyError"

    door_of(monkeypatch, raise_key_error)
    assert main(["--replay", str(path), "--door", "csv"]) == 1
    assert "KeyError" in capsys.readouterr().out


def test_the_command_counts_inputs(monkeypatch, tmp_path, capsys):
    door_of(monkeypatch, raise_key_error)
    assert main(["--seconds", "0.01", "--door", "csv", "--folder", str(tmp_path)]) == 1

    out = capsys.readouterr().out
    assert "csv seed 0 input 1: KeyError: 'path'" in out
    assert "inputs: csv 40" in out
