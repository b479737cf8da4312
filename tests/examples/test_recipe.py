from pathlib import Path

import pytest

from examples.settings.recipe import load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "examples" / "recipes").rglob("*.yaml"))


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_there_are_recipes():
    assert len(RECIPES) >= 3


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_loads_and_is_short(path):
    recipe = load_recipe(path)
    assert len(recipe.note) > 20
    assert len(path.read_text().splitlines()) <= 25


def test_child_changes_only_its_own_lines(tmp_path):
    write(
        tmp_path,
        "base.yaml",
        "note: a\nstage: joint\nloss: {supcon_image: 1, temperature: 0.2}\noptim: {lr: 1e-5}\n",
    )
    child = load_recipe(
        write(tmp_path, "child.yaml", "base: base.yaml\nnote: b\nloss: {triplet: 0.5}\n")
    )
    assert (child.note, child.stage) == ("b", "joint")
    assert (child.loss.supcon_image, child.loss.triplet, child.loss.temperature) == (1.0, 0.5, 0.2)
    assert child.optim.lr == 1e-5  # YAML 1.1 reads this as text
    assert isinstance(child.loss.supcon_image, float)


def test_changes_from_the_command_line(tmp_path):
    path = write(tmp_path, "a.yaml", "note: a\nstage: joint\nloss: {supcon_image: 1}\n")
    recipe = load_recipe(
        path,
        [
            "optim.epochs=3",
            "model.image_size=[64, 32]",
            "data.source=omniglot",
            "data.held_out=[A, B]",
            "optim.min_lr=0",
        ],
    )
    assert recipe.optim.epochs == 3
    assert recipe.model.image_size == (64, 32)
    assert recipe.data.held_out == ["A", "B"]
    assert recipe.optim.min_lr == 0


HEAD = "note: a\nstage: joint\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "los: {}\n", r"a\.yaml: expected a known key, got 'los'\. Did you mean loss\?"),
        (
            HEAD + "loss: {supcom_image: 1}\n",
            r"got 'loss\.supcom_image'\. Did you mean loss\.supcon_image\?",
        ),
        (HEAD + "loss: {zzz: 1}\n", "Known keys: id, triplet, center, supcon_image"),
        (HEAD + "loss: 3\n", r"expected loss as Loss, got 3"),
        (HEAD + "optim: {epochs: 2.5}\n", r"expected optim\.epochs as int, got 2\.5"),
        (HEAD + "optim: {epochs: true}\n", r"expected optim\.epochs as int, got True"),
        (HEAD + "optim: {lr: fast}\n", r"expected optim\.lr as float, got 'fast'"),
        (HEAD + "data: {cache: 'no'}\n", r"expected data\.cache as bool, got 'no'"),
        (HEAD + "model: {image_size: 64}\n", r"expected model\.image_size as tuple.*got 64"),
        (
            HEAD + "data: {source: imagenet}\n",
            r"data\.source to be one of synthetic, folder, table, omniglot",
        ),
        (HEAD + "data: {held_out: [3]}\n", r"data\.held_out\[0\] as str, got 3"),
        (HEAD, r"expected weights in loss of id, triplet, .*, got none"),
        (
            HEAD + "loss: {supcon_image: -1}\n",
            r"expected loss\.supcon_image to be a number at least 0, got -1",
        ),
        (
            HEAD + "loss: {info_nce: 1}\n",
            r"expected batch\.num_instances: 1 for loss\.info_nce; siblings",
        ),
        (HEAD + "loss: {triplet: 1}\nbatch: {num_instances: 1}\n", "no positive"),
        (
            HEAD + "loss: {supcon_image: 1}\noptim: {warmup_epochs: 10}\n",
            r"expected optim\.warmup_epochs below optim\.epochs",
        ),
        ("stage: joint\n", "a line `note:` that says why"),
        ("note: a\nloss: {supcon_image: 1}\n", "expected the key stage, got none"),
        ("note: a\nstage: stage2\n", r"stage to be one of zero_shot, classifier, .*, got 'stage2'"),
        ("- 1\n", "expected a mapping of keys, got list"),
        ("a: [\n", "expected YAML, got text that does not parse"),
        (HEAD + "optim: {lr: 1}\noptim: {epochs: 1}\n", r"the key 'optim' stands twice"),
        (HEAD + "optim: {lr: 1, lr: 2}\n", r"the key 'lr' stands twice"),
        (
            HEAD + "loss: {supcon_image: 1, temperature: 0}\n",
            r"expected loss\.temperature to be a number above 0, got 0",
        ),
        (
            HEAD + "loss: {triplet: 1, margin: -1}\n",
            r"expected loss\.margin to be a number at least 0, got -1",
        ),
        (
            HEAD + "loss: {triplet: 1}\nbatch: {num_instances: 0}\n",
            r"expected batch\.num_instances to be a number at least 1, got 0",
        ),
        (HEAD + "loss: {triplet: 1}\noptim: {lr: .inf}\n", r"expected optim\.lr as float, got inf"),
        (
            HEAD + "loss: {triplet: 1}\noptim: {weight_decay: -1}\n",
            r"expected optim\.weight_decay to be a number at least 0, got -1",
        ),
        (
            HEAD + "loss: {triplet: 1}\noptim: {min_lr: 1}\n",
            r"expected optim\.min_lr at most every rate",
        ),
        ("base: a.yaml\nnote: a\n", "a circle of base: lines"),
        (
            "base: b.yaml\nnote: a\n",
            r"b\.yaml: expected a recipe file, got none\. Recipes in that folder: a\.yaml",
        ),
    ],
)
def test_errors_name_file_key_and_remedy(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(write(tmp_path, "a.yaml", text))


def test_bad_value_on_the_command_line(tmp_path):
    path = write(tmp_path, "a.yaml", HEAD + "loss: {triplet: 1}\n")
    for change in ("data.held_out=[A", "note=fix: x: y"):
        with pytest.raises(ValueError, match=r"--set .*: expected YAML"):
            load_recipe(path, [change])


def test_bad_change(tmp_path):
    with pytest.raises(ValueError, match=r"--set: expected section\.key=value, got 'epochs'"):
        load_recipe(write(tmp_path, "a.yaml", HEAD + "loss: {triplet: 1}\n"), ["epochs"])
