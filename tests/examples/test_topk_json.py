"""The JSON schema of the top-k pipeline: defaults make a recipe, every key counts or is refused."""

import json
import re

import layouts
import pytest
import torch
from tiny import session_of

from clipreid_kit.data import read_annotations
from examples.settings.recipe import load_recipe
from examples.settings.smoke import smoke
from examples.settings.stages import RetrievalRecipe
from examples.settings.topk_json import SCHEMA, recipe_of_topk_json
from examples.trainer import run as trainer
from examples.trainer.assemble import training_images
from examples.trainer.evaluation import evaluate, scoring_of
from examples.trainer.stages import retrieval

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
    "dataset_config.triplet_positives": (
        "identity",
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
    assert len(KEYS) == 82  # 81 of the pipeline, and the positives of triplets


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
            "training_config.epochs must be a whole number, such as 20, got '3'",
        ),
        (
            {"training_config": {"save_checkpoints": 1}},
            "training_config.save_checkpoints must be true or false, such as ",
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


# The configurations of the pipeline's page, as they are printed there.
PRINTED = {
    "contrastive": """{
  "loss_config": {
    "loss_type": "contrastive",
    "hard_negative_mining": true,
    "temperature": 0.07,
    "margin": 0.5
  }
}""",
    "triplet": """{
  "loss_config": {
    "loss_type": "triplet",
    "margin": 0.5
  }
}""",
    "info_nce": """{
  "loss_config": {
    "loss_type": "info_nce",
    "temperature": 0.07
  }
}""",
    "model": """{
  "model_config": {
    "model_name": "ViT-B/32",        // CLIP model variant
    "freeze_image_encoder": false,   // Whether to freeze image encoder
    "freeze_text_encoder": false,    // Whether to freeze text encoder
    "freeze_projections": false      // Whether to freeze projection layers
  }
}""",
    "training": """{
  "training_config": {
    "epochs": 20,                    // Number of training epochs
    "batch_size": 32,                // Batch size
    "learning_rate": 1e-5,           // Learning rate
    "patience": 5,                   // Early stopping patience
    "eval_every": 1                  // Validation frequency
  }
}""",
    "dataset": """{
  "dataset_config": {
    "dataset_type": "hard_negative", // "standard", "hard_negative", or "triplet"
    "use_augmentation": true,        // Enable data augmentation
    "negative_mining_strategy": "semantic"  // "semantic" or "random"
  }
}""",
    "augmentation": """{
  "augmentation_config": {
    "color_jitter": 0.4,
    "random_horizontal_flip": 0.5,
    "random_rotation": 10,
    "augment_captions": true,
    "max_caption_variations": 3
  }
}""",
    "memory": """{
  "training_config": {
    "batch_size": 16
  },
  "hardware_config": {
    "gradient_accumulation_steps": 2,
    "mixed_precision": true
  }
}""",
}
SAID = {
    "triplet": [("loss.triplet_text", 1.0), ("loss.margin", 0.5), ("loss.hard_negative", 0.0)],
    "info_nce": [("loss.info_nce", 1.0)],
    "dataset": [("mining.data", "hard_negative"), ("mining.negatives", "semantic")],
    "memory": [("batch.num_identities", 16), ("accumulate", 2), ("precision", "bf16")],
}


def printed(folder, name):
    path = folder / f"{name}.json"
    path.write_text(PRINTED[name])
    return path


@pytest.mark.parametrize("name", PRINTED)
def test_the_page_as_printed(tmp_path, name):
    recipe = load_recipe(printed(tmp_path, name))
    usual = loaded({}, tmp_path).model_dump()
    for key, value in SAID.get(name, []):
        section, _, inner = key.rpartition(".")
        found = recipe.model_dump()
        assert (found[section] if section else found)[inner] == value

    if name not in SAID:  # what it prints are the defaults
        assert recipe.model_dump() == {**usual, "note": recipe.note}


def test_comments_are_left_out_and_texts_are_not(tmp_path):
    path = tmp_path / "topk.json"
    paths = {f"{split}_data_path": f"s3://set/{split}" for split in ("train", "val", "test")}
    path.write_text(f'{{"dataset_config": {json.dumps(paths)}}}  // "not": "a key"\n')
    assert load_recipe(path).data.root == "s3:/set"


def test_both_precision_keys(tmp_path):
    for mixed in (False, True):
        for amp in (False, True):
            tree = {
                "hardware_config": {"mixed_precision": mixed},
                "advanced_config": {"use_amp": amp},
            }
            assert loaded(tree, tmp_path).precision == ("bf16" if mixed and amp else "no")


@pytest.mark.parametrize(("has_gpu", "expected"), [(False, "no"), (True, "bf16")])
def test_a_small_run_is_in_16_bits_on_a_gpu_only(tmp_path, monkeypatch, has_gpu, expected):
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    assert smoke(loaded({}, tmp_path)).precision == expected


def test_a_gpu_is_required_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    recipe = loaded({"hardware_config": {"device": "cuda"}}, tmp_path)
    with pytest.raises(
        ValueError, match="device: cuda needs a GPU, and torch finds none; use auto"
    ):
        trainer.run(recipe, tmp_path / "run")


@pytest.mark.parametrize(("installed", "expected"), [(True, ["tensorboard"]), (False, [])])
def test_tensorboard_is_written_where_it_is_installed(tmp_path, monkeypatch, installed, expected):
    monkeypatch.setattr(trainer, "find_spec", lambda _: object() if installed else None)
    track = loaded({"logging_config": {"save_tensorboard": True}}, tmp_path).track
    assert trainer._trackers(track) == expected


def test_data_is_format_a_or_format_b(tmp_path):
    annotated, captioned = layouts.annotations(tmp_path), layouts.captioned_folder(tmp_path)
    path = tmp_path / "topk.json"
    path.write_text('{"dataset_config": {"dataset_type": "triplet"}}')
    found = {}
    for root in (annotated, annotated / "annotations.json", captioned):
        recipe = load_recipe(path, data=str(root))
        assert recipe.data.root == str(root)
        found[root.name] = (recipe.data.source, recipe.mining.positives)

    by_identity = ("annotations", "identity")
    by_caption = ("captioned_folder", "caption")
    assert list(found.values()) == [by_identity, by_identity, by_caption]
    changed = load_recipe(path, ["mining.positives=identity"], data=str(captioned))
    assert changed.mining.positives == "identity"


@pytest.mark.filterwarnings("ignore:mine_triplets. .* copies:UserWarning")
@pytest.mark.parametrize("layout", [layouts.annotations, layouts.captioned_folder])
def test_repeated_images_are_no_positives_of_their_copies(tmp_path, layout):
    """In format B, where an image is an identity, they were the only ones."""
    path = tmp_path / "topk.json"
    path.write_text(
        '{"dataset_config": {"dataset_type": "triplet"}, "logging_config": {"log_level": "ERROR"},'
        ' "data_balancing_config": {"min_samples_per_category": 70}}'
    )
    recipe = smoke(load_recipe(path, data=str(layout(tmp_path))))
    recipe.model.image_size = (32, 32)
    recipe.data.trial_identities = None  # all images of the layout
    session = session_of(recipe, tmp_path)
    dataset = training_images(recipe, session)
    images = dataset.image_numbers
    assert len(set(images.tolist())) == 64 < len(images)

    triplets = retrieval._batches(recipe, session, dataset).mine(1)
    anchor, positive, negative = (images[column] for column in triplets.unbind(1))
    assert len(anchor)
    assert (anchor != positive).all()
    assert (anchor != negative).all()


@pytest.mark.filterwarnings("ignore:mine_triplets. .* copies:UserWarning")
def test_copies_alone_give_no_triplets(tmp_path):
    path = tmp_path / "topk.json"
    path.write_text(
        '{"dataset_config": {"dataset_type": "triplet", "triplet_positives": "identity"},'
        ' "logging_config": {"log_level": "ERROR"},'
        ' "data_balancing_config": {"min_samples_per_category": 70}}'
    )
    recipe = smoke(load_recipe(path, data=str(layouts.captioned_folder(tmp_path))))
    recipe.model.image_size = (32, 32)
    session = session_of(recipe, tmp_path)
    batches = retrieval._batches(recipe, session, training_images(recipe, session))
    with pytest.raises(ValueError, match=r"or change\s+mining.positives"):
        batches.mine(1)


class OneHot:
    """Encodes an image and a caption as the same vector: that of its number in the file name."""

    def encode_images(self, records):
        return self.encode_texts([record.caption for record in records])

    def encode_texts(self, captions):
        return torch.eye(64)[[int(caption.split()[-1]) for caption in captions]]


def test_every_caption_of_an_image_is_a_query(tmp_path):
    """Place 0 has two images, of which the first has two captions; place 1 has one of each."""
    images = {"a.png": (0, [0, 2]), "b.png": (0, [1]), "c.png": (1, [3])}
    entries = [
        {"image_path": name, "id": place, "caption": f"caption {number}"}
        for name, (place, numbers) in images.items()
        for number in numbers
    ]
    (tmp_path / "annotations.json").write_text(json.dumps({"splits": {"test": entries}}))
    records = read_annotations(tmp_path)

    recipe = loaded({}, tmp_path)
    assert recipe.evaluate.captions == "all"
    tests = {"leave_one_out": [(records, None)]}
    found = evaluate(OneHot(), tests, scoring_of(recipe))
    assert [text for _, text in found.captions] == [f"caption {n}" for n in (0, 2, 1, 3)]
    assert found.results["text_to_image"].num_queries == 4

    first = recipe.model_copy(deep=True)
    first.evaluate.captions = "first"
    found = evaluate(OneHot(), tests, scoring_of(first))
    assert found.captions == [(1, "caption 3"), (0, "caption 0")]
