import numpy as np
import pytest
import torch
from PIL import Image
from run_folders import write_run

from clipreid_kit.data import ImageRecord
from clipreid_kit.reports import Evaluation, write_error_pages, write_features, write_map_pages
from clipreid_kit.reports.run_pages import features_of_runs


def evaluated(folder):
    """Embeddings of a query and two gallery images, written to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for number, identity in enumerate(("tom", "rex", "tom")):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        records.append(ImageRecord(str(folder / f"{number}.png"), identity, camera=number))
    rows = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    found = Evaluation({}, records[:1], records[1:], rows[:1], rows[1:], None, [], True)
    return write_features(folder, found)


def test_every_run_gets_a_page(tmp_path):
    for name in ("one", "two"):
        evaluated(write_run(tmp_path / "runs" / name))

    pages = write_error_pages([tmp_path / "runs"], tmp_path / "out")
    assert [page.name for page in pages] == ["one.html", "two.html"]
    assert "<h1>one: errors</h1>" in pages[0].read_text()
    assert write_error_pages([tmp_path / "runs"], tmp_path / "out") == pages  # again, over its own


def test_the_last_evaluation_counts_where_the_run_has_no_features(tmp_path):
    run = write_run(tmp_path / "run")
    evaluated(run / "evaluations" / "2026-01-01T00-00-00")
    last = evaluated(run / "evaluations" / "2026-01-02T00-00-00")
    assert features_of_runs([run]) == {"run": last}
    own = evaluated(run)
    assert features_of_runs([run]) == {"run": own}


def test_without_embeddings_the_error_says_how_to_get_them(tmp_path):
    run = write_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"clipreid evaluate .*run --features"):
        write_error_pages([run], tmp_path / "out")


def test_the_files_of_others_stay(tmp_path):
    evaluated(write_run(tmp_path / "run"))
    foreign = tmp_path / "out" / "errors" / "run.html"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    with pytest.raises(ValueError, match="holds files that were not written here"):
        write_error_pages([tmp_path / "run"], tmp_path / "out")
    assert foreign.read_text() == "mine"


def test_every_run_gets_a_map_as_page_and_picture(tmp_path):
    run = write_run(tmp_path / "run")
    folder = run / "images"
    records, rows = [], torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    folder.mkdir()
    for number in range(8):
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(folder / f"{number}.png")
        records.append(ImageRecord(str(folder / f"{number}.png"), number % 2, camera=number % 4))
    write_features(run, Evaluation({}, records, records, rows, rows, None, [], False))

    (page,) = write_map_pages([run], tmp_path / "out", method="pca")
    text = page.read_text()
    assert "<h1>run: embeddings</h1>" in text
    assert "8 images of 2 identities. Placed by pca, seed 0." in text
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")

    (page,) = write_map_pages([run], tmp_path / "out", method="pca", max_images=5)
    assert "4 images of 1 identities. Whole identities, chosen at random from 8" in page.read_text()
