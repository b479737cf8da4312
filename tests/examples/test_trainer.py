"""The trainer as its user meets it: sources, results, early stopping, bad input, kill and resume."""

import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file
from tiny import tiny_recipe

from clipreid_kit.clip import ClipTowers, load_towers, save_towers
from clipreid_kit.data import SyntheticReid, write_csv
from examples.report.run_report import _ranking
from examples.trainer.__main__ import main, run
from examples.trainer.data import load_records, training_set
from examples.trainer.evaluation import evaluate

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run(tiny_recipe(folder), folder / "run")
    return folder / "run"


def index(out):
    return json.loads((out / "checkpoints" / "index.json").read_text())


def rows(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(out, which="last"):
    return load_file(out / "checkpoints" / index(out)[which] / "model.safetensors")


def epochs_done(out):
    return rows(out)[-1]["epoch"] if (out / "metrics.jsonl").exists() else 0


def test_leaves_everything_beside_the_result(finished):
    assert {p.name for p in finished.iterdir()} == {
        "checkpoints",
        "data",
        "environment.json",
        "metrics.jsonl",
        "recipe.json",
        "report.html",
        "results.json",
    }
    results = json.loads((finished / "results.json").read_text())
    assert set(results) == {"before", "after"}
    for moment in results.values():
        assert set(moment) == {"image_to_image", "text_to_image"}
        assert 0 <= moment["image_to_image"]["mean_ap"] <= 1
    for row in rows(finished):
        assert row["loss"] == pytest.approx(row["supcon_image"] + row["supcon_text"])
        assert row["lr"] >= 0
        assert row["gradient_norm"] > 0
    assert json.loads((finished / "recipe.json").read_text())["note"] == "A run of a second."
    assert "A run of a second." in (finished / "report.html").read_text()
    assert load_towers(finished / "checkpoints" / index(finished)["best"]).image_size == (32, 32)


def test_learning_rate_follows_the_closed_form(finished):
    from clipreid_kit import warmup_cosine_factor

    steps = 3  # 12 identities in batches of 4
    expected = [1e-3 * warmup_cosine_factor(steps * epoch, steps, 2 * steps) for epoch in (1, 2)]
    assert [row["lr"] for row in rows(finished)] == pytest.approx(expected)


def test_zero_shot_trains_nothing(tmp_path):
    run(tiny_recipe(tmp_path, "stage=zero_shot"), tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results) == {"before"}
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_without_text_terms_the_text_tower_stays(tmp_path):
    recipe = tiny_recipe(tmp_path, "loss.supcon_text=0")
    run(recipe, tmp_path / "run")
    before = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(32, 32), seed=0).state_dict()
    after = load_towers(tmp_path / "run" / "checkpoints" / index(tmp_path / "run")["last"]).state_dict()
    moved = {name for name in before if not before[name].equal(after[name])}
    assert moved
    assert all(".visual." in name for name in moved)
    trainable = {
        f"model.visual.{n}" for n, _ in ClipTowers.from_open_clip("reid-tiny-resnet").model.visual.named_parameters()
    }
    assert trainable <= moved


def test_with_text_terms_every_trainable_parameter_moves(finished):
    before = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(32, 32), seed=0)
    after = load_towers(finished / "checkpoints" / index(finished)["last"]).state_dict()
    frozen = {"model.logit_scale"}
    for name, parameter in before.named_parameters():
        assert parameter.equal(after[name]) == (name in frozen), name


def test_warm_start_from_a_local_file(tmp_path, finished):
    source = finished / "checkpoints" / index(finished)["last"] / "model.safetensors"
    run(tiny_recipe(tmp_path, "stage=zero_shot", f"model.pretrained={source}"), tmp_path / "run")
    warm = json.loads((tmp_path / "run" / "results.json").read_text())["before"]
    cold = json.loads((finished / "results.json").read_text())["before"]
    assert warm != cold


def folder_set(root):
    records = SyntheticReid(20, views_per_camera=2, image_size=(32, 32)).write(root / "generated")
    for record in records:
        target = root / "folder" / record.split / str(record.identity) / Path(record.path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((root / "generated" / record.path).read_bytes())


def test_csv_and_folder_and_camera_pattern(tmp_path):
    folder_set(tmp_path)
    common = ["loss.supcon_text=0", "optim.epochs=1", "optim.warmup_epochs=0"]
    run(
        tiny_recipe(tmp_path, "data.source=csv", f"data.root={tmp_path}/generated/records.csv", *common), tmp_path / "a"
    )
    pattern = "data.camera_pattern='_c(?P<camera>[0-9]+)_'"
    folder = ["data.source=folder", f"data.root={tmp_path}/folder", *common]
    run(tiny_recipe(tmp_path, *folder, pattern), tmp_path / "b")
    run(tiny_recipe(tmp_path, *folder), tmp_path / "c")
    results = [
        json.loads((tmp_path / n / "results.json").read_text())["before"]["image_to_image"]["mean_ap"] for n in "abc"
    ]
    assert results[0] == results[1]  # the same images, identities and cameras by another road
    assert results[1] != results[2]  # without cameras nothing is left out


def test_without_validation_identities_the_last_epoch_is_tested(tmp_path):
    folder_set(tmp_path)
    for split in ("val_query", "val_gallery"):
        shutil.rmtree(tmp_path / "folder" / split)
    changes = ["data.source=folder", f"data.root={tmp_path}/folder", "loss.supcon_text=0"]
    run(tiny_recipe(tmp_path, *changes), tmp_path / "run")
    assert index(tmp_path / "run") == {"last": "epoch-0002", "best": "epoch-0002"}
    assert "as none was validated" in (tmp_path / "run" / "report.html").read_text()
    with pytest.raises(ValueError, match=r"evaluate\.patience: expected validation identities"):
        run(tiny_recipe(tmp_path, *changes, "evaluate.patience=1"), tmp_path / "other")


def test_stops_early_and_by_the_named_metric(tmp_path):
    # a rate of nearly 0 gains nothing: the first validation is the best, and one more is waited for
    changes = ["optim.epochs=6", "optim.lr=1e-30", "optim.weight_decay=0", "evaluate.patience=2"]
    changes += ["evaluate.metric=rank_1", "augment.horizontal_flip=0"]
    run(tiny_recipe(tmp_path, *changes), tmp_path / "run")
    history = rows(tmp_path / "run")
    scores = [row["validation"]["rank_1"] for row in history]
    assert len(history) < 6
    best = scores.index(max(scores))
    assert len(history) == best + 3
    assert index(tmp_path / "run")["best"] == f"epoch-{best + 1:04d}"
    assert [row["epoch"] for row in history if row["best"]][-1] == best + 1


def test_early_stopping_follows_the_named_metric(tmp_path, monkeypatch):
    from examples.trainer import joint

    scores = {"rank_1": iter([0.5, 0.4, 0.3, 0.2]), "mean_ap": iter([0.1, 0.2, 0.3, 0.4])}
    original = joint.evaluate

    def staged(*arguments, **options):
        found = original(*arguments, **options)
        numbers = found.images.to_dict() | {name: next(values) for name, values in scores.items()}
        found.images = SimpleNamespace(to_dict=lambda: numbers)
        return found

    monkeypatch.setattr(joint, "evaluate", staged)
    changes = ["optim.epochs=4", "evaluate.patience=2", "evaluate.metric=rank_1"]
    run(tiny_recipe(tmp_path, *changes), tmp_path / "run")
    assert len(rows(tmp_path / "run")) == 3
    assert index(tmp_path / "run")["best"] == "epoch-0001"


def test_without_cameras_the_report_still_shows_right_matches(tmp_path):
    folder_set(tmp_path)
    changes = ["stage=zero_shot", "data.source=folder", f"data.root={tmp_path}/folder"]
    run(tiny_recipe(tmp_path, *changes), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "results.json").read_text())["before"]["image_to_image"]["rank_5"] > 0
    assert "the same identity" in (tmp_path / "run" / "report.html").read_text()
    recipe = tiny_recipe(tmp_path, *changes)
    towers = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(32, 32))
    found = evaluate(recipe, towers, load_records(recipe, tmp_path), ("query", "gallery"))
    assert not found.camera_rule
    best = int(np.nanargmax(found.images.average_precision))
    assert any(_ranking("after", found, best, texts=False).matches)


def test_works_where_git_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    run(tiny_recipe(tmp_path, "stage=zero_shot"), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["revision"] is None


@pytest.mark.filterwarnings("ignore:tokenize. .* texts have more than 77 tokens:UserWarning")
def test_long_captions_are_cut_in_training_and_in_evaluation(tmp_path):
    records = SyntheticReid(20, views_per_camera=2, image_size=(32, 32)).write(tmp_path / "generated")
    long = [dataclasses.replace(r, caption=f"{r.caption} {'and so on ' * 60}") for r in records]
    write_csv(long, tmp_path / "long.csv")
    run(tiny_recipe(tmp_path, "data.source=csv", f"data.root={tmp_path}/long.csv"), tmp_path / "run")
    assert "text_to_image" in json.loads((tmp_path / "run" / "results.json").read_text())["after"]


def test_a_lost_row_of_metrics_comes_back_on_resume(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    whole = rows(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    run(tiny_recipe(tmp_path), tmp_path / "run", resume=True)
    assert rows(tmp_path / "run") == whole


def test_a_run_that_failed_early_may_be_started_again(tmp_path, capsys):
    tiny_recipe(tmp_path)
    failing = ["--set", "batch.num_identities=400"]
    code, text = command(capsys, tmp_path / "tiny.yaml", "--out", tmp_path / "run", *failing)
    assert code == 2
    assert "num_identities" in text
    more = ["--set", "data.num_identities=24"]
    assert command(capsys, tmp_path / "tiny.yaml", "--out", tmp_path / "run", *more)[0] == 0


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
@pytest.mark.slow
def test_full_disk_is_one_line(tmp_path):
    tiny_recipe(tmp_path)
    limit = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, 20_000_000));"  # the weights fit, the state does not
        "from examples.trainer.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    command_line = [sys.executable, "-c", limit, tmp_path / "tiny.yaml", "--out", tmp_path / "run"]
    done = subprocess.run(command_line, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "checkpoints" / "index.json").exists()


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path, free_port):
    """A tower without BatchNorm: the same global batches, so the same losses up to rounding."""
    tiny_recipe(tmp_path)
    common = ["--set", "model.name=reid-tiny-vit", "--set", "batch.coverage=images", "--set", "data.workers=0"]

    def launch(out, per_rank, *launcher):
        arguments = ["-m", "examples.trainer", tmp_path / "tiny.yaml", "--out", tmp_path / out, *common]
        arguments += ["--set", f"batch.num_identities={per_rank}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        command_line = [sys.executable, *launcher, *arguments]
        done = subprocess.run(command_line, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    launch("one", 4)
    launch("two", 2, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port}")
    for one, two in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=2e-3)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=2e-2)


def test_omniglot_holds_out_alphabets(tmp_path):
    data = REPOSITORY.parent / "shared" / "data" / "omniglot-reid.zip"
    if not data.is_file():
        pytest.skip("the Omniglot images are not beside this checkout")
    recipe = tiny_recipe(
        tmp_path, "data.source=omniglot", f"data.root={data}", "data.held_out=[Greek]", "data.orientations=8"
    )
    recipe.loss.supcon_text = 0.0
    records = load_records(recipe, tmp_path)
    assert {r.identity.split("/")[0] for r in records if r.split in ("val_query", "val_gallery")} == {"Greek"}
    towers = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(32, 32))
    trained = training_set(recipe, records, towers)
    assert len(trained) == 8 * sum(r.split == "train" for r in records)


def command(capsys, *arguments):
    code = main(list(map(str, arguments)))
    return code, capsys.readouterr().err


def test_bad_input_is_one_line(tmp_path, capsys, finished):
    path = tmp_path / "tiny.yaml"
    tiny_recipe(tmp_path)

    def error(*arguments, out="new"):
        code, text = command(capsys, path, "--out", tmp_path / out, *arguments)
        assert code == 2
        assert text.startswith("error: ")
        assert text.count("\n") == 1
        return text

    assert "Give --data PATH" in error("--set", "data.source=csv")
    assert "nowhere.csv" in error("--set", "data.source=csv", "--data", tmp_path / "nowhere.csv", out="b")
    assert "Did you mean optim.epochs?" in error("--set", "optim.epoch=3")
    assert "ViT-B-16" in error("--set", "model.name=ViT-B-61", out="c")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").touch()
    assert "expected a new or empty folder" in error(out="used")
    code, text = command(capsys, path, "--out", finished)
    assert code == 2
    assert "Give --resume" in text
    code, text = command(capsys, path, "--out", finished, "--resume", "--set", "seed=3")
    assert code == 2
    assert "expected the recipe of the run to resume" in text


def test_missing_captions_are_named(tmp_path, capsys):
    folder_set(tmp_path)
    tiny_recipe(tmp_path)
    arguments = ["--set", "data.source=folder", "--data", tmp_path / "folder", "--out", tmp_path / "run"]
    code, text = command(capsys, tmp_path / "tiny.yaml", *arguments)
    assert code == 2
    assert "a caption for every training image" in text


def test_corrupt_image_is_named(tmp_path, capsys):
    folder_set(tmp_path)
    tiny_recipe(tmp_path)
    victim = next((tmp_path / "folder" / "query").rglob("*.png"))
    victim.write_bytes(victim.read_bytes()[:100])
    arguments = ["--set", "data.source=folder", "--set", "loss.supcon_text=0", "--data", tmp_path / "folder"]
    code, text = command(capsys, tmp_path / "tiny.yaml", *arguments, "--out", tmp_path / "run")
    assert code == 2
    assert victim.name in text


def test_checkpoint_of_another_architecture(tmp_path, capsys):
    tiny_recipe(tmp_path)
    save_towers(ClipTowers.from_open_clip("reid-tiny-vit"), tmp_path / "other")
    weights_file = tmp_path / "other" / "model.safetensors"
    arguments = ["--set", f"model.pretrained={weights_file}", "--out", tmp_path / "run"]
    code, text = command(capsys, tmp_path / "tiny.yaml", *arguments)
    assert code == 2
    assert "ResNet" in text
    assert "ViT" in text


@contextlib.contextmanager
def start(path, out, *more):
    """A run in a process of its own; what it says on stderr is appended to ``errors.txt`` beside the recipe."""
    with (
        (path.parent / "errors.txt").open("a") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "examples.trainer", path, "--out", out, "--set", "optim.epochs=12", *more],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        ) as process,
    ):
        yield process
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [(), ("--set", "optim.ema_decay=0.8", "--set", "data.workers=1")], ids=["plain", "ema"]
)
def test_killed_and_resumed_run_ends_bit_identical(tmp_path, more):
    tiny_recipe(tmp_path)
    path, whole, killed = tmp_path / "tiny.yaml", tmp_path / "whole", tmp_path / "killed"
    with start(path, whole, *more) as process:
        assert process.wait(timeout=300) == 0, (tmp_path / "errors.txt").read_text()

    rng = random.Random(7)
    for attempt, stop in enumerate([signal.SIGINT, signal.SIGKILL, signal.SIGKILL, None]):
        with start(path, killed, *more, *(["--resume"] if attempt else [])) as process:
            if stop is None:
                assert process.wait(timeout=300) == 0, (tmp_path / "errors.txt").read_text()
                break
            before = epochs_done(killed)
            while epochs_done(killed) <= before:
                assert process.poll() is None, (tmp_path / "errors.txt").read_text()
                time.sleep(0.002)
            time.sleep(rng.random() * 0.2)  # some instant of an epoch, of a save or of a validation
            process.send_signal(stop)
            assert process.wait(timeout=60) in (130, -stop)
        assert epochs_done(killed) < 12, "finished before the kill: the test shows nothing"
    for which in ("last", "best"):
        a, b = weights(killed, which), weights(whole, which)
        assert a.keys() == b.keys()
        assert all(a[name].equal(b[name]) for name in a)
    assert (killed / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    for a, b in zip(rows(killed), rows(whole), strict=True):
        for row in (a, b):
            del row["seconds"], row["images_per_second"]
        assert a == b


@pytest.mark.slow
def test_interrupt_says_how_to_go_on(tmp_path):
    tiny_recipe(tmp_path)
    with start(tmp_path / "tiny.yaml", tmp_path / "run") as process:
        while epochs_done(tmp_path / "run") == 0:
            assert process.poll() is None, (tmp_path / "errors.txt").read_text()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert "--resume" in (tmp_path / "errors.txt").read_text()
