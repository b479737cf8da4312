"""Evaluating a finished run or checkpoint alone gives the run's own figures, to the last digit."""

import json
import shutil

import numpy as np
import pytest
from tiny import STAGES, tiny_recipe

from clipreid_kit.clip import TrainingCheckpoints, load_towers
from clipreid_kit.data import read_table, write_csv
from clipreid_kit.evaluate import main as evaluate_features
from clipreid_kit.reports.runs import find_runs
from clipreid_kit.reports.tables import version_rows
from clipreid_kit.retrieval import Encoder
from examples.trainer import evaluate as command
from examples.trainer.run import run

pytestmark = pytest.mark.usefixtures("without_report")

QUICK = {"joint", "prompt_sg"}
ONE_EPOCH = ("optim.epochs=1", "optim.warmup_epochs=0")
MORE = {  # options that the method, and not the towers, decide about
    "classifier": ("evaluate.descriptor=post_neck", "head.reduced_dim=16"),
    "joint": ("optim.ema_decay=0.5", "model.channels_last=true"),
    "clip_reid": ("evaluate.descriptor=post_neck",),
    "prompt_sg": ("prompt.test_mode=simplified", "loss.supcon=0.5"),
    "image_encoder": ("data.orientations=4", "data.validation=0.3"),
    "retrieval": ("mining.data=hard_negative", "evaluate.predictions=2"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, images):
    """Runs by stage, made when they are first asked for."""
    made = {}

    def of(stage, *changes):
        if (stage, changes) not in made:
            folder = tmp_path_factory.mktemp(stage)
            quiet = ("track.console=nothing", *ONE_EPOCH, *changes)
            if "data.validation=0.3" in changes:
                quiet = (f"data.root={images}/unheld.csv", *quiet)
            run(tiny_recipe(folder, *quiet, stage=stage, images=images), folder / "run")
            made[stage, changes] = folder / "run"
        return made[stage, changes]

    return of


def read(path):
    return json.loads(path.read_text())


def answer(capsys, *arguments):
    """Exit status, printed lines and error of the command."""
    code = command.main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


def check_encoder(finished, features, images):
    """The library's encoder gives the run's embeddings, from the checkpoint alone."""
    records = {record.path: record for record in read_table(images / "records.csv")}
    with np.load(features) as arrays:
        paths = [*arrays["query_paths"], *arrays["gallery_paths"]]
        expected = np.concatenate([arrays["query_embeddings"], arrays["gallery_embeddings"]])

    encoder = Encoder.open(finished, batch_size=256, device="cpu")
    found = encoder.encode_images([records[path] for path in paths])
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize(
    "stage", [s if s in QUICK else pytest.param(s, marks=pytest.mark.slow) for s in STAGES]
)
def test_figures_are_those_of_the_run(trained, tmp_path, capsys, stage, images):
    finished = trained(stage)
    code, printed, _ = answer(capsys, finished, "--features", "--out", tmp_path / "again")

    assert code == 0
    check_encoder(finished, tmp_path / "again" / "features.npz", images)
    assert "image to image, after" in printed
    assert (
        read(tmp_path / "again" / "results.json")["after"]
        == (read(finished / "results.json")["after"])
    )


@pytest.mark.slow  # a run each
@pytest.mark.parametrize("stage", MORE)
def test_figures_are_those_of_the_run_with_other_options(trained, tmp_path, stage, images):
    finished = trained(stage, *MORE[stage])
    code = command.main([str(finished), "--features", "--out", str(tmp_path / "again")])

    assert code == 0
    if stage not in ("joint", "image_encoder"):  # channels last, and other images
        check_encoder(finished, tmp_path / "again" / "features.npz", images)
    assert (
        read(tmp_path / "again" / "results.json")["after"]
        == (read(finished / "results.json")["after"])
    )


def test_last_and_named_checkpoints(trained, tmp_path, capsys, images):
    """The weights after the last epoch are other ones than the best, and are asked for by name."""
    changes = ("optim.epochs=2", "optim.lr=1.0e-30", "model.batch_norm=frozen")
    finished = trained("classifier", *changes)
    index = read(finished / "checkpoints" / "index.json")
    assert index == {"last": "epoch-0002", "best": "epoch-0001"}

    for source, options, name in [
        (finished, [], "epoch-0001"),
        (finished, ["--checkpoint", "last"], "epoch-0002"),
        (finished, ["--checkpoint", "epoch-0002"], "epoch-0002"),
        (finished / "checkpoints" / "epoch-0002", [], "epoch-0002"),
        (finished / "checkpoints", [], "epoch-0001"),
    ]:
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        assert answer(capsys, source, *options, "--out", out)[0] == 0
        found = read(out / "evaluated.json")
        assert (found["checkpoint"], found["epoch"]) == (name, int(name[-1]))

    code, _, error = answer(capsys, finished, "--checkpoint", "epoch-0007")
    assert code == 2
    assert error.endswith("use best, last or one of epoch-0001, epoch-0002.\n")

    code, _, error = answer(capsys, finished / "checkpoints" / "epoch-0002", "--checkpoint", "last")
    assert code == 2
    assert "this is a single checkpoint; leave out the name 'last'" in error


def test_other_images_and_another_protocol(trained, tmp_path, capsys, images):
    """Data without training images is enough, also for towers that know the training cameras."""
    finished = trained("classifier", "model.name=reid-tiny-vit", "model.camera_embedding=true")
    tested = [
        record
        for record in read_table(images / "records.csv")
        if record.split in ("query", "gallery")
    ]
    write_csv(tested, images / "tested.csv", relative_to=images)

    options = ["--data", images / "tested.csv", "--set", "data.validation=0"]
    assert answer(capsys, finished, *options, "--out", tmp_path / "a")[0] == 0
    assert (
        read(tmp_path / "a" / "results.json")["after"] == (read(finished / "results.json")["after"])
    )

    options = ["--set", "evaluate.rerank=true", "--set", "evaluate.predictions=2"]
    assert answer(capsys, finished, *options, "--out", tmp_path / "b")[0] == 0
    assert "image_to_image.rerank" in read(tmp_path / "b" / "results.json")["after"]
    assert (tmp_path / "b" / "predictions.jsonl").is_file()
    assert read(tmp_path / "b" / "recipe.json")["evaluate"]["rerank"] is True


@pytest.mark.parametrize("model", [(), ("model.name=timm/test_resnet", "model.last_stride=1")])
def test_frozen_towers_are_those_that_the_run_began_with(trained, tmp_path, capsys, images, model):
    """They are not in the checkpoint, which has a neck and a classifier, and says what they are."""
    changes = ("model.image_blocks=none", "model.train_projections=false", *model)
    finished = trained("classifier", *changes, "evaluate.descriptor=post_neck")
    assert not list((finished / "checkpoints").rglob("model.safetensors"))

    assert answer(capsys, finished, "--features", "--out", tmp_path / "again")[0] == 0
    assert (
        read(tmp_path / "again" / "results.json")["after"]
        == (read(finished / "results.json")["after"])
    )
    check_encoder(finished, tmp_path / "again" / "features.npz", images)


def test_adapters_of_a_run_are_evaluated(trained, tmp_path, capsys):
    pytest.importorskip("peft", reason="an extra")
    finished = trained("classifier", "model.name=reid-tiny-vit", "model.lora_rank=2")
    best = TrainingCheckpoints(finished / "checkpoints").path("best")
    assert load_towers(best).adapters["image"]["rank"] == 2

    assert answer(capsys, finished, "--out", tmp_path / "again")[0] == 0
    assert (
        read(tmp_path / "again" / "results.json")["after"]
        == (read(finished / "results.json")["after"])
    )


def test_a_run_of_towers_alone(tmp_path, images, capsys):
    recipe = tiny_recipe(tmp_path, "stage=zero_shot", "track.console=nothing", images=images)
    run(recipe, tmp_path / "run")
    assert answer(capsys, tmp_path / "run", "--out", tmp_path / "again")[0] == 0
    for name in ("results.json", "comparable.json"):
        assert read(tmp_path / "again" / name) == read(tmp_path / "run" / name)


def test_bare_towers_of_a_method_are_asked_for_by_name(trained, tmp_path, images, capsys):
    """A neck after the towers is part of the descriptor: without it the figures are others."""
    finished = trained("classifier", "evaluate.descriptor=post_neck")
    source = ("stage=zero_shot", f"init_from={finished}", "track.console=results")
    refused = tiny_recipe(tmp_path, *source, images=images)
    with pytest.raises(
        ValueError, match=r"more than towers \(identity_branch\).*clipreid evaluate"
    ):
        run(refused, tmp_path / "refused")

    allowed = tiny_recipe(tmp_path, *source, "evaluate.towers_only=true", images=images)
    run(allowed, tmp_path / "allowed")
    assert f"evaluate.towers_only: {finished} without identity_branch" in capsys.readouterr().out
    assert (
        read(tmp_path / "allowed" / "results.json")["before"]
        != (read(finished / "results.json")["after"])
    )


def test_features_are_those_of_the_figures(trained, tmp_path, capsys):
    """``clipreid-evaluate`` reads them, and gives the same figures."""
    finished = trained("joint", "evaluate.features=true")
    assert answer(capsys, finished, "--features", "--out", tmp_path / "again")[0] == 0

    figures = read(finished / "results.json")["after"]["image_to_image"]
    for file in (finished / "features.npz", tmp_path / "again" / "features.npz"):
        assert evaluate_features([str(file), "--json", str(tmp_path / "figures.json")]) == 0
        found = read(tmp_path / "figures.json")["result"]
        assert found["mean_ap"] == figures["mean_ap"]
        assert found["rank_1"] == figures["rank_1"]

    with np.load(finished / "features.npz") as arrays:
        assert len(arrays["text_embeddings"]) == len(arrays["texts"]) == len(arrays["text_ids"])
        assert len(arrays["query_paths"]) == len(arrays["query_embeddings"])


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_result_is_gathered_like_a_run(trained, tmp_path, capsys, images, how):
    """Its folder has what the tables read, and a name of its own."""
    finished = trained("classifier")
    if how == "before":
        recipe = tiny_recipe(tmp_path, "stage=zero_shot", "track.console=nothing", images=images)
        finished = tmp_path / "towers"
        run(recipe, finished)
    assert answer(capsys, finished, "--out", tmp_path / "gathered" / "again")[0] == 0

    runs = find_runs([tmp_path / "gathered"])
    assert [(found.name, found.status) for found in runs] == [("again", "complete")]
    moment = "zero_shot" if how == "before" else "after"
    assert {row["moment"] for row in version_rows(runs)} == {moment}


def test_every_caption_is_a_query_where_that_is_asked_for(trained, tmp_path, capsys, images):
    """By default a query is the first caption of an identity, as in the run."""
    finished = trained("joint")
    options = ["--set", "evaluate.captions=all", "--set", "evaluate.predictions=1"]
    assert answer(capsys, finished, *options, "--out", tmp_path / "all")[0] == 0

    records = [r for r in read_table(images / "records.csv") if r.split == "query"]
    captions = {(record.identity, record.caption) for record in records}
    queries = read(tmp_path / "all" / "results.json")["after"]["text_to_image"]["num_queries"]
    before = read(finished / "results.json")["after"]["text_to_image"]["num_queries"]
    assert before == len({record.identity for record in records}) < queries == len(captions)

    lines = (tmp_path / "all" / "predictions_text.jsonl").read_text().splitlines()
    assert {json.loads(line)["query"] for line in lines} == {text for _, text in captions}


def test_mistakes_are_errors_of_one_line(trained, tmp_path, capsys):
    finished = trained("classifier")
    odd = tmp_path / "odd"
    shutil.copytree(finished, odd)
    recipe = read(odd / "recipe.json")
    recipe["head"]["neck"] = False
    (odd / "recipe.json").write_text(json.dumps(recipe))

    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(finished / "recipe.json", unfinished)

    for arguments, words in [
        ([tmp_path], "neither a run (a folder with a recipe.json) nor a checkpoint"),
        ([unfinished], "this run has no checkpoint; no epoch was completed"),
        ([odd], "the checkpoint is not of the method of its recipe: "),
        ([finished, "--set", "model.name=x"], "the method is evaluated as it was trained"),
        ([finished, "--set", "evaluate.rerank_k1=3"], "has no effect without"),
        ([finished, "--out", finished], "the folder already holds a run"),
        ([finished, "--data", "nowhere.csv"], "nowhere.csv"),
    ]:
        code, _, error = answer(capsys, *arguments)
        assert code == 2
        assert words in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("text", ["[]", '{"stage": '])
def test_a_damaged_recipe_is_named(tmp_path, capsys, text):
    (tmp_path / "recipe.json").write_text(text)
    (tmp_path / "results.json").write_text("{}")
    code, _, error = answer(capsys, tmp_path)
    assert code == 2
    assert error.startswith("error: ")
    assert "recipe.json: the file" in error
