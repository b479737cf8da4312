"""The fashion pipeline's data run as they are, and its commands become the trainer's."""

import json
import shlex
import sys

import layouts
import pytest

from clipreid_kit.data import check_files
from examples.prepare import fashion_command, image_paths
from examples.prepare.one_line_errors import run as run_in_one_line
from examples.settings.recipe import load_recipe
from examples.trainer.records import load_records

# the commands of the pipeline's pages
STAGE_3 = """model/stage3_joint_img_text_finetune/train_clip_joint_encoders{script}.py
  --image_dir data/processed/splits
  --image_meta data/processed/metadata/image_paths.json
  --prompt_json data/processed/metadata/image_prompts_per_identity.json
  --model {model} {batch} --epochs 10 --lr 5e-5
  --loss {loss} --temperature 0.07
  --save_path model/stage3_joint_img_text_finetune/checkpoints/clip_joint
  --log_dir   model/stage3_joint_img_text_finetune/logs
  --val_split val --early_stop_metric val_loss --early_stop_patience 3
"""
V1 = STAGE_3.format(script="_v1", model="ViT-B/16", batch="--batch_size 32", loss="infonce")
V2 = STAGE_3.format(script="_v2", model="RN50", batch="--p 16 --k 2", loss="supcon")
STAGE_2 = """python train_clip_img_encoder_finetune.py
  --image_dir data/processed/splits --metadata_dir data/processed/metadata
  --model ViT-B/16 --epochs 20 --lr 5e-5 --loss triplet+center --save_path checkpoints/
"""
EVALUATE = """python model/stage3_joint_img_text_finetune/eval_clip_joint.py
  --ckpt runs/fashion/stage3_v1_vit --meta_dir data/processed/metadata
  --image_dir data/processed/splits --model_arch ViT-B/16 --store_path logs
"""


def printed(capsys, command):
    fashion_command.main(shlex.split(command))
    output = capsys.readouterr()
    return shlex.split(output.out.replace("\\\n", " ")), output.err


def recipe_of(words):
    """The recipe of a printed command of the trainer."""
    assert words[:3] == ["python", "-m", "examples.trainer"]
    options = list(zip(words[4::2], words[5::2], strict=True))
    changes = [value for name, value in options if name == "--set"]
    return load_recipe(words[3], changes, data=dict(options)["--data"])


def test_a_command_of_version_1(capsys):
    words, remarks = printed(capsys, V1)
    recipe = recipe_of(words)

    assert recipe.stage == "joint"
    assert recipe.model.name == "ViT-B-16-quickgelu"
    assert recipe.loss.weights() == {"info_nce": 1.0}
    assert (recipe.batch.num_identities, recipe.batch.num_instances) == (32, 1)
    assert (recipe.optim.epochs, recipe.optim.lr) == (10, 5e-5)
    assert (recipe.evaluate.metric, recipe.evaluate.patience) == ("loss", 3)
    assert recipe.data.source == "fashion"
    assert recipe.data.root == "data/processed/splits"
    assert recipe.data.texts.endswith("image_prompts_per_identity.json")
    assert (recipe.data.merge_val, recipe.data.validation) == (False, 0.0)
    saved = "model/stage3_joint_img_text_finetune/checkpoints/clip_joint"
    assert f"--out {saved}/stage3_v1_vit" in " ".join(words)
    assert remarks == "remark: --log_dir is left out: the logs are in the run's folder, --out.\n"


def test_a_command_of_version_2_and_its_continuation(capsys):
    recipe = recipe_of(printed(capsys, f"{V2} --resume_ckpt runs/first")[0])
    assert recipe.model.name == "RN50-quickgelu"
    assert recipe.loss.weights() == {"supcon_image": 1.0, "supcon_text": 1.0}
    assert (recipe.batch.num_identities, recipe.batch.num_instances) == (16, 2)
    assert recipe.init_from == "runs/first"

    recipe = recipe_of(printed(capsys, f"{V2} --resume_ckpt clip_joint_BEST.pth")[0])
    assert recipe.init_from is None
    assert recipe.model.pretrained == "clip_joint_BEST.pth"


def test_a_command_of_stage_2_and_of_the_evaluation(capsys):
    recipe = recipe_of(printed(capsys, STAGE_2)[0])
    assert recipe.stage == "image_encoder"
    assert recipe.loss.weights() == {"id": 1.0, "triplet": 1.0, "center": 5e-4}
    assert recipe.data.image_meta == "data/processed/metadata/image_paths.json"

    words, _ = printed(capsys, EVALUATE)
    assert words[:4] == ["python", "-m", "examples.trainer.evaluate", "runs/fashion/stage3_v1_vit"]
    assert words[4:8] == ["--data", "data/processed/splits", "--out", "logs/stage3_v1_vit"]


@pytest.mark.parametrize(
    ("loss", "weights"),
    [
        ("triplet", {"triplet": 1.0}),
        ("crossentropy+triplet", {"id": 1.0, "triplet": 1.0}),
        ("center+triplet", {"id": 1.0, "triplet": 1.0, "center": 5e-4}),
    ],
)
def test_losses_of_stage_2(capsys, loss, weights):
    command = STAGE_2.replace("triplet+center", loss)
    assert recipe_of(printed(capsys, command)[0]).loss.weights() == weights


def test_runs_with_one_save_path_have_a_folder_each(capsys):
    """The versions of the pages share a path, and version 3 also its script with version 2."""
    commands = [V1, V2, f"{V2} --resume_ckpt runs/first", f"{V2} --resume_ckpt a.pth", STAGE_2]
    folders = []
    for command in commands:
        words, _ = printed(capsys, command)
        folders.append(words[words.index("--out") + 1].rpartition("/")[2])

    continued = ["stage3_v3_rn50"] * 2
    assert folders == ["stage3_v1_vit", "stage3_v2_rn50", *continued, "stage2_vit"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "give one of the scripts"),
        ("train.py --lr 1", "give one of the scripts"),
        ("train_clip_joint_encoders.py --lrr 1", "there is no flag --lrr; use "),
        ("train_clip_joint_encoders.py --lr", "--lr has no value"),
        ("train_clip_joint_encoders.py --lr --epochs 3", "--lr has no value"),
        ("train_clip_joint_encoders.py lr", "expected a flag such as --lr, got 'lr'"),
        ("train_clip_joint_encoders.py --model ViT-X", "--model must be ViT-B/16 or RN50"),
        ("train_clip_joint_encoders.py --loss focal", "--loss is made of infonce, supcon"),
        ("train_clip_joint_encoders.py --lr fast", "`optim.lr` must be a number"),
        ("eval_clip_joint.py --model_arch RN50", "--ckpt is missing"),
    ],
)
def test_a_command_that_cannot_be_translated(capsys, monkeypatch, command, words):
    monkeypatch.setattr(sys, "argv", ["fashion_command", *shlex.split(command)])
    assert run_in_one_line(fashion_command.main) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_the_layout_of_the_pipeline_is_read_as_it_is(tmp_path, monkeypatch, capsys):
    """Every image is found below the folder of its split, and the printed command is enough."""
    layouts.fashion(tmp_path)
    monkeypatch.chdir(tmp_path)
    words, _ = printed(capsys, V1)
    recipe = load_recipe(
        f"{fashion_command.RECIPES}/stage3_v1_vit.yaml",
        [words[n + 1] for n, word in enumerate(words) if word == "--set"],
        data="data/processed/splits",
    )
    records, _ = load_records(recipe, tmp_path / "run", quiet=True)

    assert len(records) == 144
    check_files(records)
    assert {record.split for record in records} == {"train", "val", "query", "gallery"}
    assert all(record.caption for record in records if record.split in ("train", "val"))


def test_val_is_trained_on_by_default(tmp_path):
    root = layouts.fashion(tmp_path)
    recipe = load_recipe(
        f"{fashion_command.RECIPES}/stage2_vit.yaml", ["data.source=fashion"], data=str(root)
    )
    assert {record.split for record in recipe.data.read(str(root))} == {
        "train",
        "query",
        "gallery",
    }


@pytest.mark.parametrize("layout", ["splits", "in-shop"])
def test_the_list_of_images_is_written(tmp_path, capsys, layout):
    """As the pipeline has it: from its folders, and from In-shop as it is distributed."""
    if layout == "splits":
        root = layouts.fashion(tmp_path)
        expected = json.loads((root.parent / "metadata" / "image_paths.json").read_text())
    else:
        root = layouts.inshop(tmp_path)
        expected = None

    out = tmp_path / "new" / "image_paths.json"
    image_paths.main(["--images", str(root), "--out", str(out)])
    assert capsys.readouterr().out == "144 images of 24 items\n"

    listed = json.loads(out.read_text())
    assert all(path.startswith("img/WOMEN/Dresses/id_") for path in listed)
    assert {entry["split"] for entry in listed.values()} >= {"train", "query", "gallery"}
    if expected is not None:
        assert listed == expected


def test_no_images_is_an_error_of_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["image_paths", "--images", str(tmp_path), "--out", str(tmp_path / "a.json")]
    )
    assert run_in_one_line(image_paths.main) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: read_inshop: ")
    assert error.count("\n") == 1
