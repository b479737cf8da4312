"""Weights and rates in the loop: groups, gradients, frozen parts, schedules, failures, alarms."""

import json
import math
import re

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from tiny import tiny_recipe, write_recipe
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from clipreid_kit.clip import ClipBaseline
from examples.settings.optim import Optim
from examples.trainer import assemble, loop
from examples.trainer.__main__ import main
from examples.trainer.run import run

pytestmark = pytest.mark.usefixtures("without_report")

VIT = "model.name=reid-tiny-vit"


class Watched:
    """Trained methods, their first weights, and rate and gradient of every parameter and step."""

    def __init__(self):
        self.methods, self.began, self.steps = [], [], []

    def made(self, training):
        method = training.method
        self.methods.append(method)
        self.began.append({name: value.clone() for name, value in method.state_dict().items()})
        self.optimizers = training.optimizers.all()

    def step(self, optimizer, *_):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                touched = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
                self.steps.append((id(parameter), group["lr"], group["weight_decay"], touched))


@pytest.fixture
def watched(monkeypatch):
    found = Watched()
    original = loop.prepare

    def spied(training):
        found.made(training)
        original(training)

    monkeypatch.setattr(loop, "prepare", spied)
    hook = register_optimizer_step_pre_hook(found.step)
    yield found
    hook.remove()


def train(folder, images, stage, *changes):
    folder.mkdir(parents=True, exist_ok=True)
    run(
        tiny_recipe(folder, "track.console=nothing", *changes, stage=stage, images=images),
        folder / "run",
    )
    return folder / "run"


def rows(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


ONE_WAY = [
    *((stage,) for stage in ("image_encoder", "text_to_person", "unsupervised")),
    ("classifier", VIT, "model.image_blocks=2", "model.camera_embedding=true"),
    ("classifier", "model.image_blocks=none", "loss.center=0.1", "loss.prototype=0.1"),
    ("classifier", "head.neck=false", "head.kind=cosface"),
    ("classifier", "head.reduced_dim=8", "evaluate.descriptor=post_neck"),
    (
        "joint",
        "model.text_blocks=1",
        "model.train_projections=false",
        "loss.hard_negative=1",
        "loss.triplet_text=1",
    ),
    ("joint", "optim.ema_decay=0.5", "loss.id=1"),
    ("joint", VIT, "model.lora_rank=2"),
    ("retrieval", "loss.learn_temperature=true", "loss.triplet_text=1"),
    ("retrieval", "mining.data=hard_negative"),
    ("clip_reid", VIT, "loss.id=0"),
    (
        "clip_reid",
        "loss.id=0",
        "loss.center=0.1",
        "prompt.camera_tokens=1",
        "prompt.shared_tokens=1",
    ),
    ("clip_reid", "prompt.epochs=0"),
    ("prompt_sg", "loss.id=0"),
    ("prompt_sg", "loss.supcon=0", "prompt.mode=simplified", "prompt.triplet_levels=final"),
    ("prompt_sg", "prompt.triplet_levels=interaction", "head.reduced_dim=8"),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", ONE_WAY, ids=" ".join)
def test_trainable_means_trained(tmp_path, images, watched, case):
    """Every trainable parameter is in one group and gets gradient; the rest stays bit-identical."""
    stage, *changes = case
    train(
        tmp_path,
        images,
        stage,
        *changes,
        "optim.epochs=1",
        "optim.warmup_epochs=0",
        "augment.color_jitter=0",
    )
    assert len(watched.methods) == (
        2 if stage == "clip_reid" and "prompt.epochs=0" not in changes else 1
    )
    for method, began in zip(watched.methods, watched.began, strict=True):
        groups = {}
        for key, _, _, touched in watched.steps:
            groups.setdefault(key, []).append(touched)
        now = method.state_dict()
        steps = max(len(seen) for seen in groups.values())
        for name, parameter in method.named_parameters():
            if id(parameter) not in groups:
                assert parameter.equal(began[name]), name
                continue
            assert any(groups[id(parameter)]), f"{name} is trained, and has no gradient"
            assert len(groups[id(parameter)]) <= steps, name
    last, began = watched.methods[-1], watched.began[-1]
    listed = [
        id(p)
        for optimizer in watched.optimizers
        for group in optimizer.param_groups
        for p in group["params"]
    ]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in last.parameters() if p.requires_grad}
    assert not any(
        p.requires_grad for name, p in last.named_parameters() if name.endswith("logit_scale")
    )
    if stage not in ("joint", "retrieval", "text_to_person"):
        text = [name for name, _ in last.towers.named_parameters() if ".visual." not in name]
        assert all(
            now[f"towers.{name}"].equal(began[f"towers.{name}"])
            for name in text
            if "camera" not in name
        )


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["follow", "frozen", "running"])
def test_batch_norm_policies(tmp_path, images, watched, policy):
    train(
        tmp_path,
        images,
        "classifier",
        "model.image_blocks=1",
        f"model.batch_norm={policy}",
        "optim.epochs=1",
        "optim.warmup_epochs=0",
    )
    method, began = watched.methods[0], watched.began[0]
    moved = {
        n for n, v in method.state_dict().items() if "running_mean" in n and not v.equal(began[n])
    }
    towers = {name for name in moved if name.startswith("towers.")}
    everywhere = {n for n in began if "running_mean" in n and n.startswith("towers.")}
    expected = {
        "follow": {
            n for n in everywhere if method.get_submodule(n.rpartition(".")[0]).weight.requires_grad
        },
        "frozen": set(),
        "running": everywhere,
    }
    assert towers == expected[policy]
    if policy == "follow":
        assert towers


def base_rate(name, optim):
    """Peak rate of a parameter by its name, in a ViT of four blocks and its text tower."""
    last = name.rpartition(".")[2]
    if name.startswith("towers.") and "camera" not in name:
        image = ".visual." in name
        value = optim.lr if image else optim.text_lr
        if name.endswith(("visual.proj", "text_projection")):
            value = optim.projection_lr
        blocks = {True: 4, False: TEXT_BLOCKS}[image]
        block = re.search(r"resblocks\.(\d+)\.", name)
        first = any(
            part in name
            for part in ("conv1", "class_embedding", "positional_embedding", "ln_pre", "token_emb")
        )
        depth = int(block[1]) + 1 if block else 0 if first else blocks + 1
        value *= optim.layer_decay ** (blocks + 1 - depth)
    else:
        value = optim.head_lr
    return value * (optim.bias_lr_factor if "bias" in last else 1)


TEXT_BLOCKS = 2


def test_rates_of_all_groups(tmp_path, images, watched):
    changes = [
        VIT,
        "loss.id=1",
        "loss.center=0.5",
        "optim.text_lr=3e-4",
        "optim.projection_lr=7e-4",
        "optim.head_lr=2e-3",
        "optim.layer_decay=0.7",
        "optim.bias_lr_factor=2",
        "optim.center_lr=0.3",
        "optim.warmup_factor=0.1",
        "optim.min_lr=1e-5",
        "optim.epochs=3",
        "accumulate=2",
    ]
    recipe = tiny_recipe(tmp_path, *changes, images=images)
    out = train(tmp_path, images, "joint", *changes)
    method = watched.methods[0]
    assert len(method.towers.model.visual.transformer.resblocks) == 4
    assert len(method.towers.model.transformer.resblocks) == TEXT_BLOCKS
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    traces, decays = {}, {}
    for key, lr, decay, _ in watched.steps:
        traces.setdefault(names[key], []).append(lr)
        decays[names[key]] = decay
    steps, warmup, optim = 2, 2, recipe.optim  # three batches an epoch, two to a step
    for name, trace in traces.items():
        if name.endswith("centers"):
            assert trace == pytest.approx(
                [0.3 / 0.5] * 6
            )  # the gradient is divided by the weight of the term
            continue
        peak, expected = base_rate(name, optim), []
        for t in range(3 * steps):
            share = 0.5 * (1 + math.cos(math.pi * (t - warmup) / (3 * steps - warmup)))
            low = min(optim.min_lr, peak)
            expected.append(
                peak * (0.1 + 0.9 * (t + 1) / warmup) if t < warmup else low + (peak - low) * share
            )
        assert trace == pytest.approx(expected), name
        spared = method.get_parameter(name).ndim < 2 or name.endswith(
            ("positional_embedding", "class_embedding")
        )
        assert decays[name] == (0.0 if spared else optim.weight_decay), name
    peaks = [
        max(trace[2 * e + 1] for n, trace in traces.items() if not n.endswith("centers"))
        for e in range(3)
    ]
    assert [row["lr"] for row in rows(out)] == pytest.approx(peaks)
    for row in rows(out):  # no group hides another of its name
        seen = {
            round(trace[2 * row["epoch"] - 1], 12)
            for n, trace in traces.items()
            if not n.endswith("centers")
        }
        assert {round(value, 12) for value in row["rates"].values()} == seen


SCHEDULES = [
    {"schedule": "cosine"},
    {"schedule": "cosine", "min_lr": 0.2},
    {"schedule": "restarts", "step_epochs": 2, "min_lr": 0.1},
    {"schedule": "constant"},
    {"schedule": "multistep", "milestones": [3, 5]},
    {"schedule": "step", "step_epochs": 2},
    {"schedule": "exponential", "gamma": 0.5},
]


@pytest.mark.parametrize("by_epoch", [False, True])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("keys", SCHEDULES, ids=lambda keys: "-".join(map(str, keys.values())))
def test_every_schedule_is_its_closed_form(keys, warmup, by_epoch):
    shared = {"epochs": 7, "lr": 0.8, "warmup_epochs": warmup, "by_epoch": by_epoch}
    warmup_factor = {"warmup_factor": 0.25}
    optim = TypeAdapter(Optim).validate_python({**shared, **warmup_factor, **keys})
    steps, base = 4, 0.5
    found = [optim.rate(base, step, steps) for step in range(7 * steps)]
    for step, value in enumerate(found):
        unit = 1 if by_epoch else steps
        t, low = (step // steps if by_epoch else step), keys.get("min_lr", 0.0) / base
        if t < round(warmup * unit):
            expected = 0.25 + 0.75 * (t + 1) / round(warmup * unit)
        elif optim.schedule in ("cosine", "restarts"):
            begin = round(warmup * unit)
            length = 7 * unit - begin if optim.schedule == "cosine" else optim.step_epochs * unit
            expected = low + (1 - low) * 0.5 * (
                1 + math.cos(math.pi * ((t - begin) % length) / length)
            )
        else:
            epoch = step // steps
            expected = {
                "constant": 1.0,
                "multistep": 0.1 ** sum(epoch >= m for m in keys.get("milestones", ())),
                "step": 0.1 ** sum(epoch >= m >= warmup for m in range(2, 7, 2)),
                "exponential": 0.5 ** ((t - round(warmup * unit)) // unit),
            }[optim.schedule]
        assert value == pytest.approx(base * expected), step


STAGED = {
    ("image_to_image", "mean_ap"): "mean_ap",
    ("image_to_image", "rank_1"): "rank_1",
    ("image_to_image", "mean_inp"): "mean_inp",
    ("text_to_image", "mean_ap"): "mean_ap",
    ("image_to_text", "rank_1"): "hit_rate_1",
}


@pytest.mark.slow
@pytest.mark.parametrize(("task", "metric"), STAGED)
def test_early_stopping_by_a_named_metric(tmp_path, images, monkeypatch, task, metric):
    """The named number peaks at the second validation while all others rise."""
    original, calls, peaked = assemble.evaluate, [], [0.3, 0.9, 0.8, 0.7, 0.95]

    def staged(*arguments, **options):
        found = original(*arguments, **options)
        calls.append(len(calls))
        numbers = found.numbers([1])
        for name, values in numbers.items():
            for key in values:
                values[key] = 0.1 * len(calls)
                if name in (task, f"{task}.retrieval") and key == STAGED[task, metric]:
                    values[key] = peaked[calls[-1]]

        class Found:
            def numbers(self, _ks):
                return numbers

        return Found()

    monkeypatch.setattr(assemble, "evaluate", staged)
    changes = [
        "optim.epochs=5",
        "evaluate.patience=2",
        f"evaluate.task={task}",
        f"evaluate.metric={metric}",
        "batch.num_identities=12",  # few steps: what is trained does not matter
    ]
    out = train(tmp_path, images, "retrieval", *changes)
    assert [row["score"] for row in rows(out)] == peaked[:4]
    assert [row["best"] for row in rows(out)] == [True, True, False, False]
    assert json.loads((out / "checkpoints" / "index.json").read_text()) == {
        "last": "epoch-0004",
        "best": "epoch-0002",
    }


@pytest.mark.slow
def test_early_stopping_by_loss(tmp_path, images):
    changes = [
        "optim.epochs=5",
        "evaluate.patience=2",
        "evaluate.metric=loss",
        "optim.lr=1e-30",
        "optim.weight_decay=0",
    ]
    out = train(tmp_path, images, "joint", *changes, "model.batch_norm=frozen")
    history = rows(out)
    assert len(history) == 3  # nothing is gained: two more are waited for
    assert history[0]["score"] == -history[0]["validation"]["loss"]["loss"] < 0
    learns = train(tmp_path / "learns", images, "joint", "evaluate.metric=loss", "optim.epochs=4")
    assert len({row["score"] for row in rows(learns)}) == 4


def test_patience_counts_validations(tmp_path, images):
    changes = [
        "optim.epochs=12",
        "evaluate.patience=1",
        "evaluate.every=2",
        "optim.lr=1e-30",
        "optim.weight_decay=0",
    ]
    out = train(tmp_path, images, "classifier", *changes, "model.batch_norm=frozen")
    assert [row["epoch"] for row in rows(out) if "validation" in row] == [2, 4]
    assert len(rows(out)) == 4


def command(capsys, *arguments):
    code = main(list(map(str, arguments)))
    return code, capsys.readouterr().err


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_not_a_number_stops_the_run(tmp_path, images, monkeypatch, capsys, kind):
    path = write_recipe(tmp_path)
    original, calls = ClipBaseline.forward, []

    def failing(self, images, labels=None, **options):
        found = original(self, images, labels, **options)
        if labels is None:
            return found
        calls.append(labels)
        if len(calls) != 5:  # the second batch of the second epoch
            return found
        if kind == "loss":
            return found._replace(
                loss=found.loss * math.nan,
                terms={**found.terms, "supcon_image": found.loss.detach() * math.nan},
            )
        found.loss.register_hook(lambda gradient: gradient * math.inf)
        return found

    monkeypatch.setattr(ClipBaseline, "forward", failing)
    where = ("--set", "data.source=table", "--data", images / "records.csv")
    code, text = command(capsys, path, "--out", tmp_path / "run", *where)
    assert code == 2
    assert text.count("\n") == 1
    assert "epoch 2: " in text
    assert ("supcon_image is nan" if kind == "loss" else "gradient_norm is ") in text
    failed = json.loads((tmp_path / "run" / "failed_batch.json").read_text())
    assert failed["epoch"] == 2
    assert len(failed["rows"]) == len(set(failed["rows"])) == 8
    last = load_file(tmp_path / "run" / "checkpoints" / "epoch-0001" / "model.safetensors")
    assert all(value.isfinite().all() for value in last.values())
    assert len(rows(tmp_path / "run")) == 1


@pytest.mark.slow
def test_a_collapsed_model_and_a_constant_head_are_called_out(tmp_path, images, capsys):
    changes = [
        "optim.epochs=3",
        "optim.lr=1e-30",
        "optim.weight_decay=0",
        "head.std=0",
        "track.console=epochs",
    ]
    out = train(
        tmp_path,
        images,
        "classifier",
        *changes,
        "augment.color_jitter=0",
        "augment.horizontal_flip=0",
    )
    assert any("id is" in text for text in rows(out)[-1]["alarms"])
    assert "ALARM" in capsys.readouterr().out
    constant = ["optim.lr=1e-30", "optim.weight_decay=0", "optim.epochs=1"]
    out = train(
        tmp_path / "collapsed",
        images,
        "classifier",
        *constant,
        "optim.warmup_epochs=0",
        "model.batch_norm=frozen",
    )
    assert any("collapsed" in text for text in rows(out)[-1]["alarms"])

    quiet = [*constant, "optim.warmup_epochs=0", "model.batch_norm=frozen", "track.alarms=false"]
    out = train(tmp_path / "quiet", images, "classifier", *quiet)
    assert rows(out)[-1]["alarms"] == []


def test_average_of_weights(tmp_path, images, watched):
    """The checkpoint holds w <- d w + (1 - d) w_t over all steps, from the first step's weights."""
    seen = []
    original = loop.AveragedModel.update_parameters

    def spied(self, model):
        seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
        original(self, model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.AveragedModel, "update_parameters", spied)
        out = train(tmp_path, images, "classifier", "optim.ema_decay=0.6")
    expected = dict(seen[0])
    for weights in seen[1:]:
        expected = {name: 0.6 * expected[name] + 0.4 * value for name, value in weights.items()}
    folder = (
        out / "checkpoints" / json.loads((out / "checkpoints" / "index.json").read_text())["last"]
    )
    saved = load_file(folder / "model.safetensors")
    for name, value in expected.items():
        if name.startswith("towers."):
            torch.testing.assert_close(saved[name.removeprefix("towers.model.")], value)
    assert any(
        not saved[n.removeprefix("towers.model.")].equal(v)
        for n, v in seen[-1].items()
        if n.startswith("towers.")
    )


def test_accumulated_batches_are_one_step(tmp_path, images, watched):
    train(tmp_path, images, "classifier", "accumulate=2", "optim.epochs=1", "optim.warmup_epochs=0")
    parameters = {key for key, *_ in watched.steps}
    assert len(watched.steps) == 2 * len(parameters)  # three batches: two, and one that is left


def test_init_from(tmp_path, images):
    one_epoch = ("loss.center=0.1", "optim.epochs=1", "optim.warmup_epochs=0")
    table = (images / "records.csv").read_text().splitlines()
    fewer = images / "fewer.csv"
    gone = sorted({line.split(",")[1] for line in table if ",train" in line})[:2]
    fewer.write_text("\n".join(line for line in table if line.split(",")[1] not in gone) + "\n")
    first = train(
        tmp_path / "first",
        images,
        "classifier",
        *one_epoch,
        f"data.root={fewer}",
    )
    again = train(tmp_path / "second", images, "classifier", f"init_from={first}", *one_epoch)
    report = json.loads((again / "init_from.json").read_text())
    assert report["from"] == str(first)
    assert {name for name, *_ in report["mismatched"]} == {
        "identity_branch.classifier.weight",
        "losses.center.centers",
    }  # other identities
    assert any("neck" in name for name in report["loaded"])
    assert not report["missing"]
    results = json.loads((again / "results.json").read_text())
    assert results["before"]["image_to_image"] == pytest.approx(
        json.loads((first / "results.json").read_text())["after"]["image_to_image"], nan_ok=True
    )
    same = train(tmp_path / "third", images, "classifier", f"init_from={again}", *one_epoch)
    report = json.loads((same / "init_from.json").read_text())
    assert not report["mismatched"] + report["missing"] + report["unexpected"]
    run(
        tiny_recipe(
            tmp_path,
            f"init_from={first}",
            "stage=zero_shot",
            "evaluate.towers_only=true",
            images=images,
        ),
        tmp_path / "zero",
    )
    assert json.loads((tmp_path / "zero" / "init_from.json").read_text())["loaded"]


@pytest.mark.slow
def test_init_from_into_another_stage(tmp_path, images):
    first = train(tmp_path / "first", images, "clip_reid")
    second = train(tmp_path / "second", images, "joint", f"init_from={first}")
    assert json.loads((second / "init_from.json").read_text())["unexpected"]
    assert "after" in json.loads((second / "results.json").read_text())


@pytest.mark.slow
def test_bfloat16_keeps_weights_in_float32(tmp_path, images, watched):
    seen = set()
    original = nn.Linear.forward

    def spied(self, value):
        found = original(self, value)
        seen.add(found.dtype)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Linear, "forward", spied)
        out = train(tmp_path, images, "joint", "precision=bf16", VIT)
    assert torch.bfloat16 in seen
    assert {p.dtype for p in watched.methods[0].parameters()} == {torch.float32}
    assert all(math.isfinite(row["loss"]) for row in rows(out))
