import numpy as np
import pytest
from run_folders import both, write_run


@pytest.mark.parametrize("published", ["papers", "own.csv"])
def test_published_figures_beside_a_run(clipreid, tmp_path, monkeypatch, published):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "clip_reid_vit_market1501", rates=[0.5], results=both(0.25, 0.9))
    own = tmp_path / "own.csv"
    own.write_text("version,source,R1\nclip_reid_vit_market1501,Mine,95.5\n")

    status, printed, _ = clipreid("report", ".", "--out", "out", "--published", published)

    assert status == 0
    assert "# Published figures (%)" in printed
    assert "| 90.00    | 95.50     | -5.50" in printed


def test_pages_need_the_embeddings_of_the_run(clipreid, tmp_path, monkeypatch):
    monkeypatch.setattr("clipreid_kit.reports.gather_runs", lambda *_, **__: "")
    write_run(tmp_path / "run", rates=[0.5], results=both(0.25, 0.9))
    out = tmp_path / "out"
    status, _, failure = clipreid("report", tmp_path / "run", "--out", out, "--errors")
    assert status == 1
    assert "clipreid evaluate" in failure

    rows = np.eye(2)
    arrays = {}
    for side in ("query", "gallery"):
        arrays[f"{side}_embeddings"] = rows
        arrays[f"{side}_ids"] = ["a", "b"]
        arrays[f"{side}_paths"] = [f"{side}0.jpg", f"{side}1.jpg"]
    np.savez(tmp_path / "run" / "features.npz", **arrays)
    status, printed, _ = clipreid("report", tmp_path / "run", "--out", out, "--errors")
    assert status == 0
    assert printed.endswith(f"errors: {out / 'errors' / 'run.html'}\n")
    assert "Every query with a match has it first." in (out / "errors" / "run.html").read_text()

    status, _, failure = clipreid("report", tmp_path / "run", "--out", out, "--map")
    assert status == 1
    assert "image" in failure  # the images that the paths name do not exist
