"""Your own records and losses in the trainer: from Python, and from a file by ``--plugin``."""

import json
import re

import pytest
import torch
from pages import page
from tiny import tiny_recipe, write_recipe
from torch import nn

from clipreid_kit.data import ImageRecord, read_table
from examples.trainer import evaluate
from examples.trainer.__main__ import main
from examples.trainer.plugin import Plugin, load_plugin
from examples.trainer.run import run

pytestmark = pytest.mark.usefixtures("without_report")

ONE_EPOCH = ("optim.epochs=1", "optim.warmup_epochs=0", "track.console=nothing")


class Constant(nn.Module):
    """A loss whose value gives it away, with a parameter that is trained."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(7.0))

    def forward(self, embeddings, labels):
        return self.scale + 0 * embeddings.sum()


def epochs(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_functions_given_in_python(tmp_path, images):
    """They are called with the recipe, the towers and the number of training identities."""
    asked = []

    def records(recipe):
        asked.append(recipe.data.source)
        return read_table(images / "records.csv")

    def losses(recipe, towers, num_identities):
        asked.append((recipe.stage, towers.embed_dim, num_identities))
        return {"supcon_image": Constant()}

    recipe = tiny_recipe(tmp_path, *ONE_EPOCH, stage=None)
    run(recipe, tmp_path / "run", plugin=Plugin(records, losses))

    assert asked[0] == "synthetic"
    assert not (tmp_path / "run" / "data").exists()  # nothing was generated
    assert asked[1] == ("joint", 128, 12)
    assert epochs(tmp_path / "run")[0]["supcon_image"] == pytest.approx(7.0, abs=0.1)


def documented(tmp_path):
    """The plugin of the documentation, as a file."""
    (code,) = re.findall(r"```python\n(# plugin\.py\n.*?)```", page("recipes.md"), re.DOTALL)
    (tmp_path / "plugin.py").write_text(code)
    return tmp_path / "plugin.py"


def test_the_plugin_of_the_documentation(tmp_path, images, capsys):
    """It trains, is kept beside the run, and has to be given again."""
    plugin = documented(tmp_path)
    recipe = write_recipe(tmp_path, "joint")
    out = tmp_path / "run"
    options = ["--data", str(images / "records.csv"), "--set", "data.source=table"]
    options += [word for change in ONE_EPOCH for word in ("--set", change)]
    command = [str(recipe), *options, "--out", str(out)]

    assert main([*command, "--plugin", str(plugin)]) == 0
    assert (out / "plugin.py").read_text() == plugin.read_text()
    assert epochs(out)[0]["supcon_image"] > 0

    assert main([*command, "--resume"]) == 2
    assert "the run to resume has another plugin" in capsys.readouterr().err

    assert evaluate.main([str(out), "--out", str(tmp_path / "a")]) == 2
    assert f"give it again: --plugin {out / 'plugin.py'}" in capsys.readouterr().err

    again = [str(out), "--out", str(tmp_path / "a"), "--plugin", str(out / "plugin.py")]
    assert evaluate.main(again) == 0
    results = [
        json.loads((folder / "results.json").read_text()) for folder in (out, tmp_path / "a")
    ]
    assert results[0]["after"] == results[1]["after"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1", "has neither a function `records(recipe)` nor a function"),
        ("records = 3", "`records` in {path} must be a function"),
        ("import os\nrecords = os.nothing", "{path}, line 2: AttributeError: "),
        ("def records(recipe)\n", "{path}, line 1: SyntaxError: "),
    ],
)
def test_a_file_that_is_no_plugin(tmp_path, code, words):
    path = tmp_path / "plugin.py"
    path.write_text(code)
    with pytest.raises(ValueError, match=re.escape(words.format(path=path))):
        load_plugin(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="--plugin: there is no file"):
        load_plugin(tmp_path / "nothing.py")


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "`records` returned no records"),
        (["a.jpg"], "must return a list of ImageRecord; it holds a str"),
    ],
)
def test_records_of_another_kind(tmp_path, records, words):
    with pytest.raises(ValueError, match=words):
        Plugin(records=lambda _: records).read(tiny_recipe(tmp_path))


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ({"triplet": Constant()}, "'triplet', a term without a weight in this recipe"),
        ({"supcon_image": 3}, "the loss 'supcon_image' must be a torch.nn.Module, not a int"),
    ],
)
def test_losses_that_would_do_nothing(tmp_path, losses, words):
    plugin = Plugin(losses=lambda *_: losses)
    with pytest.raises(ValueError, match=words):
        plugin.losses_of(tiny_recipe(tmp_path), None, 3, ["supcon_image", "supcon_text"])


def test_a_plugin_changes_nothing_that_it_does_not_define(tmp_path):
    plugin = Plugin()
    assert plugin.read(tiny_recipe(tmp_path)) is None
    assert plugin.losses_of(tiny_recipe(tmp_path), None, 3, []) == {}
    records = [ImageRecord("a.jpg", 1)]
    assert Plugin(records=lambda _: records).read(tiny_recipe(tmp_path)) == records
