import numpy as np
import pytest
import torch

from clipreid_kit import evaluate_reid
from clipreid_kit.metrics._engine import match_pairs, saved_counts

DIM = 4


class KilledError(Exception):
    """Raised in the place of a kill of the process."""


def make_case(tmp_path, dtype=np.float16):
    """Queries and a memory-mapped gallery with ties, junk, distractors and shared cameras."""
    rng = np.random.default_rng(0)
    gallery = rng.integers(-2, 3, (200, DIM)).astype(dtype)
    path = tmp_path / "gallery.npy"
    np.save(path, gallery)
    case = {
        "query_ids": rng.integers(0, 12, 20),
        "gallery_ids": rng.integers(-1, 16, 200),
        "query_cameras": rng.integers(0, 3, 20),
        "gallery_cameras": rng.integers(0, 3, 200),
        "junk_ids": [-1],
    }
    queries = torch.from_numpy(rng.integers(-2, 3, (20, DIM)).astype(dtype))
    return queries, np.load(path, mmap_mode="r"), case


def kill_after(num_reports):
    reports = []

    def report(done, total):
        reports.append((done, total))
        if len(reports) == num_reports:
            raise KilledError

    return report


def same_result(first, second):
    assert first.cmc.tolist() == second.cmc.tolist()
    assert first.mean_ap == second.mean_ap
    assert first.mean_inp == second.mean_inp
    assert first.num_valid_queries == second.num_valid_queries


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("rows_in_part", [1, 7, 64, 200, 1000])
def test_any_parts_give_the_result_of_the_whole(tmp_path, monkeypatch, rows_in_part, distance):
    queries, gallery, case = make_case(tmp_path)
    expected = evaluate_reid(queries, np.array(gallery), distance=distance, **case)

    monkeypatch.setattr(saved_counts, "PART", rows_in_part * DIM)
    reports = []
    result = evaluate_reid(
        queries,
        gallery,
        distance=distance,
        progress=lambda *numbers: reports.append(numbers),
        **case,
    )

    same_result(result, expected)
    assert reports[0] == (0, 20 * 200)
    assert reports[-1] == (20 * 200, 20 * 200)
    assert reports == sorted(reports)


@pytest.mark.parametrize("ties", ["pessimistic", "mean"])
@pytest.mark.parametrize("num_reports", [2, 3, 5, 9, 14])
def test_a_killed_run_continues(tmp_path, monkeypatch, num_reports, ties):
    monkeypatch.setattr(saved_counts, "SAVE_SECONDS", 0)
    monkeypatch.setattr(saved_counts, "PART", 70 * DIM)
    monkeypatch.setattr(match_pairs, "MAX_PAIRS", 80)  # several ranges of queries
    queries, gallery, case = make_case(tmp_path)
    expected = evaluate_reid(queries, np.array(gallery), ties=ties, **case)

    state = tmp_path / "state"
    with pytest.raises(KilledError):
        evaluate_reid(
            queries,
            gallery,
            ties=ties,
            state_file=state,
            progress=kill_after(num_reports),
            **case,
        )
    assert state.is_file()

    # another size of the parts changes nothing, and nothing is counted twice
    monkeypatch.setattr(saved_counts, "PART", 33 * DIM)
    reports = []
    result = evaluate_reid(
        queries,
        gallery,
        ties=ties,
        state_file=state,
        progress=lambda *numbers: reports.append(numbers),
        **case,
    )
    same_result(result, expected)
    assert reports[0][0] > 0
    assert not state.exists()


def test_leave_one_out_with_a_state(tmp_path):
    rows = torch.randn(40, DIM, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(40) % 7
    result = evaluate_reid(rows, query_ids=ids, state_file=str(tmp_path / "state"))
    same_result(result, evaluate_reid(rows, query_ids=ids))


def changed(name, queries, gallery, case):
    if name == "queries":
        queries = queries + 1
    if name == "gallery":
        gallery = np.array(gallery)
        gallery[150] += 1
    if name == "gallery_ids":
        case = case | {"gallery_ids": case["gallery_ids"][::-1]}
    if name == "junk_ids":
        case = case | {"junk_ids": [15]}
    if name == "distance":
        case = case | {"distance": "euclidean"}
    return queries, gallery, case


@pytest.mark.parametrize("name", ["queries", "gallery", "gallery_ids", "junk_ids", "distance"])
def test_the_state_of_another_evaluation_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(saved_counts, "SAVE_SECONDS", 0)
    monkeypatch.setattr(saved_counts, "PART", 100 * DIM)
    arguments = make_case(tmp_path)
    state = tmp_path / "state"
    queries, gallery, case = arguments
    with pytest.raises(KilledError):
        evaluate_reid(queries, gallery, state_file=state, progress=kill_after(2), **case)

    queries, gallery, case = changed(name, *arguments)
    with pytest.raises(ValueError, match="state is of an evaluation of other embeddings, ident"):
        evaluate_reid(queries, gallery, state_file=state, **case)
    assert state.is_file()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken"])
def test_another_file_is_not_taken_for_a_state(tmp_path, content):
    queries, gallery, case = make_case(tmp_path)
    state = tmp_path / "state"
    state.write_bytes(content)
    with pytest.raises(ValueError, match="state holds no counts of an evaluation"):
        evaluate_reid(queries, gallery, state_file=state, **case)
    assert state.read_bytes() == content


def test_an_archive_of_other_arrays_is_not_taken_for_a_state(tmp_path):
    queries, gallery, case = make_case(tmp_path)
    state = tmp_path / "state.npz"
    np.savez(state, ids=np.arange(3))
    with pytest.raises(ValueError, match=r"holds no counts of an evaluation \(it has ids\)"):
        evaluate_reid(queries, gallery, state_file=state, **case)


def test_broken_rows_are_named_by_their_number(tmp_path, monkeypatch):
    monkeypatch.setattr(saved_counts, "PART", 50 * DIM)
    queries, gallery, case = make_case(tmp_path)
    broken = np.array(gallery)
    broken[170] = np.nan
    np.save(tmp_path / "broken.npy", broken)
    case["gallery_ids"][170] = 15  # no query has it
    gallery = np.load(tmp_path / "broken.npy", mmap_mode="r")
    with pytest.raises(ValueError, match=r"1 of 200 rows \(first: \[170\]\)"):
        evaluate_reid(queries, gallery, progress=lambda done, total: None, **case)


def test_with_a_function_there_is_nothing_to_save(tmp_path):
    queries, gallery, case = make_case(tmp_path, np.float32)
    with pytest.raises(ValueError, match="progress and state_file have no effect with similarity"):
        evaluate_reid(
            queries,
            torch.from_numpy(np.array(gallery)),
            similarity=lambda q, g: q @ g.T,
            state_file=tmp_path / "state",
            **case,
        )
