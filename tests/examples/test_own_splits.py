"""People's own images without splits, with some, and with what must not be tested."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from examples.settings.recipe import load_recipe
from examples.trainer.records import load_records

OWN = Path(__file__).parents[2] / "examples" / "recipes" / "own"
DAYS = ("2024-01-05", "2024-02-05", "2024-03-05", "2024-04-05")


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    """A folder for each of twelve animals, with four images by two cameras."""
    root = tmp_path_factory.mktemp("animals")
    for animal in range(12):
        folder = root / f"animal{animal:02}"
        folder.mkdir()
        for number, day in enumerate(DAYS):
            image = Image.new("RGB", (8, 8), (animal * 20, number * 50, 90))
            image.save(folder / f"{day}_c{number % 2 + 1}.png")
    return root


def divided(data, *changes, recipe="train"):
    loaded = load_recipe(OWN / f"{recipe}.yaml", changes, data=str(data))
    return load_records(loaded, Path("unused"), trains=recipe == "train")


def counts(records):
    return Counter(record.split for record in records)


def identities(records, *splits):
    return {record.identity for record in records if record.split in splits}


def test_identities_are_held_out_by_the_seed(animals):
    records, found = divided(animals, "data.test=0.25", "data.validation=0.2")
    assert counts(records) == {
        "train": 28,
        "val_query": 2,
        "val_gallery": 6,
        "query": 6,
        "gallery": 6,
    }
    assert found == {}
    parts = [identities(records, *s) for s in (["train"], ["val_query"], ["query", "gallery"])]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 12

    again, _ = divided(animals, "data.test=0.25", "data.validation=0.2")
    assert again == records
    other, _ = divided(animals, "data.test=0.25", "data.validation=0.2", "seed=4")
    assert identities(other, "query") != identities(records, "query")


def test_queries_have_matches_of_another_camera(animals):
    camera = r"data.camera_pattern=_c(?P<camera>\d)"
    records, _ = divided(animals, "data.test=0.25", camera)
    for query in (record for record in records if record.split == "query"):
        matches = [r for r in records if r.split == "gallery" and r.identity == query.identity]
        assert {match.camera for match in matches} - {query.camera}


def test_a_protocol_without_a_gallery_gets_the_test_images(animals):
    records, _ = divided(animals, "data.test=0.25", "evaluate.protocols=[leave_one_out]")
    assert counts(records) == {"train": 36, "test": 12}


def test_all_images_are_tested_where_nothing_is_trained(animals):
    records, _ = divided(animals, "data.test=1", recipe="zero_shot")
    assert counts(records) == {"query": 24, "gallery": 24}


def test_without_splits_the_error_names_the_way_on(animals):
    with pytest.raises(ValueError, match=r"have no splits .*--set data\.test=0\.25"):
        divided(animals)


def test_a_pattern_names_the_split_and_queries_are_drawn_of_test(animals, tmp_path):
    for split, animal in (("train", "animal00"), ("train", "animal01"), ("test", "animal02")):
        (tmp_path / split).mkdir(exist_ok=True)
        (tmp_path / split / animal).symlink_to(animals / animal)
    by_folder, _ = divided(tmp_path)
    by_pattern, _ = divided(tmp_path, "data.pattern={split}/{identity}/*.png")
    assert counts(by_folder) == counts(by_pattern) == {"train": 8, "query": 2, "gallery": 2}
    assert by_folder == by_pattern


def test_a_table_renames_columns_and_names_test(animals, tmp_path):
    rows = ["file,name,part"]
    for path in sorted(animals.rglob("*.png")):
        part = "test" if path.parent.name > "animal08" else "train"
        rows.append(f"{path.relative_to(animals)},{path.parent.name},{part}")
    table = tmp_path / "images.csv"
    table.write_text("\n".join(rows) + "\n")

    source = ("data.source=table", f"data.images={animals}")
    names = "data.columns={path: file, identity: name, split: part}"
    records, _ = divided(table, *source, names)
    assert counts(records) == {"train": 36, "query": 6, "gallery": 6}

    names = "data.columns={path: file, identity: name}"
    records, _ = divided(table, *source, names, "data.test=0.25")
    assert counts(records) == {"train": 36, "query": 6, "gallery": 6}


def test_later_images_are_searched_among_earlier_ones(animals):
    pattern = "data.pattern={identity}/{time}_c{camera}*.png"
    records, _ = divided(animals, "data.test=0.5", pattern, "data.since=2024-03-01")
    assert counts(records) == {"train": 24, "query": 12, "gallery": 12}
    assert all(r.extra["time"] >= "2024-03-01" for r in records if r.split == "query")
    assert all(r.extra["time"] < "2024-03-01" for r in records if r.split == "gallery")

    day = "data.pattern={identity}/{day}_c{camera}*.png"
    same = ("data.test=0.5", day, "data.since=2024-03-01", "data.time_column=day")
    assert counts(divided(animals, *same)[0]) == counts(records)


def test_who_was_not_seen_before_is_a_distractor(animals, tmp_path):
    rows = ["path,identity,split,time"]
    for name, day in (("animal00", 0), ("animal00", 2), ("animal01", 3)):
        rows.append(f"{name}/{DAYS[day]}_c{day % 2 + 1}.png,{name},test,{DAYS[day]}")
    rows += [f"animal02/{day}_c{n % 2 + 1}.png,animal02,train," for n, day in enumerate(DAYS)]
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    source = ("data.source=table", f"data.images={animals}", "data.since=2024-02-20")
    records, _ = divided(tmp_path / "table.csv", *source)
    assert identities(records, "query") == {"animal00"}
    assert identities(records, "gallery") == {"animal00", "animal01"}


def test_unknown_individuals_are_gallery_images_alone(animals):
    records, found = divided(animals, "data.test=0.25", "data.unknown=animal03")
    unknown = [record for record in records if record.identity == "animal03"]
    assert counts(unknown) == {"gallery": 4}
    assert counts(records) == {"train": 32, "query": 6, "gallery": 10}
    assert found == {}


def test_unknown_individuals_of_other_splits_are_left_out_and_counted(animals, tmp_path):
    for split, animal in (
        ("train", "animal00"),
        ("train", "unknown"),
        ("query", "animal01"),
        ("query", "unknown"),
        ("gallery", "animal01"),
        ("gallery", "unknown"),
    ):
        folder = tmp_path / split / animal
        folder.mkdir(parents=True)
        source = animals / animal.replace("unknown", "animal09")
        for path in sorted(source.glob("*.png"))[:2] if split == "query" else source.glob("*.png"):
            name = path.name if split != "query" else f"q{path.name}"
            pixels = Image.open(path)
            pixels.putpixel((0, 0), (len(split), 0, 0))
            pixels.save(folder / name)
    records, found = divided(tmp_path, "data.unknown=unknown")
    assert counts(records) == {"train": 4, "query": 2, "gallery": 8}
    assert found == {"unknown_individuals_left_out": 6}


def write(folder, *splits):
    for number, split in enumerate(splits):
        for name in ("a", "b"):
            path = folder / split / f"id{number}" / f"{name}.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8), (number, ord(name), 0)).save(path)
            path = path.rename(folder / split / f"id{number}" / f"{name}{number}.png")
            path.parent.rename(folder / split / f"id{number}{name}")
    return folder


@pytest.mark.parametrize(
    ("splits", "changes", "problem"),
    [
        (("train", "query", "gallery"), ("data.test=0.5",), r"already has test images \(gallery,"),
        (("train", "query"), (), "gallery"),
        (("train", "query", "gallery"), ("data.since=2024-01-01",), "already has queries"),
        (("train", "query", "gallery"), ("data.unknown=bob",), "no image has the identity 'bob'"),
    ],
)
def test_what_fits_no_splits_is_explained(tmp_path, splits, changes, problem):
    with pytest.raises(ValueError, match=problem):
        divided(write(tmp_path, *splits), *changes)


@pytest.mark.parametrize(
    ("splits", "problem"),
    [
        (("train", "", "test"), r"1 of 3 images have no split \(.*1\.png, \.\.\.\)"),
        (("train", "dev", "test"), "dev is no split; the names of splits are train, val,"),
    ],
)
def test_unclear_splits_of_a_table_are_explained(tmp_path, splits, problem):
    rows = [f"{number}.png,{number},{split}" for number, split in enumerate(splits)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,identity,split", *rows]) + "\n")
    with pytest.raises(ValueError, match=problem):
        divided(table, "data.source=table")
