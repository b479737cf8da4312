"""The trainer as its user meets it: files of a run, sources, predictions, tracking, bad input."""

import dataclasses
import json
import math
import os
import re
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from tiny import session_of, tiny_images, tiny_recipe, write_identities, write_recipe
from tiny_towers import tiny_towers

from clipreid_kit.clip import load_towers, save_towers
from clipreid_kit.data import write_csv
from clipreid_kit.reports import epoch_line, results_table, verdict
from clipreid_kit.reports.run_report import ranked_images
from examples.settings.recipe import load_recipe
from examples.trainer.__main__ import default_folder, main
from examples.trainer.assemble import training_images
from examples.trainer.evaluation import evaluate, scoring_of
from examples.trainer.records import arrange_tests, load_records
from examples.trainer.run import run

REPOSITORY = Path(__file__).parents[2]
QUICKSTART = REPOSITORY / "examples" / "recipes" / "quickstart"
ONE_EPOCH = ("optim.epochs=1", "optim.warmup_epochs=0")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the generated set, as a beginner makes it."""
    folder = tmp_path_factory.mktemp("finished")
    run(tiny_recipe(folder), folder / "run")
    return folder / "run"


@pytest.fixture
def _without_report(monkeypatch):
    monkeypatch.setattr("examples.trainer.run.write_run_report", lambda *_, **__: None)


def index(out):
    return json.loads((out / "checkpoints" / "index.json").read_text())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def results(out):
    return json.loads((out / "results.json").read_text())


def command(capsys, *arguments):
    code = main(list(map(str, arguments)))
    return code, capsys.readouterr().err


def test_leaves_everything_beside_the_result(finished):
    assert {p.name for p in finished.iterdir()} == {
        ".lock",
        "checkpoints",
        "comparable.json",
        "data",
        "environment.json",
        "history.json",
        "metrics.jsonl",
        "recipe.json",
        "report.html",
        "results.json",
        "train.log",
        "trained_on.json",
    }
    assert set(results(finished)) == {"before", "after"}
    for moment in results(finished).values():
        assert set(moment) == {"image_to_image", "text_to_image"}
        assert 0 <= moment["image_to_image"]["mean_ap"] <= 1
    for row in lines(finished / "metrics.jsonl"):
        assert row["loss"] == pytest.approx(row["supcon_image"] + row["supcon_text"])
        assert row["lr"] >= 0
        assert row["gradient_norm"] > 0
        assert row["images_per_second"] > 0
        assert -1 <= row["negative_cosine"] <= row["positive_cosine"] <= 1
        assert row["skipped"] == 0
    recipe = json.loads((finished / "recipe.json").read_text())
    assert recipe["note"] == "A run of a second."
    environment = json.loads((finished / "environment.json").read_text())
    assert {"clipreid_kit", "torch", "python", "machine", "revision"} <= set(environment)
    history = json.loads((finished / "history.json").read_text())
    assert history == {
        "recipe": recipe,
        "environment": environment,
        "epochs": lines(finished / "metrics.jsonl"),
        "results": results(finished),
    }
    assert "A run of a second." in (finished / "report.html").read_text()
    assert load_towers(finished / "checkpoints" / index(finished)["best"]).image_size == (32, 32)


def test_the_text_log_has_what_the_console_shows_with_times(finished):
    """A heading, a line for each epoch, the table of results, and what the run changed."""
    log = (finished / "train.log").read_text().splitlines()
    times, texts = zip(*(line.split("  ", 1) for line in log), strict=True)
    assert list(times) == sorted(times)
    assert all(datetime.fromisoformat(time).tzinfo for time in times)

    assert texts[0] == "stage joint, model reid-tiny-resnet, seed 0: A run of a second."
    assert texts[1].startswith("images of synthetic: train ")
    epochs = [epoch_line(row) for row in lines(finished / "metrics.jsonl")]
    assert list(texts[2:4]) == epochs
    table = results_table(results(finished)).splitlines()
    assert list(texts[4:]) == table + verdict(results(finished)).splitlines()


def test_a_finished_run_is_not_run_over(finished, tmp_path, capsys):
    path = write_recipe(tmp_path)
    before = {path: path.read_bytes() for path in sorted(finished.glob("*.json*"))}
    code, text = command(capsys, path, "--out", finished)
    assert code == 2
    assert "Continue it with --resume" in text
    code, text = command(capsys, path, "--out", finished, "--resume", "--set", "seed=3")
    assert code == 2
    assert "the run to resume has other settings (seed)" in text
    assert {path: path.read_bytes() for path in sorted(finished.glob("*.json*"))} == before


@pytest.mark.usefixtures("_without_report")
def test_without_a_folder_the_run_is_named_by_recipe_and_time(
    tmp_path, images, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    path = write_recipe(tmp_path)
    table = ["--set", "data.source=table", "--set", "track.console=nothing"]
    more = ["--data", images / "records.csv", "--set", "stage=zero_shot"]
    assert command(capsys, path, *table, *more) == (0, "")
    (folder,) = (tmp_path / "runs" / tmp_path.name / "tiny").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d", folder.name)
    assert (folder / "results.json").is_file()


@pytest.mark.parametrize("name", ["hands/stage3/v1_vit", "fashion/stage3_v1_vit"])
def test_runs_of_recipes_are_named_as_the_pages_name_them(name):
    folder = default_folder(Path(f"examples/recipes/{name}.yaml"))
    assert folder.parent == Path("runs", name)


@pytest.mark.usefixtures("_without_report")
def test_zero_shot_trains_nothing(tmp_path, images):
    run(tiny_recipe(tmp_path, "stage=zero_shot", images=images), tmp_path / "run")
    assert set(results(tmp_path / "run")) == {"before"}
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert json.loads((tmp_path / "run" / "history.json").read_text())["epochs"] == []


@pytest.mark.usefixtures("_without_report")
def test_warm_start_from_a_local_file(tmp_path, finished):
    source = finished / "checkpoints" / index(finished)["best"] / "model.safetensors"
    run(tiny_recipe(tmp_path, "stage=zero_shot", f"model.pretrained={source}"), tmp_path / "run")
    assert results(tmp_path / "run")["before"] == results(finished)["after"]
    assert results(tmp_path / "run")["before"] != results(finished)["before"]


@pytest.mark.slow
@pytest.mark.usefixtures("_without_report")
def test_the_best_epoch_is_tested(tmp_path, images):
    run(tiny_recipe(tmp_path, "optim.epochs=3", "optim.lr=1e-2", images=images), tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / index(tmp_path / "run")["best"] / "model.safetensors"
    run(
        tiny_recipe(tmp_path, "stage=zero_shot", f"model.pretrained={best}", images=images),
        tmp_path / "again",
    )
    assert results(tmp_path / "again")["before"] == results(tmp_path / "run")["after"]


def folder_set(root):
    for record in write_identities(root / "generated"):
        target = root / "folder" / record.split / str(record.identity) / Path(record.path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((root / "generated" / record.path).read_bytes())


@pytest.mark.usefixtures("_without_report")
def test_table_and_folder_and_camera_pattern(tmp_path):
    folder_set(tmp_path)
    table = [
        "data.source=table",
        f"data.root={tmp_path}/generated/records.csv",
        "stage=zero_shot",
    ]
    run(tiny_recipe(tmp_path, *table), tmp_path / "a")
    pattern = "data.camera_pattern='_c(?P<camera>[0-9]+)_'"
    folder = ["data.source=folder", f"data.root={tmp_path}/folder", "stage=zero_shot"]
    run(tiny_recipe(tmp_path, *folder, pattern), tmp_path / "b")
    run(tiny_recipe(tmp_path, *folder), tmp_path / "c")
    found = [results(tmp_path / n)["before"]["image_to_image"]["mean_ap"] for n in "abc"]
    assert found[0] == found[1]  # the same images, identities and cameras by another road
    assert found[1] != found[2]  # without cameras nothing is left out


def test_without_validation_identities_the_last_epoch_is_tested(tmp_path):
    folder_set(tmp_path)
    for split in ("val_query", "val_gallery"):
        shutil.rmtree(tmp_path / "folder" / split)
    changes = ["data.source=folder", f"data.root={tmp_path}/folder", "loss.supcon_text=0"]
    run(tiny_recipe(tmp_path, *changes), tmp_path / "run")
    assert index(tmp_path / "run") == {"last": "epoch-0002", "best": "epoch-0002"}
    assert "as none was validated" in (tmp_path / "run" / "report.html").read_text()
    with pytest.raises(ValueError, match=r"evaluate\.patience: there are no validation identities"):
        run(tiny_recipe(tmp_path, *changes, "evaluate.patience=1"), tmp_path / "other")


def test_without_cameras_the_report_still_shows_right_matches(tmp_path):
    folder_set(tmp_path)
    changes = ["stage=zero_shot", "data.source=folder", f"data.root={tmp_path}/folder"]
    run(tiny_recipe(tmp_path, *changes), tmp_path / "run")
    assert results(tmp_path / "run")["before"]["image_to_image"]["rank_5"] > 0
    assert "the same identity" in (tmp_path / "run" / "report.html").read_text()
    recipe = tiny_recipe(tmp_path, *changes)
    session = session_of(recipe, tmp_path)
    encoder = session.encoding.encoder(session.towers)
    found = evaluate(encoder, arrange_tests(recipe, session.records), scoring_of(recipe))
    assert not found.camera_rule
    best = int(np.nanargmax(found.images.average_precision))
    assert any(image.matches for image in ranked_images(found, best, by_text=False))


def test_validation_and_test_share_no_identity(tmp_path, images):
    for seed in range(5):
        recipe = tiny_recipe(
            tmp_path,
            "data.validation=0.3",
            f"seed={seed}",
            f"data.root={images}/unheld.csv",
            images=images,
        )
        identities: dict[str, set[str]] = {}
        for record in load_records(recipe, tmp_path)[0]:
            identities.setdefault(record.split, set()).add(record.identity)
        held = identities["val_query"] | identities["val_gallery"]
        assert held
        assert not held & (identities["query"] | identities["gallery"])
        assert not held & identities["train"]
    records = [
        dataclasses.replace(r, split="query" if r.split == "val_query" else r.split)
        for r in load_records(tiny_recipe(tmp_path, images=images), tmp_path)[0]
    ]
    write_csv(
        [*records, *(dataclasses.replace(r, split="query") for r in records if r.split == "train")],
        images / "leak.csv",
    )
    with pytest.raises(ValueError, match="identit"):
        load_records(tiny_recipe(tmp_path, f"data.root={images}/leak.csv", images=images), tmp_path)


@pytest.mark.usefixtures("_without_report")
def test_damaged_images_are_left_out_and_counted(tmp_path, capsys):
    own = tiny_images(tmp_path / "images")
    records = load_records(tiny_recipe(tmp_path, images=own), tmp_path)[0]
    victims = [r for r in records if r.split == "train"][:3]
    for record in victims:
        path = next(p for p in own.rglob(Path(record.path).name))
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=re.escape(Path(victims[0].path).name)):
        run(
            tiny_recipe(tmp_path, "data.check=raise", "stage=zero_shot", images=own),
            tmp_path / "raise",
        )
    run(tiny_recipe(tmp_path, "data.check=skip", *ONE_EPOCH, images=own), tmp_path / "skip")
    found = results(tmp_path / "skip")["data"]
    assert 3 in found.values()
    assert json.loads((tmp_path / "skip" / "history.json").read_text())["results"]["data"] == found


@pytest.mark.usefixtures("_without_report")
def test_predictions(tmp_path, images):
    run(
        tiny_recipe(
            tmp_path,
            "evaluate.predictions=3",
            *ONE_EPOCH,
            images=images,
        ),
        tmp_path / "run",
    )
    records = {r.path: r for r in load_records(tiny_recipe(tmp_path, images=images), tmp_path)[0]}
    rows = lines(tmp_path / "run" / "predictions.jsonl")
    queries = [r for r in records.values() if r.split == "query"]
    assert [row["query"] for row in rows] == [r.path for r in queries]
    first = 0
    for row in rows:
        query = records[row["query"]]
        similarities = [found["similarity"] for found in row["found"]]
        assert len(similarities) == 3
        assert similarities == sorted(similarities, reverse=True)
        for found in row["found"]:
            other = records[found["path"]]
            assert other.split == "gallery"
            assert found["identity"] == other.identity
            assert (other.identity, other.camera) != (query.identity, query.camera)
        first += row["found"][0]["identity"] == query.identity
    assert first / len(rows) == pytest.approx(
        results(tmp_path / "run")["after"]["image_to_image"]["rank_1"]
    )
    texts = lines(tmp_path / "run" / "predictions_text.jsonl")
    assert len(texts) == len({r.identity for r in queries})
    assert all(len(row["found"]) == 3 for row in texts)


@pytest.mark.usefixtures("_without_report")
def test_tensorboard(tmp_path, images):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    changes = ["track.tensorboard=true", "track.console=nothing"]
    run(tiny_recipe(tmp_path, *changes, stage="clip_reid", images=images), tmp_path / "run")
    scalars = {}
    for path in (tmp_path / "run").rglob("events.out.tfevents.*"):
        events = accumulator.EventAccumulator(str(path.parent))
        events.Reload()
        scalars |= {
            tag: [(e.step, e.value) for e in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
        }
    prompts = len(lines(tmp_path / "run" / "prompt" / "metrics.jsonl"))  # steps of a log only rise
    for prefix, file, first in (
        ("", "metrics.jsonl", prompts),
        ("prompt/", "prompt/metrics.jsonl", 0),
    ):
        rows = lines(tmp_path / "run" / file)
        expected = [(first + row["epoch"], pytest.approx(row["loss"])) for row in rows]
        assert scalars[f"{prefix}loss"] == expected
    assert "validation/image_to_image/mean_ap" in scalars


@pytest.mark.usefixtures("_without_report")
def test_a_tracker_that_is_not_installed(tmp_path, images, monkeypatch):
    monkeypatch.setattr("examples.trainer.run.find_spec", lambda name: None)
    for change, name in (
        ("track.wandb=project", "wandb"),
        ("track.tensorboard=true", "tensorboard"),
    ):
        with pytest.raises(ValueError, match=rf"track\.{name}: {name} is not installed"):
            run(tiny_recipe(tmp_path, change, images=images), tmp_path / "run")


@pytest.mark.usefixtures("_without_report")
@pytest.mark.filterwarnings("ignore:.*no supported trackers:UserWarning")
def test_wandb_gets_project_and_entity(tmp_path, images, monkeypatch):
    calls = []
    monkeypatch.setattr("examples.trainer.run.find_spec", lambda name: name)
    monkeypatch.setattr(
        "accelerate.Accelerator.init_trackers",
        lambda self, project, init_kwargs: calls.append((project, init_kwargs)),
    )
    changes = ["track.wandb=hands", "track.wandb_entity=lab", "stage=zero_shot"]
    run(tiny_recipe(tmp_path, *changes, images=images), tmp_path / "run")
    assert calls[0][0] == "hands"
    assert calls[0][1]["wandb"]["entity"] == "lab"


@pytest.mark.slow
@pytest.mark.usefixtures("_without_report")
def test_console(tmp_path, images, capsys):
    said = {}
    for level in ("epochs", "results", "nothing"):
        run(
            tiny_recipe(tmp_path, f"track.console={level}", stage="classifier", images=images),
            tmp_path / level,
        )
        said[level] = capsys.readouterr().out
    assert said["nothing"] == ""
    assert "Rank-1" in said["results"]
    assert "epoch   1" not in said["results"]
    assert "epoch   1" in said["epochs"]
    for moment in ("before", "after"):
        assert re.search(rf"evaluation {moment} training: \d+ images\n", said["epochs"])
        assert moment not in re.sub(r"image to .*", "", said["results"])


@pytest.mark.usefixtures("_without_report")
def test_works_where_git_is_missing(tmp_path, images, monkeypatch):
    monkeypatch.setenv("PATH", "")
    run(tiny_recipe(tmp_path, "stage=zero_shot", images=images), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["revision"] is None


@pytest.mark.usefixtures("_without_report")
@pytest.mark.filterwarnings("ignore:tokenize. .* texts have more than 77 tokens:UserWarning")
def test_long_captions_are_cut_in_training_and_in_evaluation(tmp_path, images):
    change = "data.caption=Figure {identity} " + "and so on " * 60
    run(tiny_recipe(tmp_path, change, *ONE_EPOCH, images=images), tmp_path / "run")
    assert "text_to_image" in results(tmp_path / "run")["after"]


def test_a_run_that_failed_early_may_be_started_again(tmp_path, capsys, images, monkeypatch):
    monkeypatch.setattr("examples.trainer.run.write_run_report", lambda *_, **__: None)
    path = write_recipe(tmp_path)
    own = ["--set", "data.source=table", "--data", images / "records.csv"]
    failing = ["--set", "batch.num_identities=400"]
    code, text = command(capsys, path, "--out", tmp_path / "run", *own, *failing)
    assert code == 2
    assert "num_identities" in text
    assert command(capsys, path, "--out", tmp_path / "run", *own)[0] == 0


@pytest.mark.slow
def test_smoke(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("examples.trainer.run.write_run_report", lambda *_, **__: None)
    recipe = QUICKSTART / "joint_v4.yaml"
    assert command(capsys, recipe, "--smoke", "--out", tmp_path / "run")[0] == 0
    assert "after" in results(tmp_path / "run")
    rows = lines(tmp_path / "run" / "metrics.jsonl")
    assert len(rows) == 2
    assert all(math.isfinite(row["loss"]) for row in rows)
    assert (
        json.loads((tmp_path / "run" / "recipe.json").read_text())["data"]["num_identities"] == 24
    )


@pytest.mark.slow
@pytest.mark.usefixtures("_without_report")
def test_a_json_recipe_of_the_retrieval_pipeline(tmp_path, images):
    """Its keys reach the run; the images are those of this test."""
    tree = {"training_config": {"epochs": 3, "batch_size": 6}}
    path = tmp_path / "topk.json"
    path.write_text(json.dumps(tree))
    recipe = load_recipe(path)
    assert (recipe.stage, recipe.optim.epochs) == ("retrieval", 3)
    assert recipe.batch.num_identities * recipe.batch.num_instances == 6
    small = tiny_recipe(tmp_path, stage="retrieval", images=images)
    recipe = recipe.model_copy(
        update={"data": small.data, "model": small.model, "track": small.track}
    )
    recipe.optim.warmup_epochs = 0
    run(recipe, tmp_path / "run")
    assert "text_to_image.retrieval" in results(tmp_path / "run")["after"]


def test_omniglot_holds_out_alphabets(tmp_path):
    data = REPOSITORY.parent / "shared" / "data" / "omniglot-reid.zip"
    if not data.is_file():
        pytest.skip("the Omniglot images are not beside this checkout")
    changes = [
        "data.source=omniglot",
        f"data.root={data}",
        "data.held_out=[Greek]",
        "data.orientations=8",
    ]
    recipe = tiny_recipe(tmp_path, *changes, "loss.supcon_text=0")
    session = session_of(recipe, tmp_path)
    held_out = [r for r in session.records if r.split in ("val_query", "val_gallery")]
    assert {r.identity.split("/")[0] for r in held_out} == {"Greek"}
    train = [r for r in session.records if r.split == "train"]
    assert len(training_images(recipe, session)) == 8 * len(train)


def test_missing_captions_are_named(tmp_path, capsys, images):
    records = load_records(tiny_recipe(tmp_path, images=images), tmp_path)[0]
    write_csv([dataclasses.replace(r, caption=None) for r in records], images / "bare.csv")
    with pytest.raises(ValueError, match="images have no caption to train on"):
        run(tiny_recipe(tmp_path, f"data.root={images}/bare.csv", images=images), tmp_path / "run")
    half = [r if r.split == "train" else dataclasses.replace(r, caption=None) for r in records]
    write_csv(half, images / "half.csv")
    changes = f"data.root={images}/half.csv", "evaluate.metric=loss"
    with pytest.raises(
        ValueError, match="images have no caption to train on, or to judge by the loss"
    ):
        run(tiny_recipe(tmp_path, *changes, images=images), tmp_path / "judged")
    assert not (tmp_path / "judged" / "checkpoints").exists()
    load_records(
        tiny_recipe(tmp_path, changes[0], images=images), tmp_path
    )  # not asked for otherwise


def test_a_corrupt_image_is_named(tmp_path):
    own = tiny_images(tmp_path / "images")
    victim = next(own.rglob("*.png"))
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(ValueError, match=re.escape(victim.name)):
        run(tiny_recipe(tmp_path, images=own), tmp_path / "run")


def test_a_checkpoint_of_another_architecture(tmp_path, images):
    save_towers(tiny_towers(), tmp_path / "other")
    source = tmp_path / "other" / "model.safetensors"
    with pytest.raises(ValueError, match=r"ResNet[\s\S]*ViT|ViT[\s\S]*ResNet"):
        run(tiny_recipe(tmp_path, f"model.pretrained={source}", images=images), tmp_path / "run")


@pytest.mark.slow
def test_zero_shot_of_a_run_asks_for_its_pictures(tmp_path, finished, images):
    """Weights trained with one size and normalisation are not tested with another silently."""
    recipe = tiny_recipe(
        tmp_path,
        "stage=zero_shot",
        f"init_from={finished}",
        "model.image_mean=[0, 0, 0]",
        images=images,
    )
    with pytest.raises(ValueError, match="mean"):
        run(recipe, tmp_path / "run")


def test_weights_are_readable_without_the_trainer(finished):
    best = finished / "checkpoints" / index(finished)["best"]
    card = json.loads((best / "card.json").read_text())
    assert card["extra"]["image_spec"]["image_size"] == [32, 32]
    towers = load_towers(best)
    saved = load_file(best / "model.safetensors")
    assert all(
        value.equal(saved[name]) for name, value in towers.state_dict().items() if name in saved
    )
    assert (
        os.access(best / "trainer.pt", os.R_OK)
        or index(finished)["best"] != index(finished)["last"]
    )
