"""The list of recipes in docs/recipes.md is made from the files, and up to date."""

import re

import pytest
import yaml

from examples.recipe_table import (
    BEGIN,
    END,
    PAGE,
    RECIPES,
    ROOT,
    changes,
    main,
    row,
    sentences,
    updated,
)
from examples.settings.recipe import load_recipe

PATHS = sorted(RECIPES.rglob("*.yaml"))


def test_the_page_is_up_to_date():
    page = PAGE.read_text(encoding="utf-8")
    assert updated(page) == page, "run python -m examples.recipe_table"


def test_every_recipe_is_listed_once():
    listed = re.findall(r"^\| `([^`]+\.yaml)` \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert sorted(listed) == sorted(path.relative_to(RECIPES).as_posix() for path in PATHS)
    assert len(listed) > 50


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_every_recipe_loads_and_is_short(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 120
    recipe = load_recipe(path)
    for linked in re.findall(
        r"examples/\S+\.json", "\n".join(lines).replace(",", " ").replace("}", " ")
    ):
        assert (ROOT / linked).is_file()
    if recipe.init_from is not None:  # where the command of the page puts the run of that recipe
        assert (RECIPES / recipe.init_from.removeprefix("runs/")).with_suffix(".yaml").is_file()
    if path.parent.name == "papers":
        assert "Published " in recipe.note


def test_a_row_says_what_a_recipe_changes():
    found = row(RECIPES / "fashion" / "stage3_v3_rn50.yaml")
    assert found.startswith(
        "| `fashion/stage3_v3_rn50.yaml` | joint | Training goes on from version 2 with a lower rate"
    )
    assert (
        "`stage3_v2_rn50.yaml` and `init_from=runs/fashion/stage3_v2_rn50` `loss.temperature=0.05`"
        in found
    )
    assert "| Logged Rank-1 54.0 and mAP 42.7 (StyleFinder), the best of all its models. |" in found
    assert found.endswith(
        "fashion/stage3_v3_rn50.yaml --data DATA --out runs/fashion/stage3_v3_rn50` |"
    )
    assert "--data" not in row(RECIPES / "quickstart" / "joint.yaml")


def test_values_are_shown_as_yaml_takes_them():
    tree = yaml.safe_load(
        "{stage: joint, precision: bf16, optim: {lr: 0.001, clip_norm: null}, data: {cache: true}}"
    )
    assert (
        changes(tree)
        == "`precision=bf16` `optim.lr=0.001` `optim.clip_norm=null` `data.cache=true`"
    )
    assert changes({"note": "x", "base": "y.yaml"}) == "nothing"


def test_figures_are_the_sentences_that_say_so():
    note = "The first. Published mAP 89.6 and Rank-1 95.5 (CLIP-ReID). More is said. Logged mAP 1.0 once."
    assert sentences(note) == (
        "The first.",
        "Published mAP 89.6 and Rank-1 95.5 (CLIP-ReID). Logged mAP 1.0 once.",
    )


def test_a_page_without_marks_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="got a page without them"):
        updated(f"text\n{END}\n{BEGIN}\n")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    monkeypatch.setattr("examples.recipe_table.PAGE", page)
    with pytest.raises(SystemExit, match="not up to date"):
        main(["--check"])
    main([])
    assert page.read_text().startswith(f"before\n{BEGIN}\n\n### Fashion")
    assert page.read_text().endswith(f"{END}\nafter\n")
    main(["--check"])
