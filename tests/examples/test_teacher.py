"""Distillation from an earlier run, and from the average of the trained model itself."""

import json
from types import SimpleNamespace

import pytest
import torch
from tiny import session_of, tiny_recipe

from clipreid_kit import TripletLoss, logit_distillation_loss, relational_distillation_loss
from clipreid_kit.clip import ClipBaseline, read_card, warm_start
from examples.settings.teacher import AverageTeacher, NoTeacher, RunTeacher
from examples.trainer import run as trainer
from examples.trainer.batches import ImageBatch
from examples.trainer.teacher import teacher_of

pytestmark = pytest.mark.usefixtures("without_report")

SHORT = ("optim.epochs=1", "optim.warmup_epochs=0", "track.console=nothing")


@pytest.fixture
def session(images, tmp_path):
    return session_of(tiny_recipe(tmp_path, stage="classifier", images=images), tmp_path)


def of(embedding, logits=None):
    """The part of a method's output that a teacher looks at."""
    return SimpleNamespace(embedding=embedding, logits=logits)


def some_images():
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return ImageBatch(images, torch.tensor([0, 0, 1, 1]), torch.arange(4), step=0)


def test_the_average_follows_and_its_loss_trains_the_method_alone(session):
    method = ClipBaseline(session.towers, weights={"triplet": 1.0})
    options = AverageTeacher(source="average", decay=0.5, weight=2.0)
    teacher = teacher_of(options, method, session)
    batch = some_images()
    embedding = method.eval()(batch.images).embedding

    torch.testing.assert_close(teacher.distil(batch, of(embedding)), torch.tensor(0.0))
    student = torch.randn(4, embedding.shape[1], requires_grad=True)
    loss = teacher.distil(batch, of(student))
    loss.backward()
    wanted = relational_distillation_loss(student, embedding, temperature=0.1)
    torch.testing.assert_close(loss, 2 * wanted)
    assert all(parameter.grad is None for parameter in method.parameters())

    before = [parameter.clone() for parameter in teacher.model.parameters()]
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(1.0)
    teacher.update(method)
    for old, new in zip(before, teacher.model.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.5)

    again = teacher_of(options, method, session)
    again.load_state_dict(teacher.state_dict())
    for one, other in zip(again.model.parameters(), teacher.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_logits_of_the_average(session):
    method = ClipBaseline(session.towers, 4, weights={"id": 1.0})
    torch.nn.init.normal_(method.identity_branch.classifier.weight)
    options = AverageTeacher(source="average", kind="logit", logit_temperature=2.0)
    teacher = teacher_of(options, method, session)
    batch = some_images()
    own = method.eval()(batch.images, batch.labels).logits

    torch.testing.assert_close(teacher.distil(batch, of(None, own)), torch.tensor(0.0))
    student = torch.randn(4, 4)
    wanted = logit_distillation_loss(student, own, temperature=2.0)
    torch.testing.assert_close(teacher.distil(batch, of(None, student)), wanted)


def test_logits_need_a_linear_classifier(tmp_path, images):
    for change in ("head.kind=arcface", "loss.id=0"):
        changes = ("teacher.source=average", "teacher.kind=logit", change)
        with pytest.raises(ValueError, match=r"`teacher\.kind: logit` compares the logits of a li"):
            tiny_recipe(tmp_path, *changes, stage="classifier", images=images)


def test_without_a_teacher(session):
    assert teacher_of(NoTeacher(), torch.nn.Identity(), session) is None


@pytest.mark.slow
def test_a_run_teaches_another(tmp_path, images):
    recipe = tiny_recipe(tmp_path, *SHORT, stage="classifier", images=images)
    trainer.run(recipe, tmp_path / "teacher")
    taught = tiny_recipe(
        tmp_path,
        *SHORT,
        "teacher.source=run",
        f"teacher.path={tmp_path / 'teacher'}",
        "model.name=reid-tiny-vit",
        "evaluate.every=1",
        stage="classifier",
        images=images,
    )
    trainer.run(taught, tmp_path / "student")

    row = json.loads((tmp_path / "student" / "metrics.jsonl").read_text().splitlines()[0])
    assert row["distillation"] > 0
    assert row["loss"] == pytest.approx(row["id"] + row["triplet"] + row["distillation"])


@pytest.mark.slow
def test_a_run_teaches_its_logits(tmp_path, images):
    recipe = tiny_recipe(tmp_path, *SHORT, stage="classifier", images=images)
    trainer.run(recipe, tmp_path / "teacher")
    path = str(tmp_path / "teacher")
    options = RunTeacher(source="run", kind="logit", path=path)
    session = session_of(recipe, tmp_path)
    identities = read_card(path)["identities"]
    teacher = teacher_of(options, torch.nn.Identity(), session, identities)

    trained = ClipBaseline(session.towers, len(identities), losses={"triplet": TripletLoss()})
    warm_start(trained, path)
    batch = some_images()
    logits = trained.eval()(batch.images, batch.labels).logits
    torch.testing.assert_close(teacher.distil(batch, of(None, logits)), torch.tensor(0.0))

    with pytest.raises(ValueError, match="has no linear classifier of the identities of this run"):
        teacher_of(options, torch.nn.Identity(), session, identities[::-1])


@pytest.mark.slow
def test_a_resumed_run_has_the_same_average(tmp_path, images):
    recipe = tiny_recipe(
        tmp_path,
        "teacher.source=average",
        "teacher.decay=0.8",
        "track.console=nothing",
        "track.checkpoint_every=1",
        "optim.warmup_epochs=0",
        stage="classifier",
        images=images,
    )
    out = tmp_path / "run"

    def last_epoch():
        row = json.loads((out / "metrics.jsonl").read_text().splitlines()[1])
        return {key: row[key] for key in ("loss", "distillation", "gradient_norm")}

    trainer.run(recipe, out)
    whole = last_epoch()
    trainer.run(recipe, out, resume=True, checkpoint="epoch-0001")

    assert whole["distillation"] > 0
    assert last_epoch() == whole


def test_a_teacher_of_other_images_is_refused(session):
    options = RunTeacher(source="run", path="reid-tiny-vit:random")
    with pytest.raises(
        ValueError, match=r"teacher\.path: reid-tiny-vit:random was trained with im"
    ):
        teacher_of(options, torch.nn.Identity(), session)
