"""Tracklets in the trainer: batches, pooling, and evaluation of tracklets and of grouped stills."""

import json

import pytest
import torch
from tiny import session_of, tiny_recipe

from clipreid_kit import FrameAttention, FrameMean, FrameTransformer, TrackletProtocol
from clipreid_kit import data as kit
from clipreid_kit.retrieval import Encoder
from examples.trainer import run as trainer
from examples.trainer.assemble import training_images
from examples.trainer.evaluate import evaluate_run
from examples.trainer.evaluation import evaluate, scoring_of
from examples.trainer.records import arrange_tests
from examples.trainer.stages import classifier
from examples.trainer.tracklets import TrackletBatches, pooling_of, tracklet_tests

GENERATED = (
    *("data.frames=3", "tracklets.num_frames=2", "evaluate.tracklets=own"),
    *("optim.epochs=1", "optim.warmup_epochs=0", "track.console=nothing"),
)


def recipe_of(tmp_path, images, *changes):
    """A recipe on tracklets of two or four images."""
    tracklets = f"data.root={images}/tracklets.csv"
    return tiny_recipe(tmp_path, tracklets, *changes, stage="classifier", images=images)


def test_a_batch_holds_whole_tracklets(tmp_path, images):
    recipe = recipe_of(tmp_path, images, "tracklets.num_frames=2", "evaluate.tracklets=own")
    session = session_of(recipe, tmp_path)
    dataset = training_images(recipe, session)
    batches = TrackletBatches(recipe, session, dataset)
    batch = next(batches(1))

    assert batch.images.shape == (8, 2, 3, 32, 32)
    assert len(batch.rows) == 16
    pairs = batch.rows.view(8, 2)
    assert torch.equal(dataset.labels[pairs], batch.labels[:, None].expand(8, 2))
    assert torch.equal(dataset.tracklets[pairs][:, 0], dataset.tracklets[pairs][:, 1])
    assert len(batches.names(batch.rows.tolist())) == 16


@pytest.mark.parametrize(
    ("pooling", "kind"),
    [("mean", FrameMean), ("attention", FrameAttention), ("transformer", FrameTransformer)],
)
def test_pooling_of_a_recipe(tmp_path, images, pooling, kind):
    changes = ("tracklets.num_frames=2", "evaluate.tracklets=own", f"tracklets.pooling={pooling}")
    recipe = recipe_of(tmp_path, images, *changes)
    assert isinstance(pooling_of(recipe.tracklets, 16), kind)


def test_no_frames_train_on_images(tmp_path, images):
    assert pooling_of(recipe_of(tmp_path, images).tracklets, 16) is None


def brute_force(recipe, session, encoder, groups):
    """The result of the protocol of tracklets on the embeddings of all frames, pooled there."""
    query, gallery = arrange_tests(recipe, session.records)["query_gallery"][0]
    columns = {}
    for side, records in (("query", groups(query)), ("gallery", groups(gallery))):
        columns[f"{side}_embeddings"] = encoder.encode_images(records)
        columns[f"{side}_tracklets"] = [record.tracklet for record in records]
        columns[f"{side}_ids"] = [record.identity for record in records]
        columns[f"{side}_cameras"] = [record.camera for record in records]
    return TrackletProtocol(junk_ids=()).evaluate(**columns)


@pytest.mark.parametrize("tracklets", ["own", "cameras"])
def test_tracklets_are_evaluated_as_the_protocol_does(tmp_path, images, tracklets):
    recipe = recipe_of(tmp_path, images, f"evaluate.tracklets={tracklets}")
    session = session_of(recipe, tmp_path)
    method = classifier.build(recipe, session, 12).eval()
    encoder = session.encoding.encoder(method)

    tests = arrange_tests(recipe, session.records)
    found = evaluate(encoder, tests, scoring_of(recipe)).results["image_to_image"]
    groups = list if tracklets == "own" else kit.group_stills
    expected = brute_force(recipe, session, encoder, groups)

    assert found.num_gallery == expected.num_gallery < len(tests["query_gallery"][0][1])
    assert found.mean_ap == pytest.approx(expected.mean_ap)


def test_the_pooling_of_a_method_is_used(tmp_path, images):
    changes = ("tracklets.num_frames=2", "evaluate.tracklets=own", "tracklets.pooling=attention")
    recipe = recipe_of(tmp_path, images, *changes)
    session = session_of(recipe, tmp_path)
    method = classifier.build(recipe, session, 12).eval()
    torch.nn.init.normal_(method.pooling.score.weight, std=30)
    tests = arrange_tests(recipe, session.records)
    arranged = tracklet_tests(tests, recipe.evaluate)

    embedded = arranged.embed(session.encoding.encoder(method))
    assert list(embedded) == list(arranged.frames)
    path, frames = next((p, f) for p, f in arranged.frames.items() if len(f) > 1)
    alone = session.encoding.encoder(method).encode_images(frames)
    torch.testing.assert_close(embedded[path], method.pool_frames(alone[None])[0].detach())


def test_evenly_spaced_frames_are_encoded(tmp_path, images):
    recipe = recipe_of(tmp_path, images, "evaluate.tracklets=own", "evaluate.num_frames=2")
    session = session_of(recipe, tmp_path)
    tests = arrange_tests(recipe, session.records)
    arranged = tracklet_tests(tests, recipe.evaluate)
    _, gallery = tests["query_gallery"][0]
    rows = next(rows for rows in kit.tracklet_rows(gallery) if len(rows) > 1)

    shown = arranged.frames[gallery[rows[0]].path]
    middles = [rows[len(rows) // 4], rows[3 * len(rows) // 4]]
    assert shown == [gallery[row] for row in middles]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["tracklets.pooling=attention"], "`tracklets.pooling: attention` needs `evaluate.trackl"),
        (["evaluate.tracklets=own", "evaluate.descriptor=post_neck"], "must be pre_neck with"),
        (["evaluate.tracklets=own", "evaluate.metric=mean_inp"], None),
        (["evaluate.tracklets=own", "evaluate.metric=loss", "loss.id=0"], "that of single images"),
    ],
)
def test_keys_that_contradict_each_other(tmp_path, images, changes, message):
    if message is None:
        recipe_of(tmp_path, images, "tracklets.num_frames=2", *changes)
        return
    with pytest.raises(ValueError, match=message):
        recipe_of(tmp_path, images, "tracklets.num_frames=2", *changes)


def test_images_without_tracklets_are_named(tmp_path, images):
    recipe = tiny_recipe(tmp_path, "evaluate.tracklets=own", stage="classifier", images=images)
    tests = arrange_tests(recipe, session_of(recipe, tmp_path).records)
    with pytest.raises(ValueError, match=r"has no tracklet\. .* group_stills"):
        tracklet_tests(tests, recipe.evaluate)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["attention", "transformer"])
def test_a_run_is_evaluated_and_opened_as_it_was(tmp_path, monkeypatch, pooling):
    monkeypatch.setattr(trainer, "write_run_report", lambda *_, **__: None)
    recipe = tiny_recipe(tmp_path, *GENERATED, f"tracklets.pooling={pooling}", stage="classifier")
    run = tmp_path / "run"
    trainer.run(recipe, run)
    evaluate_run(run, out=tmp_path / "again")

    first = json.loads((run / "results.json").read_text())["after"]
    assert json.loads((tmp_path / "again" / "results.json").read_text())["after"] == first

    encoder = Encoder.open(run)
    frames = encoder.encode_images(
        [str(path) for path in sorted((run / "data/images").iterdir())[:4]]
    )
    assert encoder.model.pool_frames(frames[None]).shape == (1, frames.shape[1])
