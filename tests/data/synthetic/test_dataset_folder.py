import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from clipreid_kit.data.synthetic import SyntheticReid, _dataset_folder

COLUMNS = ["path", "identity", "camera", "view", "caption", "split"]


def small(seed=0, **changes):
    options = {"num_cameras": 2, "views_per_camera": 2, "image_size": (32, 40)}
    return SyntheticReid(4, seed=seed, **(options | changes))


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_written_images_are_the_rendered_ones(tmp_path):
    data = small()
    records = data.write(tmp_path / "new" / "set")
    assert len(records) == 16

    for record in records:
        drawn = data.render(record.identity, record.camera, int(record.view))
        with Image.open(record.path) as written:
            assert written.format == "PNG"
            np.testing.assert_array_equal(np.asarray(written), np.asarray(drawn))


def test_the_table_lists_every_image(tmp_path):
    data = small()
    data.write(tmp_path)

    with (tmp_path / "records.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS

    for row, record in zip(rows, data.records(), strict=True):
        assert row == {column: str(getattr(record, column)) for column in COLUMNS}
        assert (tmp_path / row["path"]).is_file()


def test_no_temporary_file_remains(tmp_path):
    small().write(tmp_path)

    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["images", "records.csv", "synthetic.json"]
    assert len(list((tmp_path / "images").iterdir())) == 16


def test_a_complete_folder_is_used_without_drawing(tmp_path):
    first = small().write(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    drawn = []
    again = small().write(str(tmp_path), progress=lambda done, total: drawn.append(done))

    assert again == first
    assert drawn == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_progress_counts_to_the_end(tmp_path):
    calls = []
    small().write(tmp_path, progress=lambda done, total: calls.append((done, total)))

    assert calls == [(done, 16) for done in range(1, 17)]


def test_two_processes_write_the_same_and_leave_the_global_generator_alone(tmp_path):
    small().write(tmp_path / "one")
    before = torch.get_rng_state()

    calls = []
    data = small()
    data.write(tmp_path / "two", workers=2, progress=lambda done, total: calls.append(done))

    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert calls == list(range(1, 17))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("cores", "images", "workers"), [(4, 1000, 4), (4, 999, 0), (1, 5000, 0)])
def test_processes_draw_where_images_are_many(monkeypatch, cores, images, workers):
    monkeypatch.setattr(_dataset_folder, "usable_cores", lambda: cores)
    assert _dataset_folder._workers_that_pay(images) == workers


def test_a_negative_number_of_processes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="write: expected workers as a whole number >= 0, got -1"):
        small().write(tmp_path / "set", workers=-1)
    assert not (tmp_path / "set").exists()


def test_an_interrupted_write_is_recognised_and_finished(tmp_path):
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    small().write(whole)

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small().write(interrupted, progress=stop)
    assert not (interrupted / "records.csv").exists()
    assert len(list((interrupted / "images").iterdir())) == 5

    resumed = []
    small().write(interrupted, progress=lambda done, total: resumed.append(done))
    assert resumed == list(range(6, 17))
    assert contents(interrupted) == contents(whole)


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
    table = tmp_path / "records.csv"

    table_exists = []
    small().write(tmp_path, progress=lambda done, total: table_exists.append(table.exists()))

    assert table_exists == [False]
    assert table.exists()


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")

    text = r"SyntheticReid\.write: .* holds other files \(thesis\.txt\) and no synthetic\.json"
    with pytest.raises(ValueError, match=text):
        small().write(tmp_path)

    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_only_a_few_foreign_files_are_named(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text(name)

    with pytest.raises(ValueError, match=r"\(a\.txt, b\.txt, c\.txt \.\.\.\)"):
        small().write(tmp_path)


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

    with pytest.raises(ValueError, match=rf"this data set has {named}.*Name another folder"):
        small(**changes).write(tmp_path)

    assert contents(tmp_path) == before


@pytest.mark.parametrize("text", ["{", "[]", '{"generator": "another"}', ""])
def test_a_damaged_or_foreign_parameter_file_is_refused(tmp_path, text):
    (tmp_path / "synthetic.json").write_text(text)

    with pytest.raises(
        ValueError, match=r"SyntheticReid\.write: .*(is not valid JSON|written with)"
    ):
        small().write(tmp_path)

    assert contents(tmp_path) == {"synthetic.json": text.encode()}


def test_an_added_parameter_is_refused(tmp_path):
    small().write(tmp_path)
    parameters = tmp_path / "synthetic.json"
    parameters.write_text(json.dumps(json.loads(parameters.read_text()) | {"weather": "rain"}))

    with pytest.raises(ValueError, match=r"parameters that are unknown here \(weather\)"):
        small().write(tmp_path)


def test_an_edited_table_is_neither_used_nor_overwritten(tmp_path):
    small().write(tmp_path)
    table = tmp_path / "records.csv"
    table.write_text(table.read_text().replace("query", "train"))
    edited = table.read_bytes()

    with pytest.raises(ValueError, match=r"records\.csv was changed since it was written"):
        small().write(tmp_path)

    assert table.read_bytes() == edited


def test_a_kill_before_the_first_file_leaves_a_folder_that_can_be_used(tmp_path):
    (tmp_path / "synthetic.json.123.tmp").write_text("{")

    assert len(small().write(tmp_path)) == 16
