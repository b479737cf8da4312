import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.metrics import (
    RankedList,
    read_trec_qrels,
    read_trec_run,
    write_trec_qrels,
    write_trec_run,
)

names = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=5, unique=True)


@given(st.data(), names, names)
def test_any_names_come_back_in_their_order(tmp_path_factory, data, queries, items):
    """Ties, huge and tiny similarities keep the order of the lists."""
    value = st.sampled_from([0.0, -0.0, 1e-45, 0.1, 0.1 + 1e-12, -3e38, -1e300, 1e300, -0.5])
    lists = []
    for query in queries:
        values = data.draw(st.lists(value, min_size=len(items), max_size=len(items)))
        lists.append(RankedList(query, items, sorted(values, reverse=True)))

    path = tmp_path_factory.mktemp("trec") / "run"
    write_trec_run(path, iter(lists))
    found = read_trec_run(path)
    assert {query: list(scores) for query, scores in found.items()} == dict.fromkeys(queries, items)
    for scores in found.values():
        in_float32 = np.array(list(scores.values()), dtype=np.float32)
        assert (in_float32[1:] < in_float32[:-1]).all()

    write_trec_qrels(path, [(query, items) for query in queries])
    assert read_trec_qrels(path) == dict.fromkeys(queries, dict.fromkeys(items, 1))


def test_scores_are_the_similarities(tmp_path):
    write_trec_run(tmp_path / "run", [RankedList("q", ["a", "b"], [0.75, -0.1])], tag="my run")
    assert (tmp_path / "run").read_text() == (
        "q Q0 a 1 0.75 my%20run\nq Q0 b 2 -0.100000001 my%20run\n"
    )


def test_without_similarities_scores_count_down(tmp_path):
    write_trec_run(tmp_path / "run", [RankedList("q", ["a", "b", "c"]), RankedList("empty", [])])
    assert read_trec_run(tmp_path / "run") == {"q": {"a": 3, "b": 2, "c": 1}}


def test_ir_measures_reads_both(tmp_path):
    write_trec_run(tmp_path / "run", [RankedList("q 1", ["x", "a", "y", "b"], [0.5] * 4)])
    write_trec_qrels(tmp_path / "qrels", [("q 1", ["a", "b"]), ("without", [])])
    qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "qrels")))
    run = list(ir_measures.read_trec_run(str(tmp_path / "run")))

    measures = [ir_measures.AP, ir_measures.RR, ir_measures.P @ 2]
    found = ir_measures.calc_aggregate(measures, qrels, run)
    assert [found[measure] for measure in measures] == pytest.approx([0.5, 0.5, 0.5])


def test_files_of_other_programs(tmp_path):
    (tmp_path / "run").write_text("q Q0 a 7 1.5 x\r\n\nq\tQ0\tb\t9\t1.5\tx\nq Q0 c 1 2 x")
    assert list(read_trec_run(tmp_path / "run")["q"]) == ["c", "b", "a"]  # ties as in trec_eval
    (tmp_path / "qrels").write_text("q 0 a 2\nq 0 b 0\nr 0 a -1\n")
    assert read_trec_qrels(tmp_path / "qrels") == {"q": {"a": 2, "b": 0}, "r": {"a": -1}}
    (tmp_path / "empty").write_text("")
    assert read_trec_run(tmp_path / "empty") == {} == read_trec_qrels(tmp_path / "empty")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 a 1 0.5", "run, line 1: there are 5 columns, and 6 are needed"),
        ("\nq Q0 a 1 high x", "run, line 2: the score 'high' is not a finite number"),
        ("q Q0 a 1 nan x", "the score 'nan' is not a finite number"),
        ("q Q0 a 1 2 x\nq Q0 a 2 1 x", "line 2: query 'q' has the item 'a' twice"),
    ],
)
def test_damaged_runs(tmp_path, text, message):
    (tmp_path / "run").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_trec_run(tmp_path / "run")


def test_damaged_qrels(tmp_path):
    (tmp_path / "qrels").write_text("q 0 a 0.5")
    with pytest.raises(ValueError, match=r"line 1: the relevance '0.5' is not a whole number"):
        read_trec_qrels(tmp_path / "qrels")


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([RankedList("q", ["a"]), RankedList("q", ["b"])], "query 'q' occurs twice"),
        ([RankedList("q", ["a", "a"])], "item of query 'q': 'a' occurs twice"),
        ([RankedList("", ["a"])], "a name is empty; every query and item needs one"),
        ([RankedList("q", ["a", "b"], [0.1, 0.2])], "similarities of query 'q' increase; sort"),
        ([RankedList("q", ["a"], [float("nan")])], "similarities of query 'q' hold NaN"),
        (
            [RankedList("q", ["a"], [0.1, 0.2])],
            r"similarities of query 'q' are of shape \(2,\), for 1 names",
        ),
    ],
)
def test_lists_that_cannot_be_written(tmp_path, lists, message):
    with pytest.raises(ValueError, match=f"write_trec_run: {message}"):
        write_trec_run(tmp_path / "run", lists)
    assert not list(tmp_path.iterdir())
