import ir_measures
import numpy as np
import pytest
import torch

from clipreid_kit import evaluate_reid
from clipreid_kit.metrics import export_trec, read_trec_qrels, read_trec_run, trec_export

GALLERY_IDS = np.arange(60) % 9 - 1  # identity -1 is junk
QUERY_IDS = np.arange(12) % 9
LABELS = {
    "query_ids": QUERY_IDS,
    "gallery_ids": GALLERY_IDS,
    "query_cameras": np.arange(12) % 3,
    "gallery_cameras": np.arange(60) % 4,
    "junk_ids": [-1],
}


def embeddings(values=None):
    """Small whole numbers, so that many similarities are tied."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-1, 2, (72, 4), generator=generator).float()
    return rows[:12], rows[12:]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_ir_measures_finds_our_figures(tmp_path, distance, monkeypatch):
    monkeypatch.setattr(trec_export, "_CELLS", 200)  # several blocks of queries
    queries, gallery = embeddings()
    ours = evaluate_reid(queries, gallery, **LABELS, distance=distance)
    files = tmp_path / "run", tmp_path / "qrels"
    export_trec(*files, queries, gallery, **LABELS, distance=distance)

    run = list(ir_measures.read_trec_run(str(files[0])))
    qrels = list(ir_measures.read_trec_qrels(str(files[1])))
    of_each = {
        entry.query_id: entry.value for entry in ir_measures.iter_calc([ir_measures.AP], qrels, run)
    }
    known = {
        f"q{query}": value
        for query, value in enumerate(ours.average_precision)
        if not np.isnan(value)
    }
    assert len(known) < 12  # identity 8 is in no gallery
    assert of_each == pytest.approx(known)

    for k in (1, 5):
        success = ir_measures.Success @ k
        found = ir_measures.calc_aggregate([success], qrels, run)
        assert found[success] == pytest.approx(ours.rank(k))


def test_the_first_k_of_the_whole_lists(tmp_path):
    queries, gallery = embeddings()
    names = {"query_names": [f"q {i}.png" for i in range(12)]}
    names["gallery_names"] = [f"{i} 50%.png" for i in range(60)]
    export_trec(tmp_path / "all", tmp_path / "qrels", queries, gallery, **LABELS, **names)
    export_trec(tmp_path / "few", tmp_path / "qrels", queries, gallery, **LABELS, **names, k=7)

    whole, few = read_trec_run(tmp_path / "all"), read_trec_run(tmp_path / "few")
    assert list(whole) == list(few) == names["query_names"]
    for query, items in few.items():
        assert list(items) == list(whole[query])[:7]

    junk = {names["gallery_names"][row] for row in np.flatnonzero(GALLERY_IDS == -1)}
    assert not junk & whole["q 0.png"].keys()

    matches = read_trec_qrels(tmp_path / "qrels")["q 0.png"]
    by_hand = [row for row in range(60) if GALLERY_IDS[row] == 0 and row % 4 != 0]
    assert list(matches) == [names["gallery_names"][row] for row in by_hand]


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "expected k as a whole number >= 1"),
        ({"distance": "dot"}, "expected distance to be one of cosine, euclidean"),
        ({"query_names": ["a"] * 12}, "query_names has 'a' twice; give each row its own"),
        ({"gallery_names": ["a"]}, "expected gallery_names as 60 names, one for each row"),
        ({"query_ids": [1]}, "expected query_ids as 12 ids"),
        ({"query_embeddings": torch.full((12, 4), torch.nan)}, "NaN"),
        ({"query_embeddings": torch.ones(12, 5)}, "dim|width"),
    ],
)
def test_bad_input(tmp_path, change, message):
    queries, gallery = embeddings()
    arguments = {"query_embeddings": queries, "gallery_embeddings": gallery, **LABELS, **change}
    with pytest.raises(ValueError, match=f"export_trec: .*({message})|export_trec: {message}"):
        export_trec(tmp_path / "run", tmp_path / "qrels", **arguments)
