"""What a user mistypes: each is answered by one line that says what to do, never by a traceback."""

import re

import pytest
from tiny import write_recipe

from examples.trainer.__main__ import main


def answer(capsys, *arguments):
    code = main(list(map(str, arguments)))
    text = capsys.readouterr().err
    assert code == 2
    assert text.startswith("error: ")
    assert text.count("\n") == 1, text
    return text


MISTAKES = {
    "optim.epoch=3": r"Did you mean `optim.epochs`\?",
    "optim=3": "`optim` must be a section of keys, got 3",
    "=3": "there is no key ``",
    "epochs": "write section.key=value, got 'epochs'",
    "optim.lr=1,5": "`optim.lr` must be a number, got '1,5'",
    "optim.lr=-1": "`optim.lr` must be above 0, got -1",
    "optim.lr=nan": "`optim.lr` must be a number, got 'nan'",
    "optim.lr=.nan": "`optim.lr` must be a finite number, got nan",
    "optim.epochs=1e3": "`optim.epochs` must be a whole number, got 1000.0",
    "optim.epochs=0": "`optim.epochs` must be above 0, got 0",
    "optim.milestones=10": "`optim.milestones` belongs to `optim.schedule: multistep`",
    "optim.schedule=linear": "`optim.schedule` must be one of cosine, constant",
    "stage=clipreid": "`stage` must be one of",
    "stage.name=joint": "`stage` must be one of",
    "stage=clip_reid": "`loss` needs a term",
    "seed=123456789012345678901234567890": "`seed` must be below 4.29497e\\+09",
    "seed=-1": "`seed` must be at least 0",
    "note=": "`note` must be text, got null",
    "model.image_size=256x128": "`model.image_size` must be a list, got '256x128'",
    "model.image_size=[64]": "the list `model.image_size` is too short",
    "model.image_size=[0, 32]": r"`model.image_size\[0\]` must be above 0, got 0",
    "model.image_blocks=most": "`model.image_blocks` must be a whole number, or one of all or none",
    "model.image_blocks=99": "blocks",
    "model.name=ViT-B-61": "ViT-B-16",
    "model.name=": "`model.name` must be text, got null",
    "model.pretrained=nowhere.safetensors": "nowhere",
    "model.patch_stride=6": "patch",
    "model.camera_embedding=true": "ResNet|ViT|camera",
    "data.source=imagenet": "`data.source` must be one of",
    "data.source=market1501": "Add --data PATH",
    "data.boxes=detected": "`data.boxes` belongs to `data.source: cuhk03`",
    "data.workers=100000": "`data.workers` must be at most 256, got 100000",
    "seed=010": "010 is an octal number",
    "data.check=true": "`data.check` must be one of",
    "data.texts=nowhere.json": "nowhere.json",
    "data.caption=figure {identty}": "identty",
    "data.caption=figure {": "caption|template|brace",
    "data.camera_pattern=(": "`data.source: folder`",
    "data.synonyms=nowhere.json": "caption_variations",
    "batch.num_identities=1000": "num_identities|identities",
    "batch.num_instances=1": "no positive",
    "batch.num_identities=1": "a batch of one identity has no negatives for loss.supcon_image",
    "loss.id=one": "`loss.id` must be a number, got 'one'",
    "loss.image_to_text=1": "`loss.image_to_text` belongs to `stage: clip_reid`",
    "loss.info_nce=1": "needs `batch.num_instances: 1`",
    "optim.warmup_epochs=20": "`optim.warmup_epochs` must be below `optim.epochs`",
    "optim.min_lr=1": "`optim.min_lr` must be at most every other learning rate",
    "evaluate.k_values=[]": "`evaluate.k_values` must be a list of at least 1",
    "evaluate.k_values=[0]": r"`evaluate.k_values\[0\]` must be above 0",
    "evaluate.protocols=[distractors]": "evaluate.protocols: distractors cannot be computed",
    "evaluate.protocols=[query]": r"`evaluate.protocols\[0\]` must be one of query_gallery",
    "evaluate.patience=0": "`evaluate.patience` must be above 0, got 0",
    "evaluate.task=image_to_text": "`evaluate.task: image_to_text` needs `stage: retrieval`",
    "track.tensorboard=maybe": "`track.tensorboard` must be true or false, or auto, got 'maybe'",
    "track.wandb_entity=me": "`track.wandb_entity` has no effect without `track.wandb`",
    "init_from=nowhere": "expected a training run or a checkpoint with model.safetensors",
    "precision=fp16": "precision: fp16 needs a GPU",
    "precision=half": "`precision` must be one of no, bf16 or fp16, got 'half'",
    "data.held_out=[A": "not valid YAML",
}


@pytest.mark.parametrize("change", MISTAKES)
def test_a_mistyped_change(tmp_path, capsys, images, change):
    path = write_recipe(tmp_path)
    where = ["--data", images / "records.csv", "--set", "data.source=table"]
    if change.startswith("data.source"):
        where = []
    text = answer(capsys, path, "--out", tmp_path / "run", *where, "--set", change)
    assert re.search(MISTAKES[change], text), text


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.yaml", "", "a recipe is a mapping of keys, got nothing."),
        ("a.yaml", "[1, null, true]", r"a recipe is a mapping of keys, got \[1, null, true\]\."),
        ("a.json", "null", "a recipe is a mapping of keys, got nothing."),
        (
            "a.yaml",
            "note a\nstage joint\n",
            "a recipe is a mapping of keys, got 'note a stage joint'",
        ),
        ("a.yaml", "note: a\n\tstage: joint\n", "not valid YAML"),
        (
            "a.yaml",
            "note: a\nbase: [tiny.yaml]\n",
            r"`base` must be a recipe's name or path, got \[",
        ),
        ("a.yaml", "note: a\nbase: .\n", "this is a folder, not a recipe"),
        ("a.yaml", "note: a\n<<: {stage: joint}\n", "not valid YAML"),
        ("a.yaml", "note: a\nstage: joint\n1: 2\n", "there is no key `1`"),
        ("a.yaml", "note: a\n? [a, b]\n: c\n", "not valid YAML"),
        ("a.yaml", "note: 2026-01-01\nstage: joint\nloss: {triplet: 1}\n", "`note` must be text"),
        ("a.yaml", "note: a\nbase: tiny.yaml\nstage: prompt_sg\n", "`loss` needs a term"),
        ("a.yaml", "note: a\nbase: tiny.yaml\ndata: null\n", "`data` must be a section of keys"),
        ("a.yaml", "!!python/object/apply:os.getcwd []\n", "not valid YAML"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[]", r"a recipe is a mapping of keys, got \[\]"),
        (
            "a.json",
            '{"training_config": {"epochs": 3}}',
            "tensorboard is not installed|no such|folder",
        ),
        ("a.yaml", "note: a\nx: &x [*x]\n", "not valid YAML|key `stage` is missing"),
    ],
)
def test_a_recipe_that_is_none(tmp_path, capsys, name, content, words):
    write_recipe(tmp_path)
    (tmp_path / name).write_text(content)
    text = answer(capsys, tmp_path / name, "--out", tmp_path / "run")
    assert re.search(words, text), text


def nested_aliases(start, repeats, levels):
    """A few hundred bytes that stand for ``repeats ** levels`` values."""
    lines = [f"a0: &a0 {start}"]
    for level in range(1, levels):
        inside = ",".join([f"*a{level - 1}"] * repeats)
        lines.append(f"a{level}: &a{level} [{inside}]")
    return "\n".join(lines) + "\n"


# Recipes that would take all memory, or another number than is written.
HOSTILE = {
    "nested aliases": (nested_aliases("[x]", 9, 11), "aliases expand to more than 100000 values"),
    "a chain of aliases": (nested_aliases("[x]", 1, 2000), "or 40 levels"),
    "an alias of itself": ("x: &x [*x]\n", "an alias contains itself"),
    "deep": (f"x: {'[' * 5000}{']' * 5000}\n", "nested more than 40 levels deep"),
    "a long integer": (f"seed: {'9' * 5000}\n", "a number of 5000 digits is too long"),
    "octal": ("seed: 010\n", "010 is an octal number in YAML 1.1"),
    "base 60": ("seed: 1:30\n", "1:30 is a number to the base 60"),
    "base 60, a fraction": ("optim: {lr: 1:30.5}\n", "1:30.5 is a number to the base 60"),
    "NUL": ('base: "a\\0b"\n', r"`base` must be a recipe's name or path, got 'a\\x00b'"),
    "no date": ("seed: 2026-01-32\n", "day is out of range"),
    "a long list": (
        f"stage: joint\nseed: {list(range(5000))}\n",
        r"got \[0, 1, 2, 3, 4, 5, \.\.\.\]",
    ),
    "a long text": (f"stage: {'x' * 5000}\n", r"got 'xxx"),
    "a long key": (f"stage: joint\n{'x' * 900}: 0\n", r"there is no key `xxx"),
    "twice": ("seed: 1\nseed: 2\n", "the key 'seed' is written twice"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_recipe(tmp_path, capsys, kind):
    content, words = HOSTILE[kind]
    path = tmp_path / "a.yaml"
    path.write_text(f"note: a\n{content}")
    text = answer(capsys, path, "--out", tmp_path / "run")
    assert re.search(words, text), text
    assert len(text) < 500 + len(str(path))
    assert not (tmp_path / "run").exists()


def test_two_thousand_parents(tmp_path, capsys):
    for number in range(2000):
        (tmp_path / f"{number}.yaml").write_text(f"note: a\nbase: {number + 1}.yaml\n")
    text = answer(capsys, tmp_path / "0.yaml", "--out", tmp_path / "run")
    assert "it has more than 50 parents" in text


def test_aliases_that_stay_small_are_read(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text("note: a\nstage: &a joint\nseed: 0\ninit_from: *a\nloss: {}\n")
    assert "`loss` needs a term" in answer(capsys, tmp_path / "a.yaml", "--out", tmp_path / "run")


TABLE = ("--set", "data.source=table")
FOLDER = ("--set", "data.source=folder")


def test_odd_recipes(tmp_path, capsys):
    write_recipe(tmp_path)
    assert "tiny.yaml" in answer(capsys, tmp_path / "tinny.yaml", "--out", tmp_path / "run")
    answer(capsys, tmp_path, "--out", tmp_path / "run")
    answer(capsys, "\0", "--out", tmp_path / "run")


def test_a_batch_of_one_image(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text(
        "note: a\nstage: classifier\nloss: {id: 1.0}\n"
        "batch: {num_identities: 1, num_instances: 1}\n"
    )
    text = answer(capsys, tmp_path / "a.yaml", "--out", tmp_path / "run")
    assert "`batch.num_identities` must be at least 2 with `batch.num_instances: 1`" in text


def test_odd_data(tmp_path, capsys, images):
    recipe, out = write_recipe(tmp_path), ("--out", tmp_path / "run")
    assert "`data.source: synthetic`" in answer(capsys, recipe, *out, "--data", images)
    answer(capsys, recipe, *out, *TABLE, "--data", tmp_path / "nowhere.csv")
    answer(capsys, recipe, *out, *TABLE, "--data", recipe)
    answer(capsys, recipe, *out, *TABLE, "--data", "")
    answer(capsys, recipe, *out, *FOLDER, "--data", images / "records.csv")


def test_odd_folders_of_runs(tmp_path, capsys, images):
    recipe = write_recipe(tmp_path)
    assert "--resume needs --out" in answer(capsys, recipe, "--resume")

    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").touch()
    assert "the folder holds other files" in answer(capsys, recipe, "--out", tmp_path / "thesis")
    (tmp_path / "file").touch()
    answer(capsys, recipe, "--out", tmp_path / "file")

    more = ("--resume", "--set", "init_from=.", "--data", images, *FOLDER)
    answer(capsys, recipe, "--out", tmp_path / "run", *more)


def test_the_command_line_itself(capsys):
    for arguments in ([], ["--outt", "x"], ["a.yaml", "--set"], ["a.yaml", "b.yaml"]):
        with pytest.raises(SystemExit) as found:
            main(arguments)
        assert found.value.code == 2
        assert "usage: python -m examples.trainer" in capsys.readouterr().err
