"""Configurations of the three pipelines, translated by one command that recognises each."""

import json
import re
from pathlib import Path

import pytest
import yaml

from examples.prepare.convert_recipe import convert, main
from examples.prepare.hands_yaml import IGNORED, KEYS, SPECIAL, convert_hands
from examples.settings.recipe import load_recipe
from examples.settings.topk_json import parse_topk_json

PAGE = Path(__file__).parents[2] / "docs" / "pipelines" / "hands.md"

# The last state of the pipeline's file for stage 2 and ViT, which is that of v9.
STAGE_2 = {
    "experiment": "stage2_joint",
    "dataset": "11k",
    "aspect": "dorsal_r",
    "model": "vitb16",
    "stage_mode": "prompt_then_image",
    "n_ctx": 12,
    "prompt_template_list": ["A photo of a X X X X hand.", "{} hand image."],
    "freeze_text_encoder": True,
    "epochs_prompt": 30,
    "epochs_image": 30,
    "batch_size": 32,
    "lr_prompt": 1e-4,
    "lr_visual": 1e-5,
    "weight_decay_visual": 5e-4,
    "center_lr": 0.5,
    "center_loss_weight": 3e-4,
    "arcface_scale": 35,
    "arcface_margin": 0.4,
    "loss_use_supcon": True,
    "loss_use_arcface": True,
    "loss_use_triplet": False,
    "loss_use_center": True,
    "loss_use_id": True,
    "unfreeze_blocks": 12,
    "input_size": [224, 224],
    "early_stop_patience": 5,
}
STAGE_3 = {
    "stage": "stage3",
    "model": "rn50",
    "dataset": "hd",
    "classifier": "arcface",
    "bnneck_reduction": True,
    "bnneck_dim": 512,
    "transformer_layers": 2,
    "prompt_template": "A {} {aspect} hand.",
    "lr_clip_visual": 2e-5,
    "lr_modules": 3e-5,
    "loss_id_weight": 0.1,
    "supcon_loss_weight": 0,
    "max_norm": 0.5,
}


def converted(folder, tree, **options):
    """The recipe of a configuration, loaded from where it was written, and the remarks."""
    file = folder / "their.yml"
    file.write_text(yaml.safe_dump(tree))
    out = folder / "ours" / "recipe.yaml"
    out.parent.mkdir(exist_ok=True)
    text, remarks = convert(file, **options)
    out.write_text(text)
    return load_recipe(out), yaml.safe_load(text), remarks


def test_a_file_of_stage_2(tmp_path):
    recipe, tree, remarks = converted(tmp_path, STAGE_2)
    assert tree["base"] == "hands/stage2/v9_vit"
    assert tree["note"] == "Converted from their.yml of the hands pipeline."
    assert (recipe.head.kind, recipe.head.scale, recipe.head.margin) == ("arcface", 35, 0.4)
    assert recipe.loss.weights() == {"id": 1, "center": 3e-4, "supcon": 1}
    assert (recipe.model.image_blocks, recipe.batch.num_identities) == (12, 8)
    assert recipe.prompt.template == ["A photo of a {tokens} hand.", "{tokens} hand image."]
    assert recipe.model.image_size is None
    assert remarks[0] == "no version is named; v9 is taken. --version takes another."


def test_a_file_of_stage_3(tmp_path):
    recipe, tree, remarks = converted(tmp_path, STAGE_3, version="v4")
    assert tree["base"] == "hands/stage3/v4_rn50"
    assert recipe.data.source == "polyu_hands"
    assert recipe.head.reduced_dim == 512
    assert recipe.prompt.interaction_blocks == 1
    assert recipe.prompt.template == ["A {tokens} {aspect} hand."]
    assert (recipe.optim.lr, recipe.optim.head_lr, recipe.optim.clip_norm) == (2e-5, 3e-5, 0.5)
    assert recipe.loss.weights() == {"id": 0.1, "triplet": 1}
    assert remarks == []


@pytest.mark.parametrize(
    ("tree", "base"),
    [
        ({"model": "vitb16", "aspect": "palmar_l"}, "stage1/zero_shot_vit.yaml"),
        ({"model": "rn50", "epochs": 10, "lr": 1e-5}, "stage1/classifier_rn50.yaml"),
        ({"epochs": 10, "classifier": "arcface"}, "stage1/arcface_vit.yaml"),
        ({"epochs": 10, "clip_init": "random"}, "stage1/random_vit.yaml"),
        ({"n_ctx": 12, "experiment": "stage2-v3"}, "stage2/v3_vit.yaml"),
        ({"lr_modules": 1e-5, "variant": "promptsg"}, "stage3/v11_vit.yaml"),
        ({"lr_modules": 1e-5, "variant": "promptsg_v6"}, "stage3/v6_vit.yaml"),
    ],
)
def test_stage_and_version_are_found_out(tree, base):
    found = convert_hands(tree, "their.yml").base
    assert found.as_posix().endswith(base)


def test_what_is_as_in_the_base_is_left_out(tmp_path):
    _, tree, _ = converted(
        tmp_path, {"epochs": 10, "lr": 1e-5, "weight_decay": 1e-4, "model": "vitb16"}
    )
    assert set(tree) <= {"base", "note", "optim"}
    _, tree, _ = converted(tmp_path, {"epochs": 12, "lr": 1e-5, "early_stop_patience": 3})
    assert tree["optim"] == {"epochs": 12}
    assert "evaluate" not in tree


def test_what_has_no_effect_is_a_remark(tmp_path):
    tree = {"n_ctx": 12, "loss_use_arcface": False, "arcface_scale": 20, "output_dir": "logs"}
    recipe, _, remarks = converted(tmp_path, {**tree, "experiment": "v5"})
    assert recipe.head.kind == "linear"
    assert "output_dir is left out: a run's folder is that of --out." in remarks
    assert "without effect in this recipe, and left out: head.scale." in remarks


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        ({"n_ctxx": 1}, r"their\.yml: there is no key 'n_ctxx'\. Did you mean n_ctx\?"),
        ({"model": "vitl14"}, "model must be one of vitb16, .*, got vitl14"),
        ({"dataset": "12k"}, "dataset must be one of 11k, hd, got '12k'"),
        ({"n_ctx": 4, "experiment": "v42"}, "stage 2 has no recipe v42_vit; there are v1_vit"),
        ({"n_ctx": 4, "stage_mode": "prompt_only"}, "prompts alone are not trained here"),
        ({"n_ctx": 4, "lr_visual": "fast"}, r"their\.yml: .*optim\.lr"),
        ({"note": "a", "stage": "joint"}, "this is a recipe of the trainer already"),
        ([1], r"a configuration is a mapping, got \[1\]"),
    ],
)
def test_what_cannot_be_translated_is_explained(tmp_path, tree, problem):
    with pytest.raises(ValueError, match=problem):
        converted(tmp_path, tree)


def test_every_key_of_the_page_is_known():
    section = PAGE.read_text().partition("\n## Keys\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    keys = [key for row in rows for key in re.findall(r"`([a-z_]+)`", row.split("|")[1])]
    assert len(keys) > 60
    assert set(keys) - {*KEYS, *IGNORED, *SPECIAL} == set()


def test_a_json_file_gives_all_its_values(tmp_path):
    file = tmp_path / "fine_tune_config.json"
    file.write_text('{"training_config": {\n\t"learning_rate": 1e-5, // the rate\n\t"epochs": 7}}')
    text, remarks = convert(file)
    (tmp_path / "recipe.yaml").write_text(text)
    assert load_recipe(tmp_path / "recipe.yaml").model_dump(exclude={"note"}) == load_recipe(
        file
    ).model_dump(exclude={"note"})
    assert remarks == []


def test_command_lines_of_a_script(tmp_path, capsys):
    script = tmp_path / "train.sh"
    script.write_text(
        "# their commands\nset -e\npython model/stage2/train_clip_img_encoder_finetune.py \\\n"
        "  --model RN50 --epochs 3 --log_dir logs\n"
        "python evaluate_clip_zeroshot.py --model ViT-B/16\n"
    )
    main([str(script)])
    said = capsys.readouterr()
    assert "examples/recipes/fashion/stage2_rn50.yaml" in said.out
    assert "--set optim.epochs=3" in said.out
    assert "examples/recipes/fashion/stage1_vit.yaml" in said.out
    assert said.err == "remark: --log_dir is left out: the logs are in the run's folder, --out.\n"


def test_a_command_line_in_place_of_a_file(capsys):
    main(["python", "evaluate_clip_zeroshot.py", "--model", "RN50"])
    assert "fashion/stage1_rn50.yaml" in capsys.readouterr().out


def test_out_and_remarks(tmp_path, capsys):
    (tmp_path / "a.yml").write_text("model: rn50\noutput_dir: logs\n")
    main([str(tmp_path / "a.yml"), "--out", str(tmp_path / "b.yaml")])
    assert load_recipe(tmp_path / "b.yaml").model.name == "RN50-quickgelu"
    said = capsys.readouterr()
    assert said.out == ""
    assert "remark: output_dir is left out" in said.err


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.txt", "hello\n", r"a\.txt: this is no YAML .* and holds no command line"),
        (
            "a.json",
            '{"a": NaN}',
            r"a\.json: the text is not valid JSON: NaN is no number of JSON\.",
        ),
        ("a.json", '{"a": 1, "a": 2}', "the key 'a' is written twice"),
        ("a.yml", "a: [", "not valid YAML"),
    ],
)
def test_other_files_are_explained(tmp_path, name, content, problem):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=problem):
        convert(tmp_path / name)
    with pytest.raises(ValueError, match="there is no file"):
        convert(tmp_path / "none.yml")


def test_json_is_read_as_json():
    """YAML would refuse the tab, and take 1e-5 for a text."""
    text = '{"a": {\n\t"b": 1e-5}} // why'
    assert parse_topk_json(text, "a.json") == {"a": {"b": 1e-5}} == json.loads(text[:-7])
