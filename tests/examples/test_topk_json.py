"""The JSON schema of the top-k pipeline: defaults make a recipe, every key counts or is refused."""

import json
import re

import pytest

from examples.settings.recipe import load_recipe
from examples.settings.stages import RetrievalRecipe
from examples.settings.topk_json import SCHEMA, recipe_of_topk_json

# Another value for every key, with the keys that it needs to count; alone it is refused.
FLIPS = {
    "model_config.model_name": ("ViT-L/14@336px", {}),
    "model_config.freeze_image_encoder": (True, {}),
    "model_config.freeze_text_encoder": (True, {}),
    "model_config.freeze_projections": (True, {}),
    "training_config.epochs": (3, {}),
    "training_config.batch_size": (8, {}),
    "training_config.learning_rate": (2e-5, {}),
    "training_config.min_lr": (0, {}),
    "training_config.weight_decay": (0.1, {}),
    "training_config.gradient_clip_norm": (2.0, {}),
    "training_config.warmup_epochs": (0.5, {}),
    "training_config.patience": (2, {}),
    "training_config.eval_every": (2, {}),
    "optimizer_config.optimizer": ("adam", {}),
    "optimizer_config.separate_parameter_groups": (False, {}),
    "optimizer_config.image_encoder_lr": (1e-6, {}),
    "optimizer_config.text_encoder_lr": (1e-6, {}),
    "optimizer_config.projection_lr": (1e-6, {}),
    "optimizer_config.momentum": (0.5, {"optimizer_config": {"optimizer": "sgd"}}),
    "optimizer_config.beta1": (0.8, {}),
    "optimizer_config.beta2": (0.99, {}),
    "scheduler_config.scheduler": ("exponential", {}),
    "scheduler_config.warm_restarts": (False, {}),
    "scheduler_config.restart_epoch": (5, {}),
    "scheduler_config.step_size": (5, {"scheduler_config": {"scheduler": "step"}}),
    "scheduler_config.gamma": (0.5, {"scheduler_config": {"scheduler": "step"}}),
    "scheduler_config.decay_rate": (0.5, {"scheduler_config": {"scheduler": "exponential"}}),
    "loss_config.loss_type": ("info_nce", {}),
    "loss_config.temperature": (0.1, {}),
    "loss_config.margin": (0.2, {}),
    "loss_config.hard_negative_mining": (False, {}),
    "loss_config.num_hard_negatives": (1, {}),
    "loss_config.label_smoothing": (0.1, {"loss_config": {"loss_type": "info_nce"}}),
    "loss_config.focal_alpha": (0.5, {"loss_config": {"loss_type": "focal"}}),
    "loss_config.focal_gamma": (1.0, {"loss_config": {"loss_type": "focal"}}),
    "dataset_config.dataset_type": ("triplet", {}),
    "dataset_config.max_length": (32, {}),
    "dataset_config.use_augmentation": (False, {}),
    "dataset_config.negative_mining_strategy": (
        "random",
        {"dataset_config": {"dataset_type": "hard_negative"}},
    ),
    "dataset_config.triplet_strategy": (
        "semi_hard",
        {"dataset_config": {"dataset_type": "triplet"}},
    ),
    "augmentation_config.color_jitter": (0.1, {}),
    "augmentation_config.random_horizontal_flip": (0.0, {}),
    "augmentation_config.random_rotation": (0, {}),
    "augmentation_config.random_crop": (1.0, {}),
    "augmentation_config.random_erasing": (0.0, {}),
    "augmentation_config.augment_captions": (False, {}),
    "augmentation_config.max_caption_variations": (5, {}),
    "augmentation_config.synonym_replacement": (False, {}),
    "augmentation_config.paraphrasing": (False, {}),
    "evaluation_config.metrics": (["recall@1", "recall@30"], {}),
    "evaluation_config.k_values": ([1, 2], {}),
    "evaluation_config.save_predictions": (False, {}),
    "logging_config.log_level": ("ERROR", {}),
    "logging_config.save_tensorboard": (False, {}),
    "logging_config.save_wandb": (True, {}),
    "logging_config.wandb_project": ("hands", {"logging_config": {"save_wandb": True}}),
    "logging_config.wandb_entity": ("us", {"logging_config": {"save_wandb": True}}),
    "hardware_config.device": ("cpu", {}),
    "hardware_config.num_workers": (0, {}),
    "hardware_config.pin_memory": (False, {}),
    "hardware_config.mixed_precision": (False, {}),
    "hardware_config.gradient_accumulation_steps": (4, {}),
    "data_balancing_config.balance_strategy": ("length", {}),
    "data_balancing_config.max_samples_per_category": (
        50,
        {"data_balancing_config": {"undersample_majority": True}},
    ),
    "data_balancing_config.min_samples_per_category": (50, {}),
    "data_balancing_config.oversample_minority": (False, {}),
    "data_balancing_config.undersample_majority": (True, {}),
    "advanced_config.use_ema": (True, {}),
    "advanced_config.ema_decay": (0.9, {"advanced_config": {"use_ema": True}}),
    "advanced_config.use_amp": (False, {}),
    "advanced_config.gradient_checkpointing": (True, {}),
}
REFUSED = {
    "training_config.save_checkpoints": False,
    "training_config.checkpoint_dir": "elsewhere",
    "training_config.resume_from_checkpoint": "checkpoints/checkpoint_epoch_5.pt",
    "evaluation_config.prediction_dir": "elsewhere",
    "logging_config.log_dir": "elsewhere",
    "advanced_config.use_ddp": True,
    "advanced_config.find_unused_parameters": True,
}
PATHS = {
    "dataset_config.train_data_path",
    "dataset_config.val_data_path",
    "dataset_config.test_data_path",
}
KEYS = {f"{section}.{key}" for section, keys in SCHEMA["defaults"].items() for key in keys}


def loaded(tree, folder):
    """The recipe that the trainer would run: the tree through the strict loader."""
    path = folder / "tree.yaml"
    path.write_text(json.dumps(recipe_of_topk_json(tree, "topk.json")))
    return load_recipe(path)


def changed(name, value, partners):
    tree = {section: dict(keys) for section, keys in partners.items()}
    section, key = name.split(".")
    tree.setdefault(section, {})[key] = value
    return tree


def test_every_key_of_the_schema_is_covered():
    assert set(FLIPS) | set(REFUSED) | PATHS == KEYS
    assert len(KEYS) == 81


def test_the_defaults_make_a_recipe(tmp_path):
    recipe = loaded({}, tmp_path)
    assert isinstance(recipe, RetrievalRecipe)
    assert recipe == loaded(SCHEMA["defaults"], tmp_path)
    assert (recipe.stage, recipe.model.name, recipe.model.pretrained) == (
        "retrieval",
        "ViT-B-32-quickgelu",
        "openai",
    )
    assert (recipe.data.source, recipe.data.root) == ("captioned_folder", "data")
    assert (recipe.loss.hard_negative, recipe.loss.info_nce, recipe.loss.num_hard) == (1.0, 0.0, 3)
    assert (recipe.optim.lr, recipe.optim.text_lr, recipe.optim.projection_lr) == (5e-6, 5e-6, 2e-5)
    assert (recipe.optim.schedule, recipe.optim.step_epochs, recipe.optim.clip_norm) == (
        "restarts",
        10,
        1.0,
    )
    assert recipe.evaluate.k_values == [1, 5, 10, 20]


@pytest.mark.parametrize("name", FLIPS)
def test_every_key_changes_the_recipe(tmp_path, name):
    value, partners = FLIPS[name]
    without, recipe = loaded(partners, tmp_path), loaded(changed(name, value, partners), tmp_path)
    assert recipe != without


@pytest.mark.parametrize("name", [name for name, (_, partners) in FLIPS.items() if partners])
def test_a_key_that_would_change_nothing_is_refused(name):
    with pytest.raises(
        ValueError, match=rf"^topk.json: {re.escape(name)} must stay .*no other key here"
    ):
        recipe_of_topk_json(changed(name, FLIPS[name][0], {}), "topk.json")


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_trainer_does_not_do_is_refused_with_the_reason(name):
    reason = SCHEMA["refused"][name.split(".")[1]]
    with pytest.raises(ValueError, match=rf"{re.escape(name)} must stay .*: {re.escape(reason)}"):
        recipe_of_topk_json(changed(name, REFUSED[name], {}), "topk.json")
    assert set(SCHEMA["refused"]) == {key.split(".")[1] for key in REFUSED}


def test_the_rate_falls_to_the_same_share_in_every_group(tmp_path):
    together = {"optimizer_config": {"separate_parameter_groups": False}}
    for tree in ({}, together):
        optim = loaded(tree, tmp_path).optim
        assert optim.min_lr / optim.lr == pytest.approx(1e-7 / 1e-5)
    assert loaded(together, tmp_path).optim.lr == 1e-5
    assert loaded(together, tmp_path).optim.text_lr is None


def test_one_annotation_file_or_three_folders(tmp_path):
    paths = dict.fromkeys(
        ("train_data_path", "val_data_path", "test_data_path"), "sets/annotations.json"
    )
    data = loaded({"dataset_config": paths}, tmp_path).data
    assert (data.source, data.root) == ("annotations", "sets/annotations.json")
    paths = {f"{split}_data_path": f"sets/{split}" for split in ("train", "val", "test")}
    assert loaded({"dataset_config": paths}, tmp_path).data.root == "sets"
    with pytest.raises(ValueError, match="folders train, val and test of one folder"):
        recipe_of_topk_json({"dataset_config": {"val_data_path": "elsewhere/val"}}, "topk.json")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"loss_config": {"temprature": 0.1}},
            r"'loss_config.temprature'. Did you mean loss_config.temperature\?",
        ),
        ({"los_config": {}, "epochs": 3}, r"'epochs'. Did you mean training_config.epochs"),
        (
            {"training_config": {"epochs": "3"}},
            "training_config.epochs must be int, such as 20, got '3'",
        ),
        (
            {"training_config": {"save_checkpoints": 1}},
            "training_config.save_checkpoints must be bool",
        ),
        (
            {"loss_config": {"loss_type": "circle"}},
            "one of contrastive, triplet, info_nce, focal, got 'circle'",
        ),
        ({"model_config": {"model_name": "ViT-B-32"}}, "RN50x64, ViT-B/32, ViT-B/16"),
        (
            {"scheduler_config": {"scheduler": "multistep"}},
            "one of cosine, step, exponential, constant",
        ),
        ({"evaluation_config": {"metrics": ["ndcg"]}}, "with mAP or recall@1 among them"),
        (
            {"evaluation_config": {"metrics": ["mAP", "recall@0"]}},
            "metrics must be mAP, ndcg and recall@<k>",
        ),
        ({"hardware_config": {"device": "cuda:1"}}, "one of auto, cpu"),
    ],
)
def test_mistakes_are_named(tree, message):
    with pytest.raises(ValueError, match=message):
        recipe_of_topk_json(tree, "topk.json")


def test_numbers_of_another_kind_are_left_to_the_loader(tmp_path):
    with pytest.raises(ValueError, match=r"`optim\.epochs` must be a whole number"):
        loaded({"training_config": {"epochs": 2.5}}, tmp_path)


def test_the_recipes_are_the_defaults_but_for_what_is_said(tmp_path):
    paths = dict.fromkeys(
        ("train_data_path", "val_data_path", "test_data_path"), "annotations.json"
    )
    recipe = loaded({"dataset_config": paths}, tmp_path)
    written = load_recipe("examples/recipes/retrieval/contrastive.yaml")
    assert recipe.optim.text_lr == recipe.optim.lr  # said once there
    recipe.optim.text_lr = None
    for section in ("loss", "optim", "batch", "model", "mining", "evaluate"):
        assert getattr(written, section) == getattr(recipe, section)
    assert written.augment.horizontal_flip == 0.0  # captions tell left from right
    written.augment.horizontal_flip = 0.5
    assert written.augment == recipe.augment


def test_the_metrics_choose_the_epoch_and_the_cuts(tmp_path):
    for metrics, chosen, cuts in (
        (["mAP"], "mean_ap", [1, 5, 10, 20]),
        (["recall@1", "mAP"], "mean_ap", [1, 5, 10, 20]),
        (["recall@1", "recall@3", "ndcg"], "rank_1", [1, 3, 5, 10, 20]),
    ):
        evaluate = loaded({"evaluation_config": {"metrics": metrics}}, tmp_path).evaluate
        assert (evaluate.metric, evaluate.k_values, evaluate.predictions) == (chosen, cuts, 20)
