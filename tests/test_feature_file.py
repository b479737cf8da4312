import os
import zipfile

import numpy as np
import pytest
import torch

from clipreid_kit._feature_file import FeatureFile

ROWS = np.eye(3, dtype=np.float32)


def saved(tmp_path, **arrays):
    path = tmp_path / "features.npz"
    np.savez(path, **arrays)
    return path


def test_names_and_aliases(tmp_path):
    path = saved(tmp_path, qf=ROWS, q_pids=[1, 2, 3], mine=[4, 5, 6])
    features = FeatureFile(path, {"gallery_ids": "mine"}, {})

    np.testing.assert_array_equal(features.get("query_embeddings"), ROWS)
    assert features.column("query_ids").tolist() == [1, 2, 3]
    assert features.column("gallery_ids").tolist() == [4, 5, 6]
    assert not features.has("query_cameras")

    both = FeatureFile(saved(tmp_path, query_ids=[1], q_pids=[2]), {}, {})
    assert both.column("query_ids").tolist() == [1]  # the plain name comes first


def test_single_files_are_mapped(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    features = FeatureFile(
        saved(tmp_path, ids=[1]), {}, {"gallery_embeddings": tmp_path / "rows.npy"}
    )

    assert isinstance(features.get("gallery_embeddings"), np.memmap)
    assert features.has("gallery_embeddings")


@pytest.mark.parametrize(
    ("ids", "want"),
    [
        (np.array([[3, 4, 5]]), [3, 4, 5]),
        (np.array([3.0, 4.0, 5.0]), [3, 4, 5]),
        (np.array([b"a", b"\xc3\xa4"]), ["a", "ä"]),
        (np.array(["a", "b"]), ["a", "b"]),
    ],
)
def test_columns_as_other_programs_write_them(tmp_path, ids, want):
    assert FeatureFile(saved(tmp_path, ids=ids), {}, {}).column("ids").tolist() == want


@pytest.mark.parametrize(
    ("arrays", "read", "message"),
    [
        (
            {"a": [1], "b": [2]},
            "ids",
            r"no array 'ids' \(nor labels, .*; it has: a, b. Pass --key ids=ITS_NAME.",
        ),
        (
            {"q_pids": [1], "query_pids": [2]},
            "query_ids",
            "query_pids and q_pids may all be query_ids. Pass --key",
        ),
        ({"ids": [1, 2.5]}, "ids", "ids have to be integers or names, got 2.5 in row 1"),
        ({"ids": [1, np.nan]}, "ids", "got nan in row 1"),
        (
            {"ids": np.array(["a", None], dtype=object)},
            "ids",
            "'ids' is a pickled Python object.*any code. Save plain",
        ),
    ],
)
def test_bad_arrays(tmp_path, arrays, read, message):
    features = FeatureFile(saved(tmp_path, **arrays), {}, {})
    with pytest.raises(ValueError, match=message) as error:
        features.column(read)

    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path))


def broken(path, kind):
    if kind == "no such file":
        return path.with_name("nowhere.npz")

    if kind == "this is a folder":
        return path.parent

    data = path.read_bytes()
    if kind == "broken (":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "neither .npz nor .npy":
        path.write_text("query_id,camera\n1,2\n")
    elif kind == "this is a single array (.npy)":
        np.save(path.with_suffix(".npy"), ROWS)
        return path.with_suffix(".npy")

    return path


@pytest.mark.parametrize(
    "kind",
    [
        "no such file",
        "this is a folder",
        "broken (",
        "neither .npz nor .npy",
        "this is a single array (.npy)",
    ],
)
def test_bad_files(tmp_path, kind):
    path = broken(saved(tmp_path, ids=np.arange(1000)), kind)
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the text is checked below)
        FeatureFile(path, {}, {})

    assert str(error.value).startswith(f"{path}: {kind}")
    assert "\n" not in str(error.value)


def test_damage_within_and_foreign_members(tmp_path):
    path = saved(tmp_path, ids=np.arange(1000))
    data = bytearray(path.read_bytes())
    data[600:700] = b"\x00" * 100
    path.write_bytes(bytes(data))

    with pytest.raises(ValueError, match=r"'ids' is broken .*Was the file written completely"):
        FeatureFile(path, {}, {}).get("ids")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(ValueError, match=r"'notes.txt' is not an array"):
        FeatureFile(path, {"ids": "notes.txt"}, {}).get("ids")

    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    features = FeatureFile(
        saved(tmp_path, ids=[1]), {}, {"gallery_embeddings": tmp_path / "objects.npy"}
    )

    with pytest.raises(ValueError, match="pickled Python object"):
        features.get("gallery_embeddings")

    features = FeatureFile(path, {}, {"gallery_embeddings": path})
    with pytest.raises(ValueError, match=r"this is a .npz file, but a single array"):
        features.get("gallery_embeddings")
    with pytest.raises(ValueError, match="no array 'x' for ids; it has: ids"):
        FeatureFile(path, {"ids": "x"}, {})


def test_a_file_of_torch_save_is_named(tmp_path):
    torch.save({"query_embeddings": torch.eye(2)}, tmp_path / "f.pt")
    with pytest.raises(
        ValueError, match=r"this is a file of torch\.save\. Save the arrays by nump"
    ):
        FeatureFile(tmp_path / "f.pt", {}, {})


def test_an_encrypted_array_is_named(tmp_path):
    path = saved(tmp_path, ids=[1])
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="'ids' is encrypted"):
        FeatureFile(path, {}, {}).get("ids")


@pytest.mark.skipif(os.name != "posix", reason="no pipes in folders")
def test_a_pipe_is_no_file_of_features(tmp_path):
    os.mkfifo(tmp_path / "f.npz")
    with pytest.raises(ValueError, match="cannot be read: it is a named pipe"):
        FeatureFile(tmp_path / "f.npz", {}, {})
