"""Recipe files: parents, changes, variants, and one sentence for every mistake."""

import json
import os
from pathlib import Path

import pytest
import yaml

from examples.settings.json_schema import schema
from examples.settings.recipe import load_recipe
from examples.settings.section import Needs, idle_keys, lookup
from examples.settings.stages import RECIPES
from examples.settings.variants import models_in

FOLDER = Path(__file__).parents[2] / "examples" / "recipes"
HEAD = "note: a\nstage: joint\n"


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def loaded(folder, text, *changes, **options):
    return load_recipe(write(folder, "a.yaml", text), changes, **options)


def test_a_child_changes_only_its_own_lines(tmp_path):
    write(
        tmp_path,
        "base.yaml",
        HEAD + "loss: {supcon_image: 1, temperature: 0.2}\noptim: {lr: 1e-5}\n",
    )
    child = loaded(tmp_path, "base: base.yaml\nnote: b\nloss: {triplet: 0.5}\n")
    assert (child.note, child.stage) == ("b", "joint")
    assert (child.loss.supcon_image, child.loss.triplet, child.loss.temperature) == (1.0, 0.5, 0.2)
    assert child.optim.lr == 1e-5  # YAML 1.1 reads this as text
    assert isinstance(child.loss.supcon_image, float)


def test_a_parent_by_its_name(tmp_path):
    child = loaded(tmp_path, "base: own/zero_shot\nnote: b\nmodel: {name: reid-tiny-vit}\n")
    assert (child.stage, child.note, child.model.name) == ("zero_shot", "b", "reid-tiny-vit")


def test_a_folder_with_the_name_of_a_recipe_is_not_its_base(tmp_path):
    text = "base: own/zero_shot\nnote: b\n"
    expected = loaded(tmp_path, text)
    (tmp_path / "own" / "zero_shot").mkdir(parents=True)
    assert loaded(tmp_path, text) == expected

    with pytest.raises(ValueError, match="own: this is a folder, not a recipe"):
        loaded(tmp_path, "base: own\nnote: b\n")


def test_changes_from_the_command_line(tmp_path):
    changes = [
        "optim.epochs=3",
        "model.image_size=[64, 32]",
        "data.source=omniglot",
        "data.held_out=[A, B]",
        "optim.min_lr=0",
    ]
    recipe = loaded(tmp_path, HEAD + "loss: {supcon_image: 1}\n", *changes, data="images.zip")
    assert recipe.optim.epochs == 3
    assert recipe.model.image_size == (64, 32)
    assert recipe.data.held_out == ["A", "B"]
    assert recipe.data.root == "images.zip"
    assert recipe.optim.min_lr == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "los: {}\n", r"a\.yaml: there is no key `los`\. Did you mean `loss`\?"),
        (
            HEAD + "loss: {supcom_image: 1}\n",
            r"no key `loss\.supcom_image`\. Did you mean `loss\.supcon_image`\?",
        ),
        (HEAD + "loss: {zzz: 1}\n", "no key `loss.zzz`. Known keys: .*triplet.*supcon_image"),
        (HEAD + "loss: 3\n", r"`loss` must be a section of keys, got 3"),
        (HEAD + "optim: {epochs: 2.5}\n", r"`optim\.epochs` must be a whole number, got 2\.5"),
        (HEAD + "optim: {epochs: true}\n", r"`optim\.epochs` must be a whole number, got true"),
        (HEAD + "optim: {lr: fast}\n", r"`optim\.lr` must be a number, got 'fast'"),
        (HEAD + "data: {cache: 'no'}\n", r"`data\.cache` must be true or false, got 'no'"),
        (HEAD + "model: {image_size: 64}\n", r"`model\.image_size` must be a list, got 64"),
        (
            HEAD + "data: {source: imagenet}\n",
            r"`data\.source` must be one of synthetic, folder, table, coco, omniglot",
        ),
        (
            HEAD + "data: {source: omniglot, held_out: [3]}\n",
            r"`data\.held_out\[0\]` must be text, got 3",
        ),
        (HEAD, r"`loss` needs a term with a weight above 0, of id, triplet, "),
        (HEAD + "loss: {supcon_image: -1}\n", r"`loss\.supcon_image` must be at least 0, got -1"),
        (HEAD + "loss: {info_nce: 1}\n", r"`loss\.info_nce` needs `batch\.num_instances: 1`"),
        (HEAD + "loss: {triplet: 1}\nbatch: {num_instances: 1}\n", "no positive"),
        (
            HEAD + "loss: {supcon_image: 1}\noptim: {warmup_epochs: 10}\n",
            r"`optim\.warmup_epochs` must be below `optim\.epochs`",
        ),
        ("stage: joint\n", "the line `note:` is missing"),
        (
            "note: a\nloss: {supcon_image: 1}\n",
            "the key `stage` is missing; it is one of zero_shot",
        ),
        ("note: a\nstage: stage2\n", r"`stage` must be one of zero_shot, .*, got 'stage2'"),
        ("- 1\n", r"a recipe is a mapping of keys, got \[1\]"),
        ("a: [\n", "the text is not valid YAML"),
        (HEAD + "optim: {lr: 1}\noptim: {epochs: 1}\n", r"the key 'optim' is written twice"),
        (HEAD + "optim: {lr: 1, lr: 2}\n", r"the key 'lr' is written twice"),
        (
            HEAD + "loss: {supcon_image: 1, temperature: 0}\n",
            r"`loss\.temperature` must be above 0, got 0",
        ),
        (HEAD + "loss: {triplet: 1, margin: -1}\n", r"`loss\.margin` must be at least 0, got -1"),
        (
            HEAD + "loss: {triplet: 1}\nbatch: {num_instances: 0}\n",
            r"`batch\.num_instances` must be above 0, got 0",
        ),
        (
            HEAD + "loss: {triplet: 1}\noptim: {lr: .inf}\n",
            r"`optim\.lr` must be a finite number, got inf",
        ),
        (
            HEAD + "loss: {triplet: 1}\noptim: {weight_decay: -1}\n",
            r"`optim\.weight_decay` must be at least 0, got -1",
        ),
        (
            HEAD + "loss: {triplet: 1}\noptim: {min_lr: 1}\n",
            r"`optim\.min_lr` must be at most every other learning rate",
        ),
        (
            HEAD + "loss: {triplet: 1}\nmodel: {image_blocks: most}\n",
            r"`model\.image_blocks` must be a whole number, or one of all or none, got 'most'",
        ),
        ("base: a.yaml\nnote: a\n", "the `base:` lines run in a circle"),
        (
            "base: own/trian\nnote: a\n",
            "`base` is neither a file nor the name of a recipe: 'own/trian'",
        ),
        ("base: ''\nnote: a\n", "`base` must be a recipe's name or path, got ''"),
        (
            f"base: {'own/' * 2000}\nnote: a\n",
            "`base` is neither a file nor the name of a recipe: 'own/own",
        ),
        (
            "base: ../recipes/own/train\nnote: a\n",
            r"`base` is neither a file nor the name of a recipe: '\.\./recipes/own/train'",
        ),
        (
            "base: b.yaml\nnote: a\n",
            r"b\.yaml: there is no such recipe file\. Recipes in that folder: a\.yaml",
        ),
    ],
)
def test_errors_name_file_key_and_remedy(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        loaded(tmp_path, text)


def test_an_error_names_the_file_that_says_the_key(tmp_path):
    write(tmp_path, "base.yaml", HEAD + "loss: {triplet: one}\n")
    with pytest.raises(ValueError, match=r"^\S+base\.yaml: `loss\.triplet` must be a number"):
        loaded(tmp_path, "base: base.yaml\nnote: b\noptim: {epochs: 3}\n")
    with pytest.raises(ValueError, match=r"^--set: `optim\.epochs` must be a whole number"):
        loaded(tmp_path, HEAD + "loss: {triplet: 1}\n", "optim.epochs=1.5")


OTHER_VARIANTS = {
    "data: {source: folder, num_identities: 240}": (
        "`data.num_identities` belongs to `data.source: synthetic`; this recipe has "
        "`data.source: folder`. Remove the key."
    ),
    "data: {root: images}": (
        "`data.root` belongs to `data.source: folder, .*has `data.source: synth"
    ),
    "head: {kind: arcface, std: 0.1}\nloss: {id: 1}": "`head.std` belongs to `head.kind: linear`",
    "optim: {schedule: step, min_lr: 0.0}": (
        "`optim.min_lr` belongs to `optim.schedule: cosine, restarts`"
    ),
    "prompt: {epochs: 3}": "`prompt` belongs to `stage: clip_reid, prompt_sg`; .* `stage: joint`",
    "mining: {data: triplet}": "`mining` belongs to `stage: retrieval`",
    "loss: {image_to_text: 0.0}": "`loss.image_to_text` belongs to `stage: clip_reid`",
}


@pytest.mark.parametrize("text", OTHER_VARIANTS)
def test_a_key_of_another_variant_cannot_be_written(tmp_path, text):
    with pytest.raises(ValueError, match=OTHER_VARIANTS[text]):
        loaded(tmp_path, HEAD + text)


def test_what_a_parent_says_for_another_variant_falls_away_in_one_line(tmp_path):
    write(
        tmp_path,
        "base.yaml",
        HEAD
        + "data: {num_identities: 30, cache: true}\n"
        + "loss: {supcon_text: 1, triplet: 1}\noptim: {min_lr: 1.0e-5}\n",
    )
    lines = []
    child = loaded(
        tmp_path,
        "base: base.yaml\nnote: b\nstage: classifier\noptim: {schedule: constant}\n",
        "data.source=folder",
        say=lines.append,
    )
    assert (child.stage, child.data.source, child.data.cache) == ("classifier", "folder", True)
    assert child.loss.weights() == {"triplet": 1.0}
    (line,) = lines
    assert line.endswith(
        f"left out: data.num_identities, loss.supcon_text, optim.min_lr of {tmp_path / 'base.yaml'}"
    )
    assert "\n" not in line


def test_a_recipe_with_idle_keys_is_not_mended_by_other_changes(tmp_path):
    text = HEAD + "data: {source: folder, num_identities: 30}\nloss: {triplet: 1}\n"
    with pytest.raises(ValueError, match=r"a\.yaml: `data\.num_identities` belongs to"):
        loaded(tmp_path, text, "optim.epochs=3")
    with pytest.raises(ValueError, match=r"--set: `data\.num_identities` belongs to"):
        loaded(
            tmp_path,
            HEAD + "data: {source: folder}\nloss: {triplet: 1}\n",
            "data.num_identities=30",
        )


def test_a_key_without_effect_is_an_error_or_falls_away(tmp_path):
    idle = HEAD + "loss: {supcon_image: 1, margin: 0.5}\n"
    with pytest.raises(
        ValueError,
        match=r"`loss\.margin` has no effect without `loss\.triplet` or `loss\.triplet_text`",
    ):
        loaded(tmp_path, idle)

    write(tmp_path, "base.yaml", HEAD + "loss: {triplet: 1, margin: 0.5}\n")
    lines = []
    child = loaded(
        tmp_path,
        "base: base.yaml\nnote: b\nloss: {triplet: 0, supcon_image: 1}\n",
        say=lines.append,
    )
    assert child.loss.margin == 0.3
    assert lines == [
        f"without effect in this recipe (stage joint), and left out: loss.margin of "
        f"{tmp_path / 'base.yaml'}"
    ]


def test_zero_shot_leaves_out_what_trains(tmp_path):
    lines = []
    recipe = loaded(
        tmp_path,
        HEAD + "batch: {num_identities: 4}\ndata: {validation: 0.2}\nloss: {triplet: 1}\n",
        "stage=zero_shot",
        say=lines.append,
    )
    assert not hasattr(recipe, "loss")
    assert recipe.data.validation == 0
    assert len(lines) == 1
    with pytest.raises(ValueError, match=r"--set: `loss` belongs to `stage: classifier, "):
        loaded(tmp_path, "note: a\nstage: zero_shot\n", "loss.triplet=1")


def test_words_of_yaml(tmp_path):
    text = HEAD + "loss: {triplet: 1}\nprecision: bf16\ndata: {cache: yes}\n"
    recipe = loaded(tmp_path, text, "precision=no", "optim.lr=1e-5", "optim.clip_norm=")
    assert (recipe.precision, recipe.data.cache) == ("no", True)
    assert (recipe.optim.lr, recipe.optim.clip_norm) == (1e-5, None)


def test_bad_changes(tmp_path):
    text = HEAD + "loss: {triplet: 1}\n"
    with pytest.raises(ValueError, match=r"--set: write section\.key=value, got 'epochs'"):
        loaded(tmp_path, text, "epochs")
    for change in ("data.held_out=[A", "note=fix: x: y"):
        with pytest.raises(ValueError, match=r"--set .*: the text is not valid YAML"):
            loaded(tmp_path, text, change)


def every_need():
    for model in RECIPES:
        for name, field in model.model_fields.items():
            yield from ((name, need) for need in field.metadata if isinstance(need, Needs))
            for section in models_in(field.annotation):
                for key, inner in section.model_fields.items():
                    for need in inner.metadata:
                        if isinstance(need, Needs):
                            yield f"{name}.{key}", need


def test_every_need_names_keys_and_values_of_a_recipe():
    variants = {}
    for model in RECIPES:
        for name, field in model.model_fields.items():
            variants.setdefault(name, []).extend(models_in(field.annotation))

    needs = list(every_need())
    assert len(needs) > 60
    for key, need in needs:
        for alternative in need.alternatives:
            named, _, values = alternative.partition(": ")
            named = named.partition(" > ")[0]
            section, _, name = named.rpartition(".")
            holders = variants[section] if section else RECIPES
            fields = [model.model_fields[name] for model in holders if name in model.model_fields]
            assert fields, (key, alternative)
            known = str([field.annotation for field in fields])
            for value in values.removeprefix("not ").split(", "):
                is_number = value.isdigit() and "int" in known
                is_known = value in ("", "true", "false") or f"'{value}'" in known
                assert is_known or is_number, (key, alternative)


def test_needs_are_looked_up_in_the_recipe(tmp_path):
    recipe = loaded(tmp_path, HEAD + "loss: {triplet: 1}\noptim: {optimizer: sgd}\n")
    holds = {
        "loss.triplet": True,
        "loss.supcon_image": False,
        "loss.image_to_text": False,  # of another stage
        "optim.optimizer: adam, sgd": True,
        "stage: not joint": False,
        "optim.epochs > 9": True,
        "optim.epochs > 10": False,
    }
    assert {condition: Needs(condition).hold(recipe) for condition in holds} == holds
    assert Needs("loss.supcon_image", "loss.triplet").hold(recipe)
    assert lookup(recipe, "loss.triplet")[0] == 1.0
    assert lookup(recipe, "prompt.epochs") is None
    recipe.loss.focal_alpha = 2.0
    assert [key for key, _ in idle_keys(recipe)] == ["loss.focal_alpha"]


def test_the_json_schema_knows_every_key_and_refuses_others():
    found = schema()
    text = json.dumps(found)
    assert '"oneOf"' not in text
    for variant in found["anyOf"]:
        assert variant["additionalProperties"] is False
        assert {"base", "stage", "note", "data"} <= set(variant["properties"])
    for name, definition in found["$defs"].items():
        assert definition["additionalProperties"] is False, name
    tree = yaml.safe_load((FOLDER / "quickstart" / "joint.yaml").read_text())
    sources = {model.__name__ for model in models_in(RECIPES[0].model_fields["data"].annotation)}
    assert sources <= set(found["$defs"])
    assert set(tree["data"]) <= set(found["$defs"]["Synthetic"]["properties"])


def test_a_folder_as_recipe_names_those_in_it(tmp_path):
    (tmp_path / "mine.yaml").touch()
    with pytest.raises(ValueError, match=r"a folder, not a recipe\. Recipes in it: mine\.yaml\.$"):
        load_recipe(tmp_path)


def test_a_pipe_as_recipe_is_explained(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"a pipe or device\. Save the recipe as a file"):
        load_recipe(tmp_path / "pipe")
