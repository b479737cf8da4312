"""The recipes' pages in docs/recipes are made from the recipe files, and are up to date."""

import re

import pytest
import yaml
from pages import needs_pages

from examples import recipe_table
from examples.recipe_table import (
    BEGIN,
    END,
    PAGES,
    RECIPES,
    ROOT,
    changed_lines,
    entry,
    families,
    main,
    updated,
)
from examples.settings.recipe import load_recipe

pytestmark = needs_pages
PATHS = sorted(RECIPES.rglob("*.yaml"))


def page(family):
    return (PAGES / f"{family}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("family", families())
def test_a_page_is_up_to_date(family):
    assert updated(page(family), family) == page(family), "run python -m examples.recipe_table"


@pytest.mark.parametrize("family", families())
def test_every_recipe_of_a_family_is_on_its_page_once(family):
    listed = re.findall(r"^### (\S+)$", page(family), re.MULTILINE)
    recipes = [path.stem for path in PATHS if path.relative_to(RECIPES).parts[0] == family]
    assert sorted(listed) == sorted(recipes)


@pytest.mark.parametrize("family", families())
def test_the_command_of_a_page_names_a_recipe(family):
    (command,) = re.findall(r"^```bash\n(.*?)^```", page(family), re.MULTILINE | re.DOTALL)
    recipe = re.match(r"clipreid train (\S+)", command)[1]
    path = RECIPES / f"{recipe}.yaml"
    assert path.is_file()
    assert re.search(r"--out (\S+)", command)[1] == f"runs/{recipe}"

    generated = load_recipe(path).data.source == "synthetic"
    assert ("--data DATA" in command) == (not generated)


def test_pages_fit_a_phone():
    """A table of several columns would not, and neither would a long line of code."""
    for family in families():
        made = page(family).partition(BEGIN)[2]
        assert "|" not in re.sub(r"`[^`]*`", "", made)
        for code in re.findall(r"^```bash\n(.*?)^```", page(family), re.MULTILINE | re.DOTALL):
            assert max(map(len, code.splitlines())) <= 80


def test_the_index_has_every_family():
    index = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for family in families():
        assert f"(recipes/{family}.md)" in index
        assert f"recipes/{family}.md\n" in navigation


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_every_recipe_loads_and_is_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 25
    assert max(map(len, text.splitlines())) <= 120

    recipe = load_recipe(path)
    assert len(recipe.note) > 20
    for linked in re.findall(r"examples/[^\s,}]+\.json", text):
        assert (ROOT / linked).is_file()
    if recipe.init_from is not None:  # the run of another recipe, where its command puts it
        parent = RECIPES / recipe.init_from.removeprefix("runs/")
        assert parent.with_suffix(".yaml").is_file()
    if path.parent.name == "papers":
        assert "Published " in recipe.note


def test_there_are_many_recipes():
    assert len(PATHS) > 100


def test_an_entry_has_stage_note_parent_and_changes():
    assert entry(RECIPES / "fashion" / "stage3_v3_rn50.yaml") == (
        "### stage3_v3_rn50\n\n"
        "Stage `joint`. Continues version 2 with a lower learning rate and temperature, which "
        "suits the ResNet. Logged Rank-1 54.0 and mAP 42.7 (StyleFinder), "
        "the best of all its models.\n\n"
        "Parent\n:   `stage3_v2_rn50`\n\n"
        "Changes\n:   `init_from=runs/fashion/stage3_v2_rn50` `loss.temperature=0.05` "
        "`optim.lr=1e-05` `evaluate.patience=5`"
    )


def test_an_entry_of_a_recipe_without_parent_or_changes():
    assert "Parent" not in entry(RECIPES / "quickstart" / "joint.yaml")
    assert entry(RECIPES / "hands" / "stage1" / "zero_shot_vit.yaml").endswith("Changes\n:   none")


def test_options_in_a_note_become_code():
    text = entry(RECIPES / "hands" / "base.yaml")
    assert "`--set data.aspect=palmar_l`, for" in text
    assert "`--set data.source=polyu_hands`." in text


def test_values_are_written_as_in_yaml():
    tree = yaml.safe_load(
        "{stage: joint, note: x, base: y.yaml, precision: bf16, data: {cache: true, root: null}, "
        "optim: {lr: 0.001, milestones: [1, 2]}}"
    )
    assert changed_lines(tree) == [
        "precision=bf16",
        "data.cache=true",
        "data.root=null",
        "optim.lr=0.001",
        "optim.milestones=[1, 2]",
    ]


@pytest.mark.parametrize("text", ["text\n", f"text\n{END}\n{BEGIN}\n"])
def test_a_page_without_its_marks_is_an_error(text):
    with pytest.raises(ValueError, match=r"own\.md: the page lacks the line"):
        updated(text, "own")


def test_the_command_writes_or_checks_the_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe_table, "PAGES", tmp_path)
    monkeypatch.setattr(recipe_table, "families", lambda: ["own"])
    path = tmp_path / "own.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    with pytest.raises(SystemExit, match=r"own\.md is out of date"):
        main(["--check"])
    assert "old" in path.read_text()

    main([])
    assert path.read_text().startswith(f"before\n{BEGIN}\n\n## Recipes\n\n### ")
    assert path.read_text().endswith(f"{END}\nafter\n")
    main(["--check"])
