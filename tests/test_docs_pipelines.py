"""The pages of the pipelines: every flag, key, version and figure of their authors, beside ours."""

import re
from pathlib import Path

import pytest

from examples.settings.stages import RECIPES
from examples.settings.topk_json import SCHEMA
from examples.settings.variants import models_in

ROOT = Path(__file__).parents[1]
FILES = ROOT / "examples" / "recipes"
PAGES = {path.stem: path for path in sorted((ROOT / "docs" / "pipelines").glob("*.md"))}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}

FLAGS = (
    "--image_dir --image_meta --metadata --metadata_dir --meta_dir --prompt_json --model "
    "--model_arch --batch_size --epochs --lr --loss --temperature --p --k --resume_ckpt "
    "--save_path --log_dir --val_split --early_stop_metric --early_stop_patience --ckpt "
    "--store_path"
)
HANDS_KEYS = """
experiment dataset aspect model variant stage batch_size num_workers num_splits use_flip model_path
output_dir freeze_text epochs lr loss early_stop_patience resume_from classifier clip_init n_ctx
ctx_init prompt_template prompt_template_list freeze_prompt freeze_text_encoder stage_mode
epochs_prompt epochs_image lr_prompt lr_visual lr_text weight_decay_prompt weight_decay_visual
weight_decay_text center_lr center_loss_weight use_arcface arcface_scale arcface_margin loss_list
loss_use_supcon loss_use_arcface loss_use_triplet loss_use_center loss_use_id unfreeze_blocks
input_size clip_model pretrained pseudo_token_dim pseudo_token_init cross_attention_layers
attention_heads use_composed_prompt simplified_prompt save_frequency log_frequency
resume_from_checkpoint shuffle pin_memory transformer_layers bnneck_reduction bnneck_dim val_type
lr_clip_visual lr_modules weight_decay loss_id_weight loss_tri_weight supcon_loss_weight
supcon_temperature warmup_epochs save_dir log_dir
"""
SECTIONS = "data|model|augment|batch|head|loss|optim|prompt|mining|evaluate|track"
SCHEMA_KEYS = [key for section in SCHEMA["defaults"].values() for key in section]
# Rank-1 and mAP of stage 3 in percent, as the report prints them: ViT-B/16, RN50
REPORTED = {
    "v1": ("62.38 / 71.57", "64.07 / 71.44"),
    "v2": ("36.45 / 47.64", "56.18 / 66.17"),
    "v3": ("26.35 / 38.68", "68.99 / 76.28"),
    "v4": ("42.25 / 54.32", "42.25 / 54.32"),
    "v5": ("41.45 / 52.09", "45.70 / 55.54"),
    "v6": ("80.83 / 86.63", "50.08 / 60.29"),
    "v8": ("85.86 / 89.99", "61.23 / 69.75"),
    "v9": ("84.90 / 89.79", "52.86 / 62.88"),
    "v10": ("84.87 / 89.35", "63.00 / 71.13"),
    "v11": ("81.59 / 86.93", "58.25 / 67.29"),
}


def first_cells(text):
    """Names in code in the first cells of the tables: what is theirs."""
    cells = [row.split("|")[1] for row in re.findall(r"^\|.*\|$", text, re.MULTILINE)]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def keys_of_recipes():
    """All dotted keys of recipes."""
    for recipe in RECIPES:
        for name, field in recipe.model_fields.items():
            sections = models_in(field.annotation)
            yield from (f"{name}.{key}" for section in sections for key in section.model_fields)


def test_each_pipeline_has_a_page_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert set(PAGES) == {"fashion", "hands", "retrieval"}
    for name in PAGES:
        assert f"pipelines/{name}.md\n" in navigation
        assert f"(../deviations.md#{name})" in TEXTS[name]


@pytest.mark.parametrize("name", PAGES)
def test_tables_fit_a_phone(name):
    rows = re.findall(r"^\|.*\|$", TEXTS[name], re.MULTILINE)
    assert len(rows) > 20
    for row in rows:
        assert row.count("|") - row.count(r"\|") <= 4, row


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("fashion", FLAGS.split()),
        ("hands", HANDS_KEYS.split()),
        ("retrieval", [*SCHEMA_KEYS, "--config", "--data_dir", "--output_dir"]),
    ],
)
def test_every_flag_and_key_of_theirs_is_beside_ours(name, theirs):
    words = {cell.split()[0] for cell in first_cells(TEXTS[name])}
    assert not [key for key in theirs if key not in words]


@pytest.mark.parametrize("name", PAGES)
def test_our_keys_exist(name):
    named = re.findall(rf"`((?:{SECTIONS})\.[a-z0-9_]+)", TEXTS[name])
    assert len(named) > 10
    assert not set(named) - set(keys_of_recipes())


@pytest.mark.parametrize("name", PAGES)
def test_recipes_of_the_commands_exist(name):
    named = set(re.findall(r"clipreid train (\S+)", TEXTS[name])) - {"fine_tune_config.json"}
    assert named
    for recipe in named:
        assert (FILES / f"{recipe}.yaml").is_file(), recipe


def test_the_commands_need_no_checkout():
    for page in [*(ROOT / "docs/pipelines").glob("*.md"), *(ROOT / "docs/recipes").glob("*.md")]:
        if page.stem != "quickstart":
            assert "python -m examples.trainer" not in page.read_text(encoding="utf-8"), page


def test_every_version_is_on_its_page():
    for path in (FILES / "fashion").glob("*_vit.yaml"):
        assert f"`{path.stem}`" in TEXTS["fashion"]
    for path in (FILES / "retrieval").glob("*.yaml"):
        assert f"`{path.stem}`" in TEXTS["retrieval"]
    for stage in (2, 3):
        versions = {path.stem.split("_")[0] for path in (FILES / f"hands/stage{stage}").iterdir()}
        part = TEXTS["hands"].partition(f"## Versions of stage {stage}")[2].partition("\n## ")[0]
        assert versions == set(re.findall(r"^\| (v\d+) ", part, re.MULTILINE))


def test_figures_are_those_of_the_authors():
    figures = TEXTS["hands"].partition("## Figures")[2]
    for version, (vit, rn50) in REPORTED.items():
        assert f"| {version} | {vit} | {rn50} |" in figures

    for text in TEXTS.values():
        assert "eported by its authors" in text.partition("## Figures")[2]
