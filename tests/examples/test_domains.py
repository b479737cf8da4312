"""Recipes over several domains: generated looks, the domain that is tested, balanced batches."""

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tiny import tiny_recipe

from clipreid_kit import data as kit
from clipreid_kit.data import SyntheticReid, domain_names, write_csv
from examples.trainer import cross_domain
from examples.trainer.assemble import pk_batches
from examples.trainer.cross_domain import evaluate_matrix
from examples.trainer.records import load_records

LOOKS = "data.looks=[plain, night, drawing]"


@pytest.fixture(autouse=True)
def _without_drawing(monkeypatch):
    monkeypatch.setattr(kit, "check_files", lambda _: None)
    monkeypatch.setattr(
        SyntheticReid,
        "write",
        lambda self, folder, **_: [
            replace(record, path=f"{folder}/{record.path}") for record in self.records()
        ],
    )


def records_of(folder, *changes):
    recipe = tiny_recipe(folder, *changes, stage="classifier")
    return recipe, load_records(recipe, folder)[0]


def splits(records):
    return {(record.extra["domain"], record.split) for record in records}


def test_each_look_is_a_domain_with_identities_of_its_own(tmp_path):
    _, records = records_of(tmp_path, LOOKS)
    assert Counter(domain_names(records)) == dict.fromkeys(("plain", "night", "drawing"), 160)
    assert len({record.identity for record in records}) == 60
    assert len({record.path for record in records}) == 480
    assert "domain" not in records_of(tmp_path, "data.looks=[night]")[1][0].extra


def test_a_generated_domain_is_tested_and_not_trained_on(tmp_path):
    _, records = records_of(tmp_path, LOOKS, "data.test_domain=night")
    tested = {("night", "query"), ("night", "gallery")}
    trained = ("train", "val_query", "val_gallery")
    assert splits(records) == tested | {(d, s) for d in ("plain", "drawing") for s in trained}


def test_a_domain_of_a_table_is_tested_and_not_trained_on(tmp_path):
    _, records = records_of(tmp_path, LOOKS)
    write_csv(records, tmp_path / "all.csv")
    changes = ("data.source=table", f"data.root={tmp_path}/all.csv", "data.test_domain=plain")
    _, chosen = records_of(tmp_path, *changes)
    assert {split for domain, split in splits(chosen) if domain == "plain"} == {"query", "gallery"}
    assert ("night", "train") in splits(chosen)
    with pytest.raises(ValueError, match="'day' of drawing, night, plain"):
        records_of(tmp_path, *changes[:2], "data.test_domain=day")


@pytest.mark.parametrize(("shares", "counts"), [("[]", [2, 2, 2]), ("[1, 1, 2]", [2, 1, 3])])
def test_batches_are_balanced(tmp_path, shares, counts):
    changes = ("batch.balance_domains=true", f"batch.domain_shares={shares}")
    size = ("batch.num_identities=6", "data.orientations=4")
    recipe, records = records_of(tmp_path, LOOKS, *size, *changes)
    dataset = kit.ReidDataset(
        [record for record in records if record.split == "train"],
        kit.eval_transform(8),
        orientations=4,
    )
    session = SimpleNamespace(rank=0, ranks=1, encoding=SimpleNamespace(categories=[]))

    sampler = pk_batches(recipe, session, dataset).sampler
    assert sampler.identities_of_domain == counts
    for batch in sampler:
        found = Counter(dataset.records[row // 4].extra["domain"] for row in batch)
        assert [found[name] // 2 for name in sorted(found)] == counts


def run_folder(path, data):
    path.mkdir(parents=True)
    recipe = tiny_recipe(path, *data, stage="classifier")
    (path / "recipe.json").write_text(json.dumps(recipe.model_dump(mode="json")))
    return path


def test_evaluations_of_a_matrix_are_made_once(tmp_path, monkeypatch):
    made = []

    def evaluate_run(run, _checkpoint, changes, *, data, out):
        made.append((run.name, changes, data))
        out.mkdir(parents=True)
        moment = {"image_to_image": {"rank_1": 0.5, "mean_ap": 0.25}}
        (out / "results.json").write_text(json.dumps({"after": moment}))

    monkeypatch.setattr(cross_domain, "evaluate_run", evaluate_run)
    for seed in range(2):
        run_folder(tmp_path / "a" / f"seed{seed}", ["data.source=folder", "data.root=a"])
    other = run_folder(tmp_path / "b", [])
    (other / "data").mkdir()
    (other / "data" / "records.csv").touch()
    table = run_folder(tmp_path / "c", ["data.source=table", "data.root=c.csv", "data.test=0.5"])

    trained = {"A": tmp_path / "a", "B": other}
    tests = {"B": other, "C": table, "photos": tmp_path}
    matrix = evaluate_matrix(trained, tests, tmp_path / "out")
    assert [len(matrix["A"][test]) for test in tests] == [2, 2, 2]
    assert matrix["B"]["C"] == [{"image_to_image": {"rank_1": 0.5, "mean_ap": 0.25}}]
    assert len(made) == 9
    assert made[0] == ("seed0", ["data.source=table"], str(other / "data" / "records.csv"))
    assert made[-1] == ("b", [], str(tmp_path))
    assert {"data.source=table", "data.test=0.5", "data.columns={}"} <= set(made[-2][1])

    (tmp_path / "out" / "B" / "b" / "photos" / "cross_domain.json").unlink()  # as if interrupted
    assert evaluate_matrix(trained, tests, tmp_path / "out") == matrix
    assert len(made) == 10

    with pytest.raises(ValueError, match="another run or test set"):
        evaluate_matrix({"A": tmp_path / "a"}, {"B": table}, tmp_path / "out")
    with pytest.raises(ValueError, match="neither a run"):
        evaluate_matrix({"A": tmp_path / "out"}, tests, tmp_path / "out")
