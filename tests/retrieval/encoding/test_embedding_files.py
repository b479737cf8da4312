"""Embeddings in files: what is in them, and what a kill leaves."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny_towers import tiny_towers

from clipreid_kit.data import ImageRecord, read_table
from clipreid_kit.evaluate import main as evaluate_features
from clipreid_kit.retrieval import Encoder, write_embeddings


@pytest.fixture(scope="module")
def encoder():
    return Encoder(tiny_towers(image_size=(16, 16)), batch_size=2)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    records = []
    for number in range(8):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path)
        split = "query" if number < 3 else "gallery"
        records.append(ImageRecord(str(path), number % 3, camera=number % 2, split=split))
    return records


def test_one_file(encoder, records, tmp_path):
    written = write_embeddings(encoder, records, tmp_path / "features.npz", part_size=3)
    assert (written.num_images, written.num_resumed, written.skipped) == (8, 0, ())
    assert written.fingerprint == encoder.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["features.npz"]

    with np.load(written.path) as arrays:
        whole = encoder.encode_images(records).numpy()
        assert np.array_equal(arrays["query_embeddings"], whole[:3])
        assert np.array_equal(arrays["gallery_embeddings"], whole[3:])
        assert arrays["query_ids"].tolist() == [0, 1, 2]
        assert arrays["gallery_cameras"].tolist() == ["1", "0", "1", "0", "1"]
        assert arrays["query_paths"].tolist() == [record.path for record in records[:3]]


def test_a_folder_holds_the_same_and_is_evaluated_alike(encoder, records, tmp_path):
    write_embeddings(encoder, records, tmp_path / "features.npz")
    write_embeddings(encoder, records, tmp_path / "features", part_size=2)

    with np.load(tmp_path / "features.npz") as arrays:
        for side in ("query", "gallery"):
            mapped = np.load(tmp_path / "features" / f"{side}_embeddings.npy", mmap_mode="r")
            assert np.array_equal(mapped, arrays[f"{side}_embeddings"])
    assert read_table(tmp_path / "features" / "records.csv") == records
    facts = json.loads((tmp_path / "features" / "encoder.json").read_text())
    assert facts["fingerprint"] == encoder.fingerprint

    results = []
    for source in ("features.npz", "features"):
        out = tmp_path / "result.json"
        assert evaluate_features([str(tmp_path / source), "--json", str(out)]) == 0
        results.append(json.loads(out.read_text())["result"])
    assert results[0] == results[1]


def test_one_set(encoder, records, tmp_path):
    unsplit = [replace(record, split=None, camera=None) for record in records]
    write_embeddings(encoder, unsplit, tmp_path / "features.npz")
    with np.load(tmp_path / "features.npz") as arrays:
        assert sorted(arrays) == ["embeddings", "ids", "paths"]

    write_embeddings(encoder, [replace(r, split="train") for r in records], tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as arrays:
        assert sorted(arrays) == ["cameras", "embeddings", "ids", "paths"]


class Killed(BaseException):
    pass


def test_a_kill_loses_one_part_at_most(encoder, records, tmp_path, monkeypatch):
    target = tmp_path / "features.npz"
    original, calls = Encoder.encode_records, []

    def dying(self, part, **options):
        calls.append(len(part))
        if len(calls) == 3:
            raise Killed
        return original(self, part, **options)

    monkeypatch.setattr(Encoder, "encode_records", dying)
    with pytest.raises(Killed):
        write_embeddings(encoder, records, target, part_size=2)
    assert not target.exists()

    written = write_embeddings(encoder, records, target, part_size=2)
    assert written.num_resumed == 4
    assert calls == [2, 2, 2, 2, 2]
    with np.load(target) as arrays:
        rows = np.concatenate([arrays["query_embeddings"], arrays["gallery_embeddings"]])
        assert np.array_equal(rows, encoder.encode_images(records).numpy())


def test_parts_of_another_job_are_not_taken(encoder, records, tmp_path, monkeypatch):
    target = tmp_path / "features.npz"
    parts = tmp_path / "features.npz.parts"

    def dying(*_, **__):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Encoder, "encode_records", dying)
        with pytest.raises(Killed):
            write_embeddings(encoder, records, target)

    with pytest.raises(ValueError, match=r"features\.npz\.parts holds parts of another job"):
        write_embeddings(encoder, records[:4], target)
    (parts / "job.json").write_text("[")
    with pytest.raises(ValueError, match=r"features\.npz\.parts are damaged .*start again"):
        write_embeddings(encoder, records, target)


def test_skipped_images_are_named_also_after_a_resume(encoder, records, tmp_path):
    odd = [*records[:3], ImageRecord(str(tmp_path / "gone.png"), 9, camera=1, split="gallery")]
    with pytest.raises(ValueError, match=r"cannot read .*gone\.png"):
        write_embeddings(encoder, odd, tmp_path / "a.npz", part_size=2)

    written = write_embeddings(encoder, odd, tmp_path / "b.npz", part_size=2, on_error="skip")
    assert [item.path for item in written.skipped] == [str(tmp_path / "gone.png")]
    assert written.num_images == 3


def test_mistakes(encoder, records, tmp_path):
    (tmp_path / "a.npz").write_text("")
    with pytest.raises(ValueError, match=r"a\.npz exists\. Delete it, or choose another name"):
        write_embeddings(encoder, records, tmp_path / "a.npz")
    (tmp_path / "link.npz").symlink_to(tmp_path / "nothing.npz")
    with pytest.raises(ValueError, match=r"link\.npz exists"):
        write_embeddings(encoder, records, tmp_path / "link.npz")
    with pytest.raises(ValueError, match="there are no records"):
        write_embeddings(encoder, [], tmp_path / "b.npz")
