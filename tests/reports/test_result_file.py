import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch

from clipreid_kit import evaluate_reid
from clipreid_kit.data import ImageRecord
from clipreid_kit.reports import Evaluation, read_result_file, write_result_file
from clipreid_kit.reports.result_file import fingerprint_of, result_file_of

RECIPE = {"stage": "joint", "seed": 3, "note": "A note."}


@pytest.fixture
def evaluation(tmp_path):
    """Eight images of four identities, each ranked against the others."""
    records = []
    for row in range(8):
        path = tmp_path / f"{row}.png"
        path.write_bytes(f"pixels {row}".encode())
        records.append(ImageRecord(str(path), row % 4, row // 4))

    embeddings = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    result = evaluate_reid(embeddings, query_ids=[record.identity for record in records])
    results = {"image_to_image": result}
    return Evaluation(results, records, records, embeddings, embeddings, None, [], False)


def test_all_that_a_run_writes_is_read_back(evaluation, tmp_path):
    path = write_result_file(tmp_path, evaluation, RECIPE)
    file = read_result_file(path)
    want = evaluation.results["image_to_image"]

    assert path == result_file_of(tmp_path)
    assert file.recipe == RECIPE
    assert {"clipreid_kit", "torch", "python", "revision"} <= file.versions.keys()
    assert re.fullmatch("[0-9a-f]{64}", file.fingerprint)
    assert file.numbers == {"image_to_image": want.to_dict()}

    (found,) = file.results.values()
    for name in ("average_precision", "first_rank", "num_positives", "query_ids"):
        np.testing.assert_array_equal(getattr(found, name), getattr(want, name))
    assert json.loads(path.read_text())["seed"] == 3


def test_the_fingerprint_is_of_what_was_tested(evaluation, tmp_path):
    known = fingerprint_of(evaluation)
    (tmp_path / "elsewhere").mkdir()
    moved = []
    for record in evaluation.query:
        path = shutil.copy(record.path, tmp_path / "elsewhere")
        moved.append(dataclasses.replace(record, path=str(path)))

    def changed(**columns):
        return fingerprint_of(dataclasses.replace(evaluation, **columns))

    assert changed(query=moved, gallery=moved) == known
    assert changed(camera_rule=True) != known
    assert changed(gallery=moved[:-1]) != known
    assert changed(captions=[(1, "a red coat")]) != known
    assert changed(query=[dataclasses.replace(moved[0], identity=3), *moved[1:]]) != known

    (tmp_path / "elsewhere" / "7.png").write_bytes(b"pixels 8")
    assert changed(query=moved, gallery=moved) != known


def test_a_result_of_any_program(evaluation, tmp_path):
    result = evaluation.results["image_to_image"]
    (tmp_path / "own.json").write_text(result.to_json(per_query=True))
    file = read_result_file(tmp_path / "own.json")

    assert (file.recipe, file.fingerprint) == ({}, None)
    assert file.results["image_to_image"].mean_ap == result.mean_ap


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "bad.json: this is no result file, as it has no recipe. Pass the comparable.json"),
        ("[1]", "bad.json: the file has to hold a JSON object"),
        ('{"per_query": {}}', "bad.json: the result is damaged"),
        ("{", "bad.json: the file of the run is damaged"),
    ],
)
def test_damaged_files(tmp_path, text, message):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_result_file(tmp_path / "bad.json")


def test_a_run_without_a_result_file(tmp_path):
    with pytest.raises(ValueError, match=r"the run has no comparable\.json: it did not end, or an"):
        result_file_of(tmp_path)
