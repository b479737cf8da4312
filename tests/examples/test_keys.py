"""Every key of a recipe changes the run, found by walking the keys: none is decoration."""

import dataclasses
import json
import os
import typing
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny import session_of, tiny_images, tiny_recipe

from clipreid_kit import CircleSoftmaxHead
from clipreid_kit import data as kit
from examples.settings.head import CircleHead
from examples.settings.losses import ImageLoss
from examples.settings.stages import RECIPES
from examples.settings.variants import models_in
from examples.trainer import records as trainer_records
from examples.trainer import run as trainer
from examples.trainer.assemble import pk_batches, training_images
from examples.trainer.batches import _read_synonyms
from examples.trainer.losses import identity_branch
from examples.trainer.prompts import templates_of
from examples.trainer.records import load_records, read_records
from examples.trainer.session import categories_of

# Small sets are cut smaller still: an identity may keep a single image.
# Narrower models may rank alike by two values of a key.
pytestmark = [
    pytest.mark.filterwarnings("ignore:PKSampler. .* have a single image:UserWarning"),
    pytest.mark.usefixtures("without_report"),
    pytest.mark.full_width,
]

VIT = "model.name=reid-tiny-vit"
FOUND = "evaluate.predictions=1"  # with similarities: the ranks may be the same
OCCLUDED = "evaluate.occlusion=[rectangle]"
AVERAGE = "teacher.source=average"
VIEWS = ("augment.views=2", "loss.self_supervision=1")
ARC = "head.kind=arcface"
VARIED = "data.caption_variations=3"
LONGER = (
    "data.caption=Figure {identity}." + " It was seen by camera {camera} on a quiet day" * 12 + "."
)
LONG = (
    "data.caption=A figure {identity}. It was seen by camera {camera}. "
    "Nobody knows what it was doing there."
)
MINED = ("mining.data=hard_negative", "data.caption=figure {identity} by camera {camera}")
TRIPLETS = ("mining.data=triplet",)
PLAIN = ("loss.supcon=0",)
CAMERAS = "loss.camera_prototype=1"
MASKED = "loss.masked_language=1.0"
ONE_EPOCH = ("optim.epochs=1", "optim.warmup_epochs=0")  # enough for most keys
NEEDS_EPOCHS = (
    "optim.",
    "evaluate.every",
    "evaluate.metric",
    "evaluate.patience",
    "pairs.",
    "loss.ramp_epochs",
    "loss.momentum",
    "mining.refresh_epochs",
)
STEPS = ("optim.epochs=3", "optim.warmup_epochs=0")
TRACKLETS = ("data.root={images}/tracklets.csv", "evaluate.tracklets=own")
CONSECUTIVE = (*TRACKLETS, "tracklets.num_frames=2", "tracklets.selection=consecutive")
TRANSFORMER = ("tracklets.num_frames=2", "tracklets.pooling=transformer")
# stage: key and another value; before them, changes that both runs have
CHANGES: dict[str, list[tuple[str, ...]]] = {
    "classifier": [
        ("seed", "1"),
        ("precision", "bf16"),
        ("accumulate", "2"),
        ("data.root={images}/unheld.csv", "data.validation", "0.3"),
        ("data.balance=identity", "data.at_most", "4"),
        ("data.balance=identity", "data.at_least", "12"),
        ("data.balance", "length"),
        ("data.check", "raise"),
        ("data.orientations", "4"),
        ("model.name", "reid-tiny-vit"),
        ("model.image_size", "[64, 32]"),
        ("model.image_mean", "[1, 1, 1]"),
        ("model.image_std", "[0.5, 0.5, 0.5]"),
        ("model.image_size=[64, 64]", "model.interpolation", "bilinear"),
        ("model.image_size=[64, 32]", "model.fit", "pad"),
        (VIT, "model.patch_stride", "6"),
        ("model.last_stride", "1"),
        (VIT, "model.image_size=[48, 32]", "model.position_resize", "clip_reid"),
        (VIT, "model.camera_embedding", "true"),
        (VIT, "model.view_embedding", "true"),
        ("model.image_blocks", "1"),
        ("model.train_projections", "false"),
        (VIT, "model.lora_rank", "2"),
        (VIT, "model.lora_rank=2", "model.lora_alpha", "4"),
        (VIT, "model.lora_rank=2", "model.lora_dropout", "0.5"),
        (VIT, "model.lora_rank=2", "model.lora_targets", "[mlp]"),
        ("model.batch_norm", "frozen"),
        ("augment.crop", "0.5"),
        ("augment.horizontal_flip", "0.0"),
        ("augment.pad", "4"),
        ("augment.color_jitter", "0.0"),
        ("augment.rotation", "20"),
        ("augment.translate", "0.2"),
        ("augment.scale", "[0.7, 1.3]"),
        ("augment.shear", "10"),
        ("augment.perspective", "0.5"),
        ("augment.augmix", "1.0"),
        ("augment.pad=4", "augment.fill", "255"),
        ("augment.erasing", "1.0"),
        ("augment.stripes", "1.0"),
        ("augment.stripes=1.0", "augment.stripe_share", "0.6"),
        ("augment.stripes=1.0", "augment.num_stripes", "3"),
        ("augment.stripes=1.0", "augment.stripe_fill", "image"),
        (VIT, "model.patch_mask", "0.5"),
        (VIT, "model.patch_mask=0.5", "model.patch_mask_kind", "learned"),
        ("augment.identity_warp", "0.5"),
        ("augment.views", "2"),
        ("augment.views=2", "loss.self_supervision", "0.5"),
        (*VIEWS, "loss.self_temperature", "0.5"),
        (*VIEWS, "loss.self_hidden_dim", "8"),
        (*VIEWS, "loss.self_dim", "8"),
        ("augment.identity_orientations", "4"),
        (*TRACKLETS, "tracklets.num_frames", "3"),
        (*TRACKLETS, "tracklets.num_frames=2", "tracklets.selection", "consecutive"),
        (*CONSECUTIVE, "tracklets.stride", "2"),
        (*TRACKLETS, "tracklets.num_frames=2", "tracklets.pooling", "attention"),
        (*TRACKLETS, *TRANSFORMER, "tracklets.blocks", "2"),
        ("data.root={images}/tracklets.csv", "evaluate.tracklets", "own"),
        (*TRACKLETS, "evaluate.num_frames", "1"),
        ("batch.num_identities", "6"),
        ("batch.num_instances", "3"),
        ("batch.coverage", "images"),
        ("batch.spread_cameras", "false"),
        ("batch.across", "modality"),
        ("head.kind", "cosface"),
        ("head.neck", "false"),
        ("head.reduced_dim", "16"),
        ("head.dropout", "0.5"),
        (ARC, "head.scale", "10"),
        (ARC, "head.margin", "0.1"),
        (ARC, "head.sampled", "0.8"),
        ("head.std", "0.1"),
        ("loss.id", "0.5"),
        ("loss.triplet", "0.5"),
        ("loss.center", "0.1"),
        ("loss.supcon_image", "0.5"),
        ("loss.prototype", "0.5"),
        ("loss.recall_surrogate", "0.5"),
        ("loss.recall_surrogate=1", "loss.recall_ks", "[1]"),
        ("loss.smooth_ap", "0.5"),
        ("loss.smooth_ap=1", "loss.rank_temperature", "0.1"),
        ("loss.matryoshka", "[8, 16]"),
        ("loss.margin", "1.0"),
        ("loss.soft_margin", "true"),
        ("loss.mining", "semi_hard"),
        ("loss.distance", "cosine"),
        ("loss.label_smoothing", "0.1"),
        ("loss.adaptive_smoothing", "0.2"),
        ("loss.id_focal_gamma", "2"),
        ("loss.prototype=1", "loss.momentum", "0.9"),
        ("optim.optimizer", "sgd"),
        ("optim.epochs", "3"),
        ("optim.lr", "2e-3"),
        ("optim.projection_lr", "5e-3"),
        ("optim.head_lr", "5e-3"),
        ("loss.center=1", "optim.center_lr", "0.1"),
        ("optim.weight_decay", "0.5"),
        ("optim.decay_all", "true"),
        ("optim.bias_lr_factor", "2"),
        ("optim.layer_decay", "0.5"),
        ("optim.optimizer=sgd", "optim.momentum", "0.1"),
        ("optim.beta1", "0.5"),
        ("optim.beta2", "0.9"),
        ("optim.schedule", "constant"),
        ("optim.warmup_epochs", "0"),
        ("optim.warmup_factor", "0.5"),
        ("optim.min_lr", "5e-4"),
        (*STEPS, "optim.schedule=multistep", "optim.milestones", "[1]"),
        (*STEPS, "optim.schedule=step", "optim.step_epochs", "2"),
        (*STEPS, "optim.schedule=exponential", "optim.gamma", "0.5"),
        ("optim.by_epoch", "true"),
        ("optim.clip_norm", "0.01"),
        ("optim.ema_decay", "0.5"),
        ("teacher.source", "average"),
        (AVERAGE, "teacher.kind", "feature"),
        (AVERAGE, "teacher.kind=logit", "teacher.logit_temperature", "1"),
        (AVERAGE, "teacher.weight", "2"),
        (AVERAGE, "teacher.temperature", "0.5"),
        (AVERAGE, "teacher.decay", "0.5"),
        ("evaluate.protocols", "[splits]"),
        ("evaluate.metric", "mean_inp"),
        ("evaluate.every", "2"),
        ("optim.epochs=4", "optim.lr=1e-30", "optim.weight_decay=0", "evaluate.patience", "1"),
        ("evaluate.cameras", "false"),
        ("evaluate.protocols=[cross_view]", "evaluate.same", "distractors"),
        ("evaluate.protocols=[splits]", "evaluate.num_splits", "2"),
        (FOUND, "evaluate.descriptor", "post_neck"),
        (FOUND, "evaluate.distance", "euclidean"),
        (FOUND, "evaluate.flip", "true"),
        (FOUND, "evaluate.rotations", "[0, 10]"),
        ("evaluate.rerank", "true"),
        ("evaluate.rerank=true", "evaluate.rerank_k1", "3"),
        ("evaluate.rerank=true", "evaluate.rerank_k2", "1"),
        ("evaluate.rerank=true", "evaluate.rerank_lambda", "0.9"),
        ("evaluate.widths", "[16]"),
        ("evaluate.occlusion", "[bottom]"),
        (OCCLUDED, "evaluate.occlusion_shares", "[0.5]"),
        (OCCLUDED, "evaluate.occlusion_sides", "both"),
        (OCCLUDED, "evaluate.occlusion_seed", "1"),
        ("evaluate.k_values", "[1, 3]"),
        ("evaluate.predictions", "2"),
    ],
    "image_encoder": [("loss.supcon_text", "0.5"), ("loss.temperature", "0.5"), ("stage", "joint")],
    "joint": [
        (LONG, "data.token_safe=true", "data.max_tokens", "12"),
        (LONGER, "data.token_safe", "true"),
        ("data.caption", "Figure {identity}"),
        ("data.caption_variations", "3"),
        (VARIED, "data.paraphrases", "false"),
        ("model.text_blocks", "none"),
        ("optim.text_lr", "2e-3"),
        ("loss.triplet_text", "1.0"),
        ("loss.hard_negative", "1.0"),
        ("loss.sdm", "1.0"),
        ("loss.sdm=1.0", "loss.sdm_temperature", "0.2"),
        ("loss.triplet_alignment", "1.0"),
        ("loss.triplet_alignment=1.0", "loss.alignment_margin", "0.5"),
        ("loss.triplet_alignment=1.0", "loss.alignment_temperature", "0.2"),
        ("loss.cmpm", "1.0"),
        ("loss.id=1.0", "loss.id_text", "1.0"),
        ("loss.hard_negative=1.0", "loss.negative_margin", "-0.5"),
        ("loss.hard_negative=1.0", "loss.negative_margin=-0.9", "loss.num_hard", "1"),
        ("evaluate.task", "text_to_image"),
        ("evaluate.captions", "all"),
    ],
    "retrieval": [
        ("loss.info_nce", "0.5"),
        ("loss.learn_temperature", "true"),
        ("loss.focal_gamma", "2"),
        ("loss.focal_gamma=2", "loss.focal_alpha", "2"),
        ("mining.data", "hard_negative"),
        (*MINED, "mining.num_negatives", "1"),
        (*MINED, "mining.negatives", "random"),
        (*MINED, "mining.refresh_epochs", "2"),
        (*TRIPLETS, "mining.margin=0.01", "mining.triplets", "semi_hard"),
        (*TRIPLETS, "mining.positives", "caption"),
        (*TRIPLETS, "mining.triplets=semi_hard", "mining.margin", "0.01"),
    ],
    "text_to_person": [
        ("loss.masked_language", "1.0"),
        (MASKED, "tokens.mask_blocks", "1"),
        (MASKED, "tokens.mask_heads", "4"),
        ("tokens.selection_dim", "16"),
        ("tokens.selection_dim=16", "tokens.selection_ratio", "0.1"),
        ("pairs.division", "consensus"),
        ("pairs.division=consensus", "pairs.warmup_epochs", "0"),
        ("pairs.noise", "0.5"),
    ],
    "unsupervised": [
        ("loss.camera_prototype", "1.0"),
        (CAMERAS, "loss.camera_negatives", "1"),
        (CAMERAS, "loss.inter_camera", "2"),
        ("loss.memory_update", "mean"),
        ("clusters.method", "average"),
        ("clusters.max_distance", "0.4"),
        ("clusters.min_samples", "5"),
        ("clusters.min_size", "8"),
        ("clusters.k1", "12"),
        ("clusters.k2", "4"),
        ("clusters.steps", "2"),
    ],
    "clip_reid": [
        ("loss.image_to_text", "0.5"),
        ("loss.supcon", "0.5"),
        ("loss.supcon=1", "loss.ramp_epochs", "2"),
        ("prompt.template", "['A picture of {tokens}.']"),
        ("prompt.num_tokens", "1"),
        ("prompt.shared_tokens", "1"),
        ("prompt.camera_tokens", "1"),
        ("prompt.modality_tokens", "1"),
        ("prompt.modality_tokens=1", "prompt.modality_column", "view"),
        ("prompt.epochs", "3"),
        ("prompt.batch_size", "10"),
        ("prompt.lr", "1e-2"),
        ("prompt.weight_decay", "0.5"),
        ("prompt.warmup_epochs", "0"),
        ("prompt.epochs=4", "prompt.warmup_epochs=3", "prompt.warmup_factor", "0.5"),
        ("prompt.epochs=4", "prompt.min_lr", "1e-4"),
        ("prompt.temperature", "0.1"),
        ("prompt.normalize", "true"),
    ],
    "prompt_sg": [
        (*PLAIN, "prompt.mode", "simplified"),
        ("prompt.test_mode", "simplified"),
        ("prompt.inversion", "basic"),
        ("prompt.inversion_dim", "8"),
        ("prompt.interaction_blocks", "2"),
        ("prompt.interaction_dropout", "0.5"),
        ("prompt.triplet_levels", "final"),
        ("prompt.unit_representation", "true"),
        ("loss.balance", "magnitude"),
    ],
}
# keys that a test of their own shows: here, or in test_trainer.py
ELSEWHERE = {
    "note": "test_trainer.py: it is in the recipe and the report",
    "init_from": "test_training.py",
    "device": "test_how_and_not_what",
    "teacher.path": "test_teacher.py",
    "head.sync_neck": "test_processes.py",
    "prompt.sync_inversion": "test_processes.py",
    "threads": "test_threads_last_as_long_as_the_run",
    "deterministic": "test_deterministic_algorithms_last_as_long_as_the_run",
    "data.source": "test_readers_get_their_keys",
    "data.root": "test_readers_get_their_keys",
    "data.camera_pattern": "test_readers_get_their_keys",
    "data.pattern": "test_readers_get_their_keys",
    "data.columns": "test_readers_get_their_keys",
    "data.images": "test_readers_get_their_keys",
    "data.identity": "test_readers_get_their_keys",
    "data.delimiter": "test_readers_get_their_keys",
    "data.encoding": "test_readers_get_their_keys",
    "data.test": "test_own_splits.py",
    "data.since": "test_own_splits.py",
    "data.time_column": "test_own_splits.py",
    "data.unknown": "test_own_splits.py",
    "data.aspect": "test_side_of_the_hand",
    "data.boxes": "test_readers_get_their_keys",
    "data.merge_val": "test_readers_get_their_keys",
    "data.test_identities": "test_readers_get_their_keys",
    "data.held_out": "test_readers_get_their_keys",
    "data.counts": "test_readers_get_their_keys",
    "data.captions": "test_text_to_person.py",
    "data.num_identities": "test_generated_set_gets_its_keys",
    "data.views_per_camera": "test_generated_set_gets_its_keys",
    "data.infrared_cameras": "test_generated_set_gets_its_keys",
    "data.split": "test_readers_get_their_keys",
    "data.frames": "test_generated_set_gets_its_keys",
    "data.queries_in_gallery": "test_readers_get_their_keys",
    "data.looks": "test_domains.py",
    "data.test_domain": "test_domains.py",
    "batch.balance_domains": "test_domains.py",
    "batch.domain_shares": "test_domains.py",
    "data.texts": "test_texts_from_a_file",
    "data.texts_key": "test_texts_from_a_file",
    "data.synonyms": "test_synonyms_from_a_file",
    "data.cache": "test_how_and_not_what",
    "data.workers": "test_how_and_not_what, test_loading_gets_its_keys",
    "data.pin_memory": "test_loading_gets_its_keys",
    "model.pretrained": "test_trainer.py",
    "model.gradient_checkpointing": "test_how_and_not_what",
    "model.channels_last": "test_how_and_not_what",
    "evaluate.batch_size": "test_evaluation_batches_change_rounding_alone",
    "data.image_meta": "test_fashion_layout.py",
    "evaluate.features": "test_evaluate_run.py",
    "evaluate.towers_only": "test_evaluate_run.py",
    "track.console": "test_trainer.py",
    "track.checkpoint_every": "test_resume.py",
    "track.alarms": "test_training.py",
    "data.trial_identities": "test_trial.py",
    "track.tensorboard": "test_trainer.py",
    "track.wandb": "test_trainer.py",
    "track.wandb_entity": "test_trainer.py",
}


def keys(models=RECIPES, prefix=""):
    """Keys of some models and of all variants of their sections."""
    found = []
    for model in models:
        for name, field in model.model_fields.items():
            sections = models_in(field.annotation)
            found += keys(sections, f"{prefix}{name}.") if sections else [f"{prefix}{name}"]
    return list(dict.fromkeys(found))


def outcome(folder, *changes, stage, images):
    """Everything about a run but times: sums of weights, epochs, results and predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    return outcome_of(
        tiny_recipe(folder, "track.console=nothing", *changes, stage=stage, images=images), folder
    )


def outcome_of(recipe, folder):
    """The same of a recipe that was made elsewhere."""
    trainer.run(recipe, folder / "run")
    found: dict[str, typing.Any] = {}
    for path in sorted((folder / "run").rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".safetensors":
            found |= {
                f"{name}/{key}": value.double().abs().sum().item()
                for key, value in load_file(path).items()
            }
        elif path.suffix == ".jsonl":
            found[name] = [json.loads(line) for line in path.read_text().splitlines()]
            for row in found[name]:
                for name_of_time in ("images_per_second", "seconds", "peak_memory_mb"):
                    row.pop(name_of_time, None)
    return found | json.loads((folder / "run" / "results.json").read_text())


@pytest.fixture(scope="module")
def unchanged(images, tmp_path_factory):
    """Outcomes of the runs that others are compared with, made when they are first asked for."""
    made: dict[tuple[str, ...], dict[str, typing.Any]] = {}

    def of(stage, *partners):
        key = (stage, *partners)
        if key not in made:
            folder = tmp_path_factory.mktemp("unchanged")
            made[key] = outcome(folder, *partners, stage=stage, images=images)
        return made[key]

    return of


def test_every_key_is_covered():
    shown = [row[-2] for rows in CHANGES.values() for row in rows]
    assert len(shown) == len(set(shown))
    assert not set(shown) & set(ELSEWHERE)
    covered = set(shown) | set(ELSEWHERE)
    assert covered == set(keys()), "add a key to CHANGES, with another value, or to ELSEWHERE"


def rows_of(stages):
    return [
        pytest.param(stage, row, id=f"{stage}-{row[-2]}")
        for stage in stages
        for row in CHANGES[stage]
    ]


def changes_the_run(tmp_path, unchanged, images, stage, row):
    *partners, key, value = row
    if not any(change.startswith(NEEDS_EPOCHS) for change in row):
        partners = [*ONE_EPOCH, *partners]
    partners = [partner.replace("{images}", str(images)) for partner in partners]
    before = unchanged(stage, *partners)
    after = outcome(tmp_path, *partners, f"{key}={value}", stage=stage, images=images)
    assert after != before


@pytest.mark.parametrize(("stage", "row"), rows_of(["classifier"]))
@pytest.mark.slow  # all of them: a run each
def test_key_changes_the_run(tmp_path, unchanged, images, stage, row):
    changes_the_run(tmp_path, unchanged, images, stage, row)


@pytest.mark.filterwarnings("ignore:tokenize. .* tokens:UserWarning")  # captions that are cut
@pytest.mark.parametrize(
    ("stage", "row"), rows_of([stage for stage in CHANGES if stage != "classifier"])
)
@pytest.mark.slow
def test_key_of_a_stage_changes_the_run(tmp_path, unchanged, images, stage, row):
    changes_the_run(tmp_path, unchanged, images, stage, row)


@pytest.mark.slow
@pytest.mark.parametrize("stage", CHANGES)
def test_a_run_repeats_itself(tmp_path, unchanged, images, stage):
    again = outcome(tmp_path, *ONE_EPOCH, stage=stage, images=images)
    assert again == unchanged(stage, *ONE_EPOCH)


@pytest.mark.slow
def test_how_and_not_what(tmp_path, unchanged, images, monkeypatch):
    common = {"stage": "classifier", "images": images}
    for change in ("data.workers=1", "data.cache=true", "device=cpu"):
        assert outcome(tmp_path / change, change, **common) == unchanged("classifier"), change

    recomputed = []
    monkeypatch.setattr("examples.trainer.losses.set_gradient_checkpointing", recomputed.append)
    near = outcome(tmp_path / "near", "model.gradient_checkpointing=true", **common)
    assert recomputed
    assert near == unchanged("classifier")

    formats = []
    original = torch.nn.Module.to

    def spied(module, *arguments, **options):
        formats.append(options.get("memory_format"))
        return original(module, *arguments, **options)

    monkeypatch.setattr(torch.nn.Module, "to", spied)
    outcome(tmp_path / "last", "model.channels_last=true", **common)
    assert torch.channels_last in formats


@pytest.mark.slow
def test_evaluation_batches_change_rounding_alone(tmp_path, unchanged, images):
    """Products of other sizes round otherwise, and images of nearly one similarity may swap."""
    before = unchanged("classifier")
    after = outcome(tmp_path, "evaluate.batch_size=7", stage="classifier", images=images)

    weights = [name for name in before if ".safetensors/" in name]
    assert weights
    assert [after[name] for name in weights] == [before[name] for name in weights]

    for moment in ("before", "after"):
        swaps = pytest.approx(before[moment]["image_to_image"], abs=0.1)
        assert after[moment]["image_to_image"] == swaps


def test_a_circle_head_gets_its_keys():
    head = CircleHead(kind="circle", scale=64.0, margin=0.4)
    branch = identity_branch(head, ImageLoss(id=1.0))(8, 5, distributed=False)
    assert isinstance(branch.classifier, CircleSoftmaxHead)
    assert (branch.classifier.scale, branch.classifier.margin) == (64.0, 0.4)


def test_deterministic_algorithms_last_as_long_as_the_run(tmp_path, images, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    seen = []
    monkeypatch.setattr(
        trainer,
        "_run_locked",
        lambda *_, **__: seen.append(torch.are_deterministic_algorithms_enabled()),
    )
    for change in ("deterministic=true", "deterministic=false"):
        recipe = tiny_recipe(tmp_path, change, stage="classifier", images=images)
        trainer.run(recipe, tmp_path / change)
        assert not torch.are_deterministic_algorithms_enabled()

    assert seen == [True, False]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_threads_last_as_long_as_the_run(tmp_path, images, monkeypatch):
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(
        trainer, "_run_locked", lambda *_, **__: seen.append(torch.get_num_threads())
    )
    for change in (f"threads={before + 1}", "threads=null"):
        recipe = tiny_recipe(tmp_path, change, stage="classifier", images=images)
        trainer.run(recipe, tmp_path / change)
        assert torch.get_num_threads() == before

    assert seen == [before + 1, before]


def test_loading_gets_its_keys(tmp_path, images):
    changes = ("data.workers=2", "data.pin_memory=true", VIT)
    recipe = tiny_recipe(tmp_path, *changes, stage="classifier", images=images)
    session = session_of(recipe, tmp_path)
    loader = pk_batches(recipe, session, training_images(recipe, session)).loader
    assert (loader.num_workers, loader.pin_memory) == (2, torch.cuda.is_available())


def test_cached_images_need_no_files(tmp_path):
    own = tiny_images(tmp_path / "images")
    for cache in (False, True):
        recipe = tiny_recipe(tmp_path, f"data.cache={str(cache).lower()}", images=own)
        dataset = training_images(recipe, session_of(recipe, tmp_path))
        first = dataset[0]

        name = str(dataset.records[0].path)
        original = next(path for path in own.rglob("*.png") if name.endswith(path.name))
        hidden = original.rename(own / "hidden.png")
        try:
            if cache:
                assert dataset[0].image.equal(first.image)
            else:
                with pytest.raises(ValueError, match="load_image"):
                    dataset[0]
        finally:
            hidden.rename(original)


@pytest.mark.parametrize(
    ("source", "key", "value"),
    [
        ("folder", "camera_pattern", "_c(?P<camera>[0-9]+)"),
        ("folder", "pattern", "{identity}_*.jpg"),
        ("table", "columns", "{identity: name}"),
        ("table", "images", "elsewhere"),
        ("coco", "identity", "category"),
        ("coco", "images", "elsewhere"),
        ("table", "delimiter", "';'"),
        ("table", "encoding", "cp1252"),
        ("omniglot", "held_out", "[Greek]"),
        ("msmt17", "merge_val", "false"),
        ("sysu_mm01", "merge_val", "false"),
        ("regdb", "split", "2"),
        ("mars", "queries_in_gallery", "true"),
        ("mars", "counts", "ignore"),
        ("cuhk03", "boxes", "detected"),
        ("vehicleid", "test_identities", "1600"),
        *(
            (source, "counts", "ignore")
            for source in ("market1501", "msmt17", "cuhk03", "veri776", "vehicleid")
        ),
        *(
            (source, "counts", "raise")
            for source in ("inshop", "hands11k", "polyu_hands", "online_products")
        ),
        *((source, "counts", "raise") for source in ("cuhk_pedes", "icfg_pedes", "rstpreid")),
        *(
            (source, "counts", "raise")
            for source in ("sysu_mm01", "regdb", "llcm", "ag_reid", "cargo")
        ),
        *((source, "root", "elsewhere") for source in ("table", "annotations", "captioned_folder")),
    ],
)
def test_readers_get_their_keys(tmp_path, monkeypatch, source, key, value):
    calls = []
    for name in dir(kit):
        if name.startswith("read_"):
            monkeypatch.setattr(
                kit, name, lambda *a, _name=name, **k: calls.append((_name, a, k)) or []
            )
    for change in ((), (f"data.{key}={value}",)):
        where = (f"data.source={source}", f"data.root={tmp_path}")
        recipe = tiny_recipe(tmp_path, *where, *change, stage="classifier")
        assert read_records(recipe, tmp_path, quiet=True) == []
    assert {name for name, *_ in calls} == {f"read_{source}"}
    assert calls[0] != calls[1]


@pytest.mark.parametrize(
    "key", ["num_identities=30", "views_per_camera=4", "infrared_cameras=1", "frames=2"]
)
def test_generated_set_gets_its_keys(tmp_path, monkeypatch, key):
    made = []

    def generator(*arguments, **options):
        made.append((arguments, options))
        return SimpleNamespace(records=list, write=lambda *_, **__: [])

    monkeypatch.setattr(kit, "SyntheticReid", generator)
    for change in ((), (f"data.{key}",)):
        read_records(tiny_recipe(tmp_path, *change), tmp_path, quiet=True)
    assert made[0] != made[1]


def test_side_of_the_hand(tmp_path, monkeypatch):
    sides = []
    monkeypatch.setattr(kit, "read_hands11k", lambda *_, **__: [])

    class AskedError(Exception):
        pass

    def split(records, *, aspect, **_):
        sides.append(aspect)
        raise AskedError

    monkeypatch.setattr(trainer_records, "split_hands", split)
    hands = (
        "data.source=hands11k",
        "data.root=.",
        "prompt.template=['A {aspect} hand {tokens}.']",
    )
    texts = []
    for change in ((), ("data.aspect=palmar_l",)):
        recipe = tiny_recipe(tmp_path, *hands, *change, stage="clip_reid")
        texts.append(templates_of(recipe.prompt, recipe.data))
        with pytest.raises(AskedError):
            load_records(recipe, tmp_path)
    assert sides == ["dorsal_r", "palmar_l"]
    assert texts[0] != texts[1]


def test_texts_from_a_file(tmp_path, images):
    records = load_records(tiny_recipe(tmp_path, images=images), tmp_path)[0]
    tables = {
        "identity": {r.identity: f"person {r.identity}" for r in records},
        "image": {r.path: f"image {r.path}" for r in records},
    }
    for name, table in tables.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(table))
        recipe = tiny_recipe(
            tmp_path, f"data.texts={path}", f"data.texts_key={name}", images=images
        )
        found = load_records(recipe, tmp_path)[0]
        assert [r.caption for r in found] == [
            table[r.identity if name == "identity" else r.path] for r in found
        ]


@pytest.mark.slow
def test_synonyms_from_a_file(tmp_path, unchanged, images):
    path = tmp_path / "words.json"
    words = {
        word
        for r in load_records(tiny_recipe(tmp_path, images=images), tmp_path)[0]
        for word in r.caption.split()
    }
    path.write_text(json.dumps({word.lower(): ["thing", "matter"] for word in words}))
    found = outcome(tmp_path, VARIED, f"data.synonyms={path}", stage="joint", images=images)
    assert found != unchanged("joint", VARIED)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"red": ["crimson"], "red": ["scarlet"]}', "the word 'red' is written twice"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        (None, "there is no file"),
    ],
)
def test_synonyms_that_cannot_be_read(tmp_path, content, problem):
    path = tmp_path / "words.json"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    with pytest.raises(ValueError, match=rf"data\.synonyms: .*{problem}"):
        _read_synonyms(path)


def test_cameras_and_views_are_asked_for(tmp_path, images):
    for key in ("camera", "view"):
        recipe = tiny_recipe(tmp_path, VIT, f"model.{key}_embedding=true", images=images)
        records = load_records(recipe, tmp_path)[0]
        assert [index.field for index in categories_of(recipe.model, records)] == [key]

        bare = [dataclasses.replace(record, **{key: None}) for record in records]
        with pytest.raises(ValueError, match=f"training images have no {key}"):
            categories_of(recipe.model, bare)
