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
