"""What a user mistypes: each is answered by one line that says what was expected, never by a traceback."""

import pytest
from tiny import tiny_images, tiny_recipe

from examples.trainer.__main__ import main


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return tiny_images(tmp_path_factory.mktemp("images"))


def answer(capsys, *arguments):
    code = main(list(map(str, arguments)))
    text = capsys.readouterr().err
    assert code == 2
    assert text.startswith("error: ")
    assert text.count("\n") == 1, text
    return text


MISTAKES = {
    "optim.epoch=3": r"Did you mean optim.epochs\?",
    "optim=3": "expected optim as Optim, got 3",
    "=3": "expected a known key, got ''",
    "epochs": "expected section.key=value, got 'epochs'",
    "optim.lr=1,5": "expected optim.lr as float, got '1,5'",
    "optim.lr=-1": "expected optim.lr to be a number above 0, got -1",
    "optim.lr=nan": "expected optim.lr as float, got 'nan'",
    "optim.epochs=1e3": "expected optim.epochs as int, got '1e3'",
    "optim.epochs=0": "expected optim.epochs to be a number at least 1, got 0",
    "optim.milestones=10": "expected optim.milestones as list",
    "stage=clipreid": "expected stage to be one of",
    "stage.name=joint": "expected stage to be one of",
    "stage=clip_reid": "loss",
    "seed=123456789012345678901234567890": "expected seed to be a number at least 0 and below",
    "seed=-1": "expected seed to be a number at least 0",
    "note=": "expected note as str, got None",
    "model.image_size=256x128": "expected model.image_size as",
    "model.image_size=[64]": "expected model.image_size as",
    "model.image_size=[0, 32]": "to be a number at least 1, got 0",
    "model.image_blocks=most": "expected model.image_blocks to be one of all, none, got 'most'",
    "model.image_blocks=99": "blocks",
    "model.name=ViT-B-61": "ViT-B-16",
    "model.name=": "expected model.name as str, got None",
    "model.pretrained=nowhere.safetensors": "nowhere",
    "model.patch_stride=6": "patch",
    "model.camera_embedding=true": "ResNet|ViT|camera",
    "data.source=imagenet": "expected data.source to be one of",
    "data.source=market1501": "Give --data PATH|expected data.source: synthetic for data.num_identities",
    "data.check=true": "expected data.check to be one of",
    "data.texts=nowhere.json": "nowhere.json",
    "data.caption=figure {identty}": "identty",
    "data.caption=figure {": "caption|template|brace",
    "data.camera_pattern=(": "data.source: folder",
    "data.synonyms=nowhere.json": "caption_variations",
    "batch.num_identities=1000": "num_identities|identities",
    "batch.num_instances=1": "no positive",
    "loss.supcon_image=0": "",
    "loss.id=one": "expected loss.id as float, got 'one'",
    "loss.image_to_text=1": "got image_to_text",
    "loss.info_nce=1": "expected batch.num_instances: 1",
    "optim.warmup_epochs=20": "expected optim.warmup_epochs below optim.epochs",
    "optim.min_lr=1": "optim.min_lr at most every rate",
    "evaluate.k_values=[]": "expected evaluate.k_values with at least one",
    "evaluate.k_values=[0]": "to be a number at least 1",
    "evaluate.protocols=[distractors]": "evaluate.protocols: expected splits for distractors",
    "evaluate.protocols=[query]": "to be one of",
    "evaluate.patience=0": "to be a number at least 1, got 0",
    "evaluate.task=image_to_text": "stage: retrieval for evaluate.task",
    "track.tensorboard=maybe": "expected track.tensorboard as bool",
    "track.wandb_entity=me": "expected track.wandb",
    "init_from=nowhere": "expected a training run or a checkpoint with model.safetensors",
    "precision=fp16": "precision: expected a GPU for fp16",
    "precision=half": "expected precision to be one of no, bf16, fp16",
    "data.held_out=[A": "expected YAML",
}


@pytest.mark.parametrize("change", [change for change, words in MISTAKES.items() if words])
def test_a_mistyped_change(tmp_path, capsys, images, change):
    tiny_recipe(tmp_path)
    key = change.partition("=")[0]
    where = ["--data", images / "records.csv", "--set", "data.source=table"]
    where += ["--set", "data.num_identities=240", "--set", "data.views_per_camera=3"]
    if key in ("data.source", "data.boxes"):
        where = []
    text = answer(
        capsys, tmp_path / "tiny.yaml", "--out", tmp_path / "run", *where, "--set", change
    )
    import re

    assert re.search(MISTAKES[change], text), text


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.yaml", "", "expected a mapping of keys, got NoneType"),
        ("a.yaml", "note a\nstage joint\n", "expected a mapping of keys, got str"),
        ("a.yaml", "note: a\n\tstage: joint\n", "does not parse"),
        (
            "a.yaml",
            "note: a\nstage: joint\nbase: [tiny.yaml]\n",
            "expected a recipe file, got none",
        ),
        ("a.yaml", "note: a\nbase: .\n", "expected a recipe file, got none"),
        ("a.yaml", "note: a\n<<: {stage: joint}\n", "does not parse"),
        ("a.yaml", "note: a\n1: 2\n", "expected a known key, got '1'"),
        ("a.yaml", "note: a\n? [a, b]\n: c\n", "expected"),
        ("a.yaml", "note: 2026-01-01\nstage: joint\n", "expected note as str"),
        ("a.yaml", "note: a\nbase: tiny.yaml\nstage: prompt_sg\n", "expected"),
        ("a.yaml", "note: a\nbase: tiny.yaml\ndata: null\n", "expected data as Data, got None"),
        ("a.yaml", "!!python/object/apply:os.getcwd []\n", "does not parse"),
        ("a.json", "{", "does not parse"),
        ("a.json", "[]", "expected a mapping"),
        ("a.json", '{"training_config": {"epochs": 3}}', "expected"),
        ("a.yaml", "note: a\nx: &x [*x]\n", "expected"),
    ],
)
def test_a_recipe_that_is_none(tmp_path, capsys, name, content, words):
    tiny_recipe(tmp_path)
    (tmp_path / name).write_text(content)
    assert words in answer(capsys, tmp_path / name, "--out", tmp_path / "run")


def test_odd_paths(tmp_path, capsys, images):
    tiny_recipe(tmp_path)
    recipe = tmp_path / "tiny.yaml"
    assert "tiny.yaml" in answer(capsys, tmp_path / "tinny.yaml", "--out", tmp_path / "run")
    answer(capsys, tmp_path, "--out", tmp_path / "run")
    answer(capsys, "\0", "--out", tmp_path / "run")
    assert "data.source" in answer(
        capsys, recipe, "--out", tmp_path / "run", "--data", images
    )  # of a generated set
    table = [
        "--set",
        "data.source=table",
        "--set",
        "data.num_identities=240",
        "--set",
        "data.views_per_camera=3",
    ]
    answer(capsys, recipe, "--out", tmp_path / "run", *table, "--data", tmp_path / "nowhere.csv")
    answer(capsys, recipe, "--out", tmp_path / "run", *table, "--data", recipe)
    answer(capsys, recipe, "--out", tmp_path / "run", *table, "--data", "")
    folder = [*table, "--set", "data.source=folder"]
    answer(capsys, recipe, "--out", tmp_path / "run", *folder, "--data", images / "records.csv")
    assert "--resume" in answer(capsys, recipe, "--resume")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").touch()
    assert "expected a new or empty folder" in answer(capsys, recipe, "--out", tmp_path / "thesis")
    (tmp_path / "file").touch()
    answer(capsys, recipe, "--out", tmp_path / "file")
    answer(
        capsys,
        recipe,
        "--out",
        tmp_path / "run",
        "--resume",
        "--set",
        "init_from=.",
        "--data",
        images,
        *folder,
    )


def test_the_command_line_itself(capsys):
    for arguments in ([], ["--outt", "x"], ["a.yaml", "--set"], ["a.yaml", "b.yaml"]):
        with pytest.raises(SystemExit) as found:
            main(arguments)
        assert found.value.code == 2
        assert "usage: python -m examples.trainer" in capsys.readouterr().err
