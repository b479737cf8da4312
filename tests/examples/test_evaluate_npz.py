import runpy
import sys

import numpy as np

from clipreid_kit import evaluate_reid


def test_example_prints_the_table(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    ids = np.arange(40) % 4
    rows = rng.standard_normal((4, 8))[ids] + rng.standard_normal((40, 8))
    sides = {"query_ids": ids[:8], "gallery_ids": ids[8:]}
    sides |= {"query_cameras": ids[:8] * 0, "gallery_cameras": rng.integers(0, 2, 32)}
    np.savez(
        tmp_path / "features.npz", query_embeddings=rows[:8], gallery_embeddings=rows[8:], **sides
    )
    monkeypatch.setattr(sys, "argv", ["evaluate_npz", str(tmp_path / "features.npz")])
    runpy.run_module("examples.evaluate_npz", run_name="__main__")
    assert capsys.readouterr().out == evaluate_reid(rows[:8], rows[8:], **sides).table() + "\n"
