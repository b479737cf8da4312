import csv
import json

import numpy as np
import pytest
from PIL import Image

from clipreid_kit.data.synthetic import SyntheticReid


def small(seed=0, **changes):
    options = {"num_cameras": 2, "views_per_camera": 2, "image_size": (32, 40)}
    return SyntheticReid(4, seed=seed, **(options | changes))


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_is_written_is_what_is_drawn(tmp_path):
    data = small()
    records = data.write(tmp_path / "new" / "set")
    assert len(records) == 16
    for record in records:
        with Image.open(record.path) as picture:
            assert picture.format == "PNG"
            drawn = data.render(record.identity, record.camera, int(record.view))
            np.testing.assert_array_equal(np.asarray(picture), np.asarray(drawn))


def test_the_table_lists_every_image(tmp_path):
    data = small()
    data.write(tmp_path)
    with (tmp_path / "records.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "identity", "camera", "view", "caption", "split"]
    expected = [
        {
            name: str(getattr(record, name))
            for name in ("path", "identity", "camera", "view", "caption", "split")
        }
        for record in data.records()
    ]
    assert rows == expected
    assert all((tmp_path / row["path"]).is_file() for row in rows)


def test_nothing_temporary_stays(tmp_path):
    small().write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "images",
        "records.csv",
        "synthetic.json",
    ]
    assert len(list((tmp_path / "images").iterdir())) == 16


def test_a_complete_folder_is_used_without_drawing(tmp_path):
    first = small().write(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    drawn = []
    assert small().write(str(tmp_path), progress=lambda done, total: drawn.append(done)) == first
    assert drawn == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_progress_counts_to_the_end(tmp_path):
    calls = []
    small().write(tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 16) for done in range(1, 17)]


def test_an_interrupted_write_is_seen_and_finished(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    small().write(whole)

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small().write(cut, progress=stop)
    assert not (cut / "records.csv").exists()
    assert len(list((cut / "images").iterdir())) == 5
    resumed = []
    small().write(cut, progress=lambda done, total: resumed.append(done))
    assert resumed == list(range(6, 17))
    assert contents(cut) == contents(whole)


def test_a_lost_or_empty_image_is_drawn_again(tmp_path):
    small().write(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "images" / "0001_c0_v1.png").unlink()
    (tmp_path / "images" / "0002_c1_v0.png").write_bytes(b"")
    drawn = []
    small().write(tmp_path, progress=lambda done, total: drawn.append(done))
    assert drawn == [15, 16]
    assert contents(tmp_path) == before


def test_while_lost_images_are_drawn_the_folder_counts_as_incomplete(tmp_path):
    small().write(tmp_path)
    (tmp_path / "images" / "0001_c0_v1.png").unlink()
    seen = []
    small().write(
        tmp_path, progress=lambda done, total: seen.append((tmp_path / "records.csv").exists())
    )
    assert seen == [False]
    assert (tmp_path / "records.csv").exists()


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(
        ValueError, match=r"SyntheticReid\.write: expected a new or empty folder.*thesis\.txt"
    ):
        small().write(tmp_path)
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="expected a folder, got the file"):
        small().write(tmp_path / "file")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed=1"),
        ({"image_size": (40, 32)}, r"image_size=\[40, 32\]"),
        ({"views_per_camera": 3}, "views_per_camera=3"),
        ({"split_fractions": (0.5, 0.25, 0.25)}, "split_fractions"),
    ],
)
def test_a_folder_of_other_parameters_is_refused_by_name(tmp_path, changes, named):
    small().write(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=rf"expected {named}.*Name another folder"):
        small(**changes).write(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("text", ["{", "[]", '{"generator": "another"}', ""])
def test_a_damaged_or_foreign_note_is_refused(tmp_path, text):
    (tmp_path / "synthetic.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"SyntheticReid\.write: expected .*synthetic\.json|written with"
    ):
        small().write(tmp_path)
    assert contents(tmp_path) == {"synthetic.json": text.encode()}


def test_an_added_parameter_is_refused(tmp_path):
    small().write(tmp_path)
    note = tmp_path / "synthetic.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"weather": "rain"}))
    with pytest.raises(ValueError, match="the same parameters"):
        small().write(tmp_path)


def test_an_edited_table_is_neither_used_nor_overwritten(tmp_path):
    small().write(tmp_path)
    table = tmp_path / "records.csv"
    table.write_text(table.read_text().replace("query", "train"))
    edited = table.read_bytes()
    with pytest.raises(ValueError, match=r"records\.csv as it was written, got a changed file"):
        small().write(tmp_path)
    assert table.read_bytes() == edited


def test_a_kill_before_the_first_file_leaves_a_folder_that_can_be_used(tmp_path):
    (tmp_path / "synthetic.json.123.tmp").write_text("{")
    assert len(small().write(tmp_path)) == 16
