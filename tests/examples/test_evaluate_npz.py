import runpy
import sys

import numpy as np

from clipreid_kit import evaluate_reid


def test_example_prints_the_table(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    ids = np.arange(40) % 4
    embeddings = rng.standard_normal((4, 8))[ids] + rng.standard_normal((40, 8))
    columns = {
        "query_ids": ids[:8],
        "gallery_ids": ids[8:],
        "query_cameras": ids[:8] * 0,
        "gallery_cameras": rng.integers(0, 2, 32),
    }

    path = tmp_path / "features.npz"
    np.savez(path, query_embeddings=embeddings[:8], gallery_embeddings=embeddings[8:], **columns)
    monkeypatch.setattr(sys, "argv", ["evaluate_npz", str(path)])
    runpy.run_module("examples.evaluate_npz", run_name="__main__")

    expected = evaluate_reid(embeddings[:8], embeddings[8:], **columns)
    assert capsys.readouterr().out == expected.table() + "\n"
