"""From a recipe's data section to records, on small sets in the layouts of the sources."""

import json
import shutil
from collections import Counter

import layouts
import pytest

from clipreid_kit.data import records_of
from examples.settings.recipe import load_recipe
from examples.trainer.records import load_records, validation_of


def loaded(path, root, tmp_path, *changes):
    recipe = load_recipe(f"examples/recipes/{path}.yaml", changes, data=str(root))
    if hasattr(recipe.data, "counts"):
        recipe.data.counts = "ignore"
    return load_records(recipe, tmp_path / "run", quiet=True)


@pytest.mark.parametrize("name", ["contrastive", "captioned_folder"])
def test_a_validation_split_of_pairs_is_its_own_query_and_gallery(tmp_path, name):
    layout = layouts.captioned_folder if name == "captioned_folder" else layouts.annotations
    records, _ = loaded(f"retrieval/{name}", layout(tmp_path), tmp_path)
    assert validation_of(records)
    (((queries, gallery),),) = validation_of(records).values()
    assert gallery is None
    assert queries == records_of(records, "val")


def test_items_that_a_cleaned_table_leaves_out_are_not_trained_on(tmp_path):
    root = layouts.inshop(tmp_path)
    file = root / "image_prompts_clean.json"
    texts = json.loads(file.read_text())
    del texts["id_00000001"], texts["id_00000024"]  # one of the training items, and one of the test
    file.write_text(json.dumps(texts))
    records, found = loaded("fashion/stage3_v2_vit", root, tmp_path)
    assert found == {"training_images_without_text": 6}
    assert "id_00000001" not in {r.identity for r in records}
    assert len([r for r in records if r.identity == "id_00000024"]) == 6  # tests compare images
    with pytest.raises(ValueError, match="no text for the variant 'id_00000001/01'"):
        loaded("fashion/stage3_v2_vit", root, tmp_path, "data.texts_key=variant")


@pytest.mark.parametrize("balance", ["category", "length", "identity"])
def test_training_images_are_balanced_by_what_the_recipe_says(tmp_path, balance):
    root = layouts.annotations(tmp_path)
    file = root / "annotations.json"
    content = json.loads(file.read_text())
    for entry in content["splits"]["train"][:3]:
        del entry["category"]
    file.write_text(json.dumps(content))
    records, _ = loaded("retrieval/contrastive", root, tmp_path, f"data.balance={balance}")
    groups = {
        "category": lambda r: r.extra.get("category"),
        "length": lambda r: len(r.caption) // 20,
        "identity": lambda r: r.identity,
    }
    counts = Counter(map(groups[balance], records_of(records, "train")))
    assert len(counts) > 1
    assert len(set(counts.values())) == 1
    assert len(records_of(records, "test")) == 16


SPLITS = ("train", "val_query", "val_gallery", "query", "gallery")


def own_folder(root, images=2):
    """Split folders with three identities each; no file is decoded before training."""
    for split in SPLITS:
        for identity in range(3):
            who = f"{split.split('_')[0].replace('gallery', 'query')}{identity}"
            for number in range(images if split == "train" else 1):
                path = root / split / who / f"{split}{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(str(path))
    return root


def own_records(tmp_path, root, *changes):
    changes = ("data.source=folder", "batch.num_identities=2", "data.validation=0", *changes)
    return loaded("own/train", root, tmp_path, *changes)[0]


def columns(records, root):
    ends = [record.path.removeprefix(str(root)).lstrip(":/") for record in records]
    return [(end, r.identity, r.split) for end, r in zip(ends, records, strict=True)]


def test_a_zipped_folder_has_the_same_records(tmp_path):
    root = own_folder(tmp_path / "own")
    archive = shutil.make_archive(str(root), "zip", root)
    expected = own_records(tmp_path, root)
    found = own_records(tmp_path, archive)
    assert {record.split for record in expected} == set(SPLITS)
    assert columns(found, archive) == columns(expected, root)
    assert validation_of(found)


def test_a_zipped_captioned_folder_has_the_same_splits(tmp_path):
    root = layouts.captioned_folder(tmp_path)
    archive = shutil.make_archive(str(root), "zip", root)
    expected, _ = loaded("retrieval/captioned_folder", root, tmp_path)
    found, _ = loaded("retrieval/captioned_folder", archive, tmp_path)
    assert columns(found, archive) == columns(expected, root)


def test_queries_that_are_repeated_as_gallery_are_refused(tmp_path):
    root = own_folder(tmp_path / "own")
    shutil.rmtree(root / "gallery")
    shutil.copytree(root / "query", root / "gallery")
    with pytest.raises(ValueError, match="3 of 3 query images are also in the gallery"):
        own_records(tmp_path, root)


def test_identities_with_one_image_each_are_not_trained_on_copies(tmp_path):
    root = own_folder(tmp_path / "own", images=1)
    with pytest.raises(ValueError, match="each of the 3 training identities has a single image"):
        own_records(tmp_path, root)

    path = root / "train" / "train0" / "another.jpg"
    path.write_text("another")
    assert len(records_of(own_records(tmp_path, root), "train")) == 4
