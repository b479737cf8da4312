"""The notebooks run from top to bottom, improve the model, and are kept without outputs."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "examples" / "notebooks"
NAMES = ["finetune_and_search", "own_loss"]


def cells_of(name):
    return json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def test_every_notebook_is_run():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_outputs_and_uses_public_names(name):
    for cell in cells_of(name):
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
        assert "clipreid_kit._" not in "".join(cell["source"])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_improves_the_model(name, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="the extra dev")
    nbformat = pytest.importorskip("nbformat", reason="the extra dev")
    pytest.importorskip("ipykernel", reason="the extra dev")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    check = "assert after.mean_ap > before.mean_ap + 0.05, (before, after)"
    notebook.cells.append(nbformat.v4.new_code_cell(check))
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, resources=resources).execute()
