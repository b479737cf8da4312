"""Training on clusters: labels are hidden, a pause changes nothing, bad clusters say so."""

import csv
import json
import random

import pytest
import torch
from safetensors.torch import load_file
from tiny import session_of, tiny_recipe

from clipreid_kit.data import records_of
from examples.trainer import loop
from examples.trainer import run as trainer
from examples.trainer.stages import unsupervised

pytestmark = pytest.mark.usefixtures("without_report")

STAGE = "unsupervised"
ONE_EPOCH = ("optim.epochs=1", "optim.warmup_epochs=0")
CAMERAS = ("loss.prototype=0", "loss.camera_prototype=1", "loss.memory_update=each")


def content(out):
    """Weights by name, and rows without times."""
    weights = {}
    for path in sorted(out.rglob("*.safetensors")):
        weights |= {f"{path.relative_to(out)}/{k}": v for k, v in load_file(path).items()}

    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        for name in ("seconds", "images_per_second"):
            row.pop(name, None)
    return weights, rows


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_shuffled_identities_change_no_weight(tmp_path, images, monkeypatch):
    """Nor the order of batches: the log's scores alone differ."""
    monkeypatch.setattr(loop, "_validate", lambda *_: False)
    with (images / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    train = [row for row in rows if row["split"] == "train"]
    shuffled = [row["identity"] for row in train]
    random.Random(0).shuffle(shuffled)
    for row, identity in zip(train, shuffled, strict=True):
        row["identity"] = identity
    with (images / "shuffled.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)

    found = {}
    for name in ("records", "shuffled"):
        where = f"data.root={images}/{name}.csv"
        recipe = tiny_recipe(tmp_path, where, *ONE_EPOCH, stage=STAGE, images=images)
        trainer.run(recipe, tmp_path / name)
        found[name] = content(tmp_path / name)

    weights, rows = found["records"]
    other_weights, other_rows = found["shuffled"]
    assert weights
    assert equal(weights, other_weights)

    scores = [row["clusters"].pop("ari") for row in (rows[0], other_rows[0])]
    assert scores[0] > scores[1]
    for row in (rows[0], other_rows[0]):
        for name in ("ami", "pair_precision", "pair_recall"):
            row["clusters"].pop(name)
    assert rows == other_rows


@pytest.mark.slow
@pytest.mark.parametrize("changes", [pytest.param((), marks=pytest.mark.slow), CAMERAS])
def test_a_pause_between_two_clusterings_changes_nothing(tmp_path, images, changes, monkeypatch):
    monkeypatch.setattr(loop, "_validate", lambda *_: False)
    changes = (*changes, "track.checkpoint_every=1", "optim.warmup_epochs=0")
    recipe = tiny_recipe(tmp_path, *changes, stage=STAGE, images=images)
    out = tmp_path / "run"
    trainer.run(recipe, out)
    weights, rows = content(out)
    assert [row["clusters"]["num_clusters"] > 1 for row in rows] == [True, True]
    assert [row["best"] for row in rows] == [True, True], "identities do not choose the epoch"

    trainer.run(recipe, out, resume=True, checkpoint="epoch-0001")
    again, rows_again = content(out)
    assert equal(weights, again)
    assert rows == rows_again


def test_batches_are_of_clusters_and_leave_out_outliers(tmp_path, images):
    recipe = tiny_recipe(tmp_path, "clusters.steps=5", *CAMERAS, stage=STAGE, images=images)
    session = session_of(recipe, tmp_path)
    made = []

    def fit(recipe, session, method, batches, dataset, *, chance):
        made.append((method, batches, dataset))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unsupervised, "fit_method", fit)
        unsupervised.train(recipe, session)

    method, batches, dataset = made[0]
    assert dataset.num_identities == len(records_of(session.records, "train"))
    found = list(batches(1))
    assert len(found) == len(batches) == 5

    memory = method.losses["camera_prototype"]
    facts = batches.facts()["clusters"]
    assert memory.num_identities == facts["num_clusters"] > 1
    shown = torch.cat([batch.rows for batch in found]).unique()
    assert len(shown) <= (1 - facts["outliers"]) * len(dataset) + 1e-6
    for batch in found:
        labels, counts = batch.labels.unique(return_counts=True)
        assert counts.tolist() == [2] * len(labels)
        assert memory.memory.filled[batch.labels * 4 + batch.cameras].all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["clusters.min_size=500"], "no cluster of 500 or more images was found"),
        (["clusters.max_distance=0.99", "clusters.k1=500"], r"form 1 cluster and 0 outliers, so"),
    ],
)
def test_clusters_that_cannot_be_trained_on(tmp_path, images, changes, message):
    recipe = tiny_recipe(tmp_path, *changes, stage=STAGE, images=images)
    with pytest.raises(ValueError, match=rf"clusters: epoch 1: .*{message}"):
        unsupervised.train(recipe, session_of(recipe, tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.balance=identity", "`data.balance: identity` uses the identities"),
        ("data.orientations=4", "`data.orientations` must be 1, because clusters"),
        ("augment.identity_warp=0.5", "identities are hidden here"),
        ("optim.ema_decay=0.9", "`optim.ema_decay` averages the method with its memory"),
        ("teacher.source=average", "`teacher.source` averages the method with its memory"),
        ("evaluate.patience=1", "`evaluate.patience` has no effect without another stage"),
        ("evaluate.metric=rank_1", "`evaluate.metric` has no effect without another stage"),
    ],
)
def test_keys_that_would_use_identities(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        tiny_recipe(tmp_path, change, stage=STAGE)
