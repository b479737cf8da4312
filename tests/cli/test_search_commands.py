"""From a folder of photographs to answers on the command line."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from clipreid_kit.cli.main import main
from clipreid_kit.cli.search import _json, _table
from clipreid_kit.clip import ClipTowers, save_towers
from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import Encoder, GalleryIndex, SearchResult


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "towers"
    save_towers(ClipTowers.from_open_clip("reid-tiny-vit", image_size=(16, 16)), folder)
    return str(folder)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two identities from three cameras: ``rex_c0.png`` to ``tom_c2.png``, and one in a folder."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    (folder / "2026").mkdir()
    names = [f"{name}_c{camera}.png" for name in ("rex", "tom") for camera in range(3)]
    for name in [*names, "2026/ann_c0.png"]:
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory, model, photos):
    store = tmp_path_factory.mktemp("index") / "gallery.index"
    assert main(["index", "build", str(store), model, str(photos)]) == 0
    return str(store)


def answer(capsys, *arguments):
    """Exit status, printed lines and error of the program."""
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_photographs_without_identities(built, photos, capsys):
    status, out, _ = answer(capsys, "search", built, photos / "tom_c1.png", "-k", "2")
    assert status == 0
    first, second = out.splitlines()
    assert first == f"  1  1.0000  .  {photos / 'tom_c1.png'}"
    assert second.startswith("  2  ")

    status, out, _ = answer(capsys, "search", built, "--text", "a dog", "--json")
    (found,) = json.loads(out)
    assert found["query"] == "a dog"
    assert len(found["hits"]) == 7
    assert found["hits"][0].keys() >= {"rank", "key", "similarity", "path", "identity", "camera"}
    assert {hit["identity"] for hit in found["hits"]} == {".", "2026"}


def test_an_index_is_built_changed_and_searched(tmp_path, model, photos, capsys):
    store = tmp_path / "gallery.index"
    pattern = ("--pattern", "{identity}_c{camera}.png", "--on-error", "skip")
    (tmp_path / "some").mkdir()
    for name in ("rex_c0.png", "rex_c1.png", "tom_c2.png"):
        (tmp_path / "some" / name).write_bytes((photos / name).read_bytes())
    (tmp_path / "some" / "cut_c0.png").write_bytes(b"not an image")

    status, out, err = answer(capsys, "index", "build", store, model, tmp_path / "some", *pattern)
    assert status == 0
    assert out == f"{store}: 3 images, 128 dimensions\n"
    assert err.startswith("left out: load_image: cannot read ")
    assert "cut_c0.png" in err
    _, _, err = answer(capsys, "index", "build", tmp_path / "other", model, tmp_path / "some")
    assert err.endswith("--on-error skip leaves out such images, and names them.\n")

    status, out, _ = answer(capsys, "index", "add", store, photos / "rex_c2.png")
    assert (status, out) == (0, f"{store}: 1 added, with keys 3 to 3; 4 in all\n")
    status, out, _ = answer(capsys, "index", "add", store, photos / "rex_c2.png")
    assert (status, out) == (0, f"{store}: nothing added; 1 were there already\n")

    where = ("--where", "camera=1,2", "--where", "identity!=tom")
    status, out, _ = answer(capsys, "search", store, photos / "rex_c0.png", *where, "--json")
    assert [hit["key"] for hit in json.loads(out)[0]["hits"]] == [1]

    status, out, _ = answer(
        capsys, "search", store, photos / "tom_c2.png", "--by-identity", "--json", "-k", "2"
    )
    assert len({hit["identity"] for hit in json.loads(out)[0]["hits"]}) == 2

    status, out, _ = answer(
        capsys, "index", "remove", store, "--where", "identity=rex", "--compact"
    )
    assert (status, out) == (0, f"{store}: 2 removed; 2 in all\n")
    status, out, _ = answer(capsys, "index", "remove", store, "--key", "3")
    assert (status, out) == (0, f"{store}: 1 removed; 1 in all\n")

    status, out, _ = answer(capsys, "index", "info", store, "--json", "--verify")
    facts = json.loads(out)
    assert (facts["num_images"], facts["num_removed"]) == (1, 1)
    assert facts["encoder"]["path"] == model
    status, out, _ = answer(capsys, "index", "info", store)
    assert "num_images    1\n" in out
    assert "approximate   none\n" in out
    assert f"path {model}" in out


def test_approximate_search_and_what_it_loses(tmp_path, model, photos, capsys):
    store = tmp_path / "gallery.index"
    pattern = ("--pattern", "{identity}_c{camera}.png")
    some = tmp_path / "some"
    shutil.copytree(photos, some, ignore=shutil.ignore_patterns("2026"))
    assert main(["index", "build", str(store), model, str(some), *pattern]) == 0
    query = photos / "rex_c0.png"
    status, _, err = answer(capsys, "search", store, query, "--approximate")
    assert status == 1
    assert "has no approximate structure" in err

    assert answer(capsys, "index", "approximate", store, "HNSW8")[:2] == (0, f"{store}: HNSW8\n")
    exact = answer(capsys, "search", store, query, "-k", "3", "--json")
    assert answer(capsys, "search", store, query, "-k", "3", "--json", "--approximate") == exact

    status, out, _ = answer(capsys, "index", "recall", store)
    assert status == 0
    assert out.splitlines()[1].split()[:2] == ["recall@6", "100.00"]
    status, out, _ = answer(capsys, "index", "recall", store, some, *pattern, "-k", "3")
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["recall@3"] + ["Rank-1,"] * 3 + [
        "mAP@3,"
    ] * 3

    status, _, err = answer(capsys, "index", "approximate", store, "nonsense")
    assert status == 1
    assert err.startswith("error: GalleryIndex.build_approximate: faiss cannot build 'nonsense'")
    status, out, _ = answer(capsys, "index", "approximate", store, "none")
    assert out == f"{store}: no approximate structure\n"


def test_an_index_in_milvus(tmp_path, model, photos, capsys):
    pytest.importorskip("pymilvus", reason="pip install clipreid_kit[milvus]")
    store = f"milvus:{tmp_path}/gallery.db"
    status, out, _ = answer(capsys, "index", "build", store, model, photos)
    assert (status, out) == (0, f"{store}: 7 images, 128 dimensions\n")
    status, out, _ = answer(capsys, "search", store, photos / "tom_c1.png", "-k", "1")
    assert out == f"  1  1.0000  .  {photos / 'tom_c1.png'}\n"
    status, out, _ = answer(capsys, "index", "remove", store, "--where", "identity=2026")
    assert (status, out) == (0, f"{store}: 1 removed; 6 in all\n")
    assert answer(capsys, "index", "info", store, "--verify")[0] == 0
    status, out, _ = answer(capsys, "index", "reembed", store, model)
    assert (status, out.split(",")[0]) == (0, f"{store}: 6 images")

    status, _, err = answer(capsys, "index", "info", f"milvus:{tmp_path}/other.db")
    assert status == 1
    assert err == (
        f"error: milvus:{tmp_path}/other.db: there is no index. Build one with "
        "GalleryIndex.build(store=...).\n"
    )


def test_reembed(tmp_path, model, photos, capsys):
    store = tmp_path / "gallery.index"
    assert main(["index", "build", str(store), model, str(photos)]) == 0
    other = tmp_path / "other"
    save_towers(ClipTowers.from_open_clip("reid-tiny-vit", image_size=(16, 16), seed=1), other)
    status, out, _ = answer(capsys, "index", "reembed", store, other)
    fingerprint = Encoder.open(other).fingerprint
    assert (status, out) == (0, f"{store}: 7 images, now of the model {fingerprint}\n")
    assert GalleryIndex.open(store).info().fingerprint == fingerprint


def test_calibrated_hits(tmp_path, model, capsys):
    """Near copies of six images are their own identities."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(6):
        colour = rng.integers(0, 256, (9, 9, 3))
        for camera in range(3):
            pixels = np.clip(colour + rng.integers(-3, 4, colour.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}_c{camera}.png")

    store, pattern = tmp_path / "gallery.index", ("--pattern", "{identity}_c{camera}.png")
    photos = tmp_path / "photos"
    assert answer(capsys, "index", "build", store, model, photos, *pattern)[0] == 0
    options = ("--method", "logistic", "--false-positive-rate", "0.05", "--across-cameras")
    status, out, _ = answer(capsys, "calibrate", store, photos, *pattern, *options)
    assert status == 0
    assert out.startswith("threshold 0.")

    options = (*options, "--per-camera-pair", "--figure", tmp_path / "reliability.svg")
    status, out, _ = answer(capsys, "calibrate", store, photos, *pattern, *options)
    assert status == 0
    assert out.splitlines()[-1].startswith("1 and 2        the common one: 6 pairs")
    assert (tmp_path / "reliability.svg").read_text().startswith("<?xml")

    status, out, _ = answer(capsys, "search", store, photos / "0_c0.png", "-k", "3", "--json")
    (found,) = json.loads(out)
    assert found["unknown"] is False
    assert {hit["identity"] for hit in found["hits"]} == {"0"}
    assert all(hit["probability"] > 0.3 for hit in found["hits"])


def test_a_stranger_is_unknown():
    result = SearchResult(
        rows=np.array([[3]]),
        keys=np.array([[3]]),
        similarities=np.array([[0.25]]),
        records=[[ImageRecord("a.jpg", "rex", camera=2)]],
        probabilities=np.array([[0.02]]),
        is_unknown=np.array([True]),
    )
    assert _table(["b.jpg"], result).splitlines() == [
        "unknown: no image is similar enough; the nearest are",
        "  1  0.2500    2 %  rex  camera 2  a.jpg",
    ]
    (found,) = json.loads(_json(["b.jpg"], result))
    assert found["unknown"] is True
    assert found["hits"][0]["probability"] == 0.02


def test_several_queries(built, photos, capsys):
    queries = [photos / "rex_c0.png", photos / "rex_c1.png"]
    status, out, _ = answer(capsys, "search", built, *queries, "-k", "1")
    assert status == 0
    options = [f"--image={query}" for query in queries]
    assert answer(capsys, "search", built, *options, "-k", "1") == (0, out, "")
    assert [line for line in out.splitlines() if line.endswith(":")] == [f"{q}:" for q in queries]
    status, out, _ = answer(capsys, "search", built, *queries, "--combine", "max", "--json")
    assert [found["query"] for found in json.loads(out)] == ["all queries"]

    status, out, _ = answer(capsys, "search", built, photos / "rex_c0.png", "--where", "identity=x")
    assert (status, out) == (0, "nothing meets the conditions\n")


def test_search_leaves_out_a_camera_and_looks_twice(tmp_path, model, photos, capsys):
    store = tmp_path / "gallery.index"
    table = tmp_path / "photos.csv"
    days = {0: "2026-01-31T23:00:00", 1: "2026-02-01", 2: "2026-02-28T12:00:00"}
    rows = [f"{photos}/{n}_c{c}.png,{n},{c},{days[c]}" for n in ("rex", "tom") for c in days]
    table.write_text("\n".join(["path,identity,camera,taken", *rows]))
    assert main(["index", "build", str(store), model, str(table)]) == 0

    def cameras(*arguments):
        status, out, _ = answer(
            capsys, "search", store, photos / "rex_c0.png", "--json", *arguments
        )
        assert status == 0
        return {hit["camera"] for hit in json.loads(out)[0]["hits"]}

    assert cameras() == {0, 1, 2}
    assert cameras("--not-camera", "1") == {0, 2}
    assert cameras("--not-camera", "roof") == {0, 1, 2}
    assert cameras("--where", "taken=2026-02-01..") == {1, 2}
    assert cameras("--where", "taken=..2026-01-31") == {0}
    assert cameras("--where", "taken=2026-02-01..2026-02-28T11:00") == {1}
    assert cameras("--expand", "2", "--rerank", "4", "-k", "6") == {0, 1, 2}

    plain, again = [
        answer(capsys, "search", store, photos / "rex_c0.png", "-k", "1", *options)[1]
        for options in ((), ("--expand", "3"))
    ]
    assert plain.startswith("  1  1.0000")
    assert not again.startswith("  1  1.0000")
    status, _, error = answer(capsys, "search", store, "--text", "x", "--not-camera", "1")
    assert (status, "a sentence has none" in error) == (2, True)


def test_an_empty_gallery(tmp_path, model, photos, capsys):
    store = tmp_path / "gallery.index"
    assert main(["index", "build", str(store), model, str(photos / "rex_c0.png")]) == 0
    assert main(["index", "remove", str(store), "--key", "0"]) == 0
    for arguments in (["search", store, "--text", "x"], ["index", "recall", store]):
        status, _, error = answer(capsys, *arguments)
        assert (status, error.count("\n")) == (1, 1)
        assert "the index holds 0 images; add some first" in error


def test_embed(tmp_path, model, photos, capsys):
    out_file = tmp_path / "features.npz"
    status, out, _ = answer(capsys, "embed", model, photos, out_file)
    assert status == 0
    assert out.startswith(f"{out_file}: 7 images, model ")
    with np.load(out_file) as arrays:
        assert arrays["embeddings"].shape == (7, 128)
        assert sorted(set(arrays["ids"].tolist())) == [".", "2026"]
        assert "cameras" not in arrays

    table = tmp_path / "records.csv"
    rows = [
        f"{photos}/{name}_c{n}.png,{name},{s}"
        for name in ("rex", "tom")
        for n, s in enumerate(["query", "gallery", "train"])
    ]
    table.write_text("\n".join(["path,identity,split", *rows]))
    arguments = ("embed", model, table, tmp_path / "folder")
    assert answer(capsys, *arguments, "--split", "query", "--split", "gallery")[0] == 0
    names = sorted(path.name for path in (tmp_path / "folder").iterdir())
    assert names == [
        "columns.npz",
        "encoder.json",
        "gallery_embeddings.npy",
        "query_embeddings.npy",
        "records.csv",
    ]


def test_mistakes_are_errors_of_one_line(built, model, photos, tmp_path, capsys):
    table = tmp_path / "t.csv"
    table.write_text("path,identity,split\na.png,1,train\n")
    for arguments, status, words in [
        (["search", built], 2, "pass images, or --text, one of the two"),
        (["search", built, photos / "gone.png"], 1, "there is no such file"),
        (["search", built, photos], 1, "is a folder; name the images in it"),
        (["search", photos / "x.index", "--text", "a"], 1, "x.index MODEL IMAGES` makes one"),
        (["index", "info", photos], 1, f"is not an index. `clipreid index build {photos}.index"),
        (["search", built, "a red coat"], 1, 'by a sentence, write --text "a red coat"'),
        (["search", built, "a" * 300], 1, "there is no such file: aaa"),
        (["search", built, photos / "rex_c0.png", "--text", "x"], 2, "one of the two"),
        (["search", built, "--image", "x.png", "--milvus-token-file", table], 1, "no effect"),
        (["index", "info", built, "--milvus-token-file", table], 1, "not on a server of Milvus"),
        (["search", tmp_path, "--text", "x"], 1, "is not an index"),
        (["search", built, "--text", ""], 1, "the text is empty. Write a sentence"),
        (["search", built, "--text", "a coat", "--text", "  "], 1, "text 1 is empty"),
        (["search", built, "--text", "x", "--where", "camera"], 2, "write COLUMN=VALUE"),
        (["search", built, "--text", "x", "--where", "a=1", "--where", "a=2"], 2, "another condit"),
        (["search", built, "--text", "x", "--where", "camra=1"], 1, "camera"),
        (["index", "build", built, model, photos], 1, "exists. Choose another store"),
        (["index", "build", tmp_path / "i", "nowhere", photos], 1, "there is no nowhere"),
        (["index", "remove", built], 2, "pass --key or --where"),
        (["index", "remove", built, "--key", "99"], 1, "the index has no image with key 99"),
        (["embed", model, table, tmp_path / "o", "--split", "test"], 1, "it has train"),
        (["embed", model, table, tmp_path / "o", "--pattern", "{identity}.png"], 1, "is a table"),
        (["embed", model, tmp_path, tmp_path / "o"], 1, "is an image"),
        (["embed", model, photos, tmp_path / "o", "--device", "moon"], 2, "--device moon: "),
        (["embed", model, photos, tmp_path / "o", "--device", "xpu"], 2, "--device xpu: "),
        (["search", built, "--text", "x", "--approximate"], 1, f"index approximate {built} HNSW32"),
        (["index", "recall", built], 1, f"index approximate {built} HNSW32` builds one"),
        (["index", "duplicates", built, "--min-similarity", "2"], 2, "'--min-similarity'"),
    ]:
        code, _, error = answer(capsys, *arguments)
        assert (code, words in error, error.count("\n")) == (status, True, 1), (arguments, error)


def test_the_first_argument_is_blamed_first(built, model, tmp_path, capsys):
    gone = tmp_path / "gone"
    for arguments, words in [
        (["search", gone, "x.jpg"], "there is no index"),
        (["index", "add", gone, "images"], "there is no index"),
        (["index", "build", built, "model", "images"], f"{built} exists"),
        (["index", "build", gone, "nowhere", "images"], "there is no nowhere"),
        (["index", "build", gone, model, "images"], "there is nothing at images"),
        (["index", "reembed", gone, "nowhere"], "there is no index"),
        (["embed", "nowhere", "images", gone], "there is no nowhere"),
        (["calibrate", gone, "images", "--figure", tmp_path], "there is no index"),
        (["discover", gone, "--out", tmp_path], "there is no index"),
        (["export", gone, tmp_path], f"{gone} is no run"),
        (["compare", gone, tmp_path, "--test"], f"there is no {gone}"),
    ]:
        code, _, error = answer(capsys, *arguments)
        assert (code, words in error, error.count("\n")) == (1, True, 1), (arguments, error)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--combine", "max", "--expand", "2"], "--expand and --rerank do not go with --combine"),
        (["--combine", "max", "--rerank", "2"], "--expand and --rerank do not go with --combine"),
        (
            ["--combine", "mean", "--not-camera", "1"],
            "--not-camera does not go with --combine mean",
        ),
    ],
)
def test_options_that_do_not_go_together(built, photos, options, words, capsys):
    code, _, error = answer(capsys, "search", built, photos / "rex_c0.png", *options)
    assert (code, words in error) == (2, True), error


@pytest.mark.parametrize(
    "command",
    [
        ["embed"],
        ["search"],
        ["calibrate"],
        ["discover"],
        ["index", "build"],
        ["index", "add"],
        ["index", "remove"],
        ["index", "info"],
        ["index", "duplicates"],
        ["index", "reembed"],
    ],
)
def test_help_has_an_example(command, capsys):
    status, out, _ = answer(capsys, *command, "--help")
    assert status == 0
    assert f"Example: clipreid {' '.join(command)} " in " ".join(out.split())
