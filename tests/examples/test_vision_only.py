"""Image towers alone in the trainer: every stage that needs no text, and only those."""

import json

import pytest
from tiny import tiny_images, tiny_recipe

from clipreid_kit.clip import TrainingCheckpoints, load_towers
from examples.settings.smoke import smoke
from examples.trainer import run as trainer
from examples.trainer.session import make_towers

pytestmark = pytest.mark.usefixtures("without_report")

TIMM = "model.name=timm/test_resnet"
NO_TEXT = {
    "classifier": ("loss.id=1",),
    "image_encoder": ("loss.supcon_text=0",),
    "joint": ("loss.supcon_text=0",),
    "clip_reid": ("loss.image_to_text=0", "prompt.epochs=0"),
    "retrieval": ("loss.info_nce=0", "loss.triplet=1", "batch.num_instances=2"),
}


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("joint", ()),
        ("image_encoder", ()),
        ("clip_reid", ()),
        ("prompt_sg", ()),
        ("retrieval", ()),
        ("retrieval", (*NO_TEXT["retrieval"], "mining.data=triplet")),
        ("joint", (*NO_TEXT["joint"], "evaluate.task=text_to_image")),
    ],
)
def test_what_needs_text_refuses_it_in_one_sentence(tmp_path, stage, changes):
    match = rf"`stage: {stage}` needs a text tower, and `model.name: timm/test_resnet` has none"
    with pytest.raises(ValueError, match=match):
        tiny_recipe(tmp_path, TIMM, *changes, stage=stage)


@pytest.mark.parametrize("stage", NO_TEXT)
def test_recipes_without_terms_on_texts_are_read(tmp_path, stage):
    recipe = tiny_recipe(tmp_path, TIMM, *NO_TEXT[stage], stage=stage)
    assert not recipe.needs_text()
    assert not recipe.compares_texts()
    assert smoke(recipe).model.name == "timm/test_resnet"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("model.camera_embedding=true", "`model.camera_embedding` is for CLIP's ViT"),
        ("model.patch_stride=4", "`model.patch_stride` is for CLIP's ViT"),
        ("model.position_resize=clip_reid", "`model.position_resize` must be bicubic"),
    ],
)
def test_keys_of_clip_towers_are_refused(tmp_path, change, match):
    with pytest.raises(ValueError, match=match):
        tiny_recipe(tmp_path, TIMM, change, stage="classifier")


def test_towers_are_those_of_the_recipe(tmp_path):
    changes = ("model.name=torchvision/shufflenet_v2_x0_5", "model.image_mean=[0.5, 0.5, 0.5]")
    model = tiny_recipe(tmp_path, *changes, stage="classifier").model
    towers = make_towers(model, [], seed=3)

    assert (towers.name, towers.image_size) == ("torchvision/shufflenet_v2_x0_5", (32, 32))
    assert towers.image_mean == (0.5, 0.5, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["classifier", "clip_reid"])
def test_a_run_trains_evaluates_and_saves_it(tmp_path, stage):
    images = tiny_images(tmp_path)
    changes = ("optim.epochs=1", "optim.warmup_epochs=0", "model.last_stride=1")
    recipe = tiny_recipe(tmp_path, TIMM, *NO_TEXT[stage], *changes, stage=stage, images=images)
    trainer.run(recipe, tmp_path / "run")

    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results["after"]) == {"image_to_image"}
    towers = load_towers(TrainingCheckpoints(tmp_path / "run" / "checkpoints").path("best"))
    assert (towers.name, towers.grid) == ("timm/test_resnet", (2, 2))
