import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from clipreid_kit import (
    CUHK03Protocol,
    HandsProtocol,
    KReciprocalReranker,
    ReidResult,
    TextToPersonProtocol,
    TrackletProtocol,
    VehicleIDProtocol,
    evaluate_reid,
    evaluate_reid_similarity,
)
from clipreid_kit.evaluate import main

RNG = np.random.default_rng(0)
IDS = np.arange(72) % 6
ROWS = (RNG.standard_normal((6, 8))[IDS] + 1.5 * RNG.standard_normal((72, 8))).astype(np.float32)
CAMERAS = RNG.integers(0, 3, 72)
SIDES = {
    "query_embeddings": ROWS[:12],
    "gallery_embeddings": ROWS[12:],
    "query_ids": IDS[:12],
    "gallery_ids": IDS[12:],
    "query_cameras": CAMERAS[:12],
    "gallery_cameras": CAMERAS[12:],
}
TRACKLETS = {
    "query_tracklets": IDS[:12] * 3 + CAMERAS[:12],
    "gallery_tracklets": IDS[12:] * 3 + CAMERAS[12:],
}
NO_CAMERAS = {name: values for name, values in SIDES.items() if "cameras" not in name}


@pytest.fixture
def run(tmp_path, capsys):
    def call(arrays, *options, code=0):
        path = tmp_path / "features.npz"
        np.savez(path, **arrays)
        found = main([str(path), *options])
        out, err = capsys.readouterr()

        assert found == code, err

        return err if code else out

    return call


def as_json(run, arrays, *options):
    return json.loads(run(arrays, "--json", "-", *options))


def evaluated(**changes):
    arguments = {**SIDES, **changes}
    return evaluate_reid(
        arguments.pop("query_embeddings"), arguments.pop("gallery_embeddings"), **arguments
    )


def test_cameras_are_used_if_the_file_has_them(run):
    out = run(SIDES)
    heading = "market1501, cosine, ties pessimistic, same identity and camera left out"
    assert out == f"{heading}\n{evaluated().table()}\n"
    assert "interval" in out

    plain = evaluated(query_cameras=None, gallery_cameras=None)
    assert run(NO_CAMERAS) == f"inshop, cosine, ties pessimistic\n{plain.table()}\n"
    assert "cameras of the file not used" in run(SIDES, "--protocol", "inshop")

    alone = evaluate_reid(ROWS, query_ids=IDS)
    assert (
        run({"features": ROWS, "labels": IDS})
        == f"leave-one-out, cosine, ties pessimistic\n{alone.table()}\n"
    )

    ruled = evaluate_reid(ROWS, query_ids=IDS, query_cameras=CAMERAS)
    assert ruled.table() in run({"features": ROWS, "labels": IDS, "cameras": CAMERAS})


def test_options_change_the_numbers(run):
    assert as_json(run, SIDES)["result"] == evaluated().to_dict()
    assert as_json(run, SIDES, "--ranks", "2")["result"] == evaluated().to_dict((2,))

    found = as_json(run, SIDES, "--distance", "euclidean", "--ties", "mean")
    assert found["result"] == evaluated(distance="euclidean", ties="mean").to_dict()
    assert (found["distance"], found["ties"], found["protocol"], found["rerank"]) == (
        "euclidean",
        "mean",
        "market1501",
        None,
    )

    junk = as_json(run, SIDES, "--junk-id", "3", "--junk-id", "4")["result"]
    assert junk == evaluated(junk_ids=[3, 4]).to_dict()

    sessions = {"query_session": IDS[:12] % 2, "gallery_session": CAMERAS[12:]}
    excluded = as_json(run, {**SIDES, **sessions}, "--exclude", "session")["result"]

    assert excluded == evaluated(exclude=[tuple(sessions.values())]).to_dict()
    assert "same session left out" in run({**SIDES, **sessions}, "--exclude", "session")

    alone = as_json(
        run, {"embeddings": ROWS, "ids": IDS, "session": CAMERAS}, "--exclude", "session"
    )["result"]

    assert alone == evaluate_reid(ROWS, query_ids=IDS, exclude=[(CAMERAS, None)]).to_dict()


def test_re_ranking(run):
    import torch

    reranker = KReciprocalReranker(
        torch.from_numpy(ROWS[:12]), torch.from_numpy(ROWS[12:]), k1=7, k2=3
    )
    want = evaluate_reid_similarity(reranker, query_ids=IDS[:12], gallery_ids=IDS[12:]).to_dict()
    found = as_json(run, NO_CAMERAS, "--rerank", "--k1", "7", "--k2", "3")

    assert found["result"] == want
    assert found["rerank"] == {"k1": 7, "k2": 3, "lambda_value": 0.3}
    assert "inshop, re-ranked" in run(NO_CAMERAS, "--rerank", "--lambda-value", "0.5")


def test_drawn_galleries(run):
    found = as_json(run, SIDES, "--protocol", "cuhk03", "--splits", "3", "--seed", "5")["result"]
    arguments = {**SIDES}
    sides = arguments.pop("query_embeddings"), arguments.pop("gallery_embeddings")

    assert found == CUHK03Protocol(3, 5).evaluate(*sides, **arguments).to_dict()

    one_set = {"embeddings": ROWS, "ids": IDS}
    found = as_json(run, one_set, "--protocol", "vehicleid")["result"]

    assert found == VehicleIDProtocol().evaluate(ROWS, IDS).to_dict()

    others = {"distractor_embeddings": ROWS[::7] + 1, "distractor_ids": np.arange(11) // 2}
    found = as_json(run, {**one_set, **others}, "--protocol", "hands")["result"]

    assert found == HandsProtocol().evaluate(ROWS, IDS, **others).to_dict()
    assert "Hands without distractors, 2 random galleries" in run(
        one_set, "--protocol", "hands", "--splits", "2"
    )


def test_captions(run):
    texts = {"text_embeddings": ROWS[:9], "text_ids": IDS[:9]}
    want = TextToPersonProtocol().evaluate(
        ROWS[:9], ROWS[12:], text_ids=IDS[:9], image_ids=IDS[12:]
    )
    found = as_json(run, {**SIDES, **texts}, "--protocol", "text-to-person")
    assert found["result"] == want.to_dict()

    one_set = {"embeddings": ROWS[12:], "ids": IDS[12:], **texts}
    found = as_json(run, one_set, "--protocol", "text-to-person")
    assert found["result"] == want.to_dict()


def test_tracklets(run):
    want = TrackletProtocol().evaluate(**{**SIDES, **TRACKLETS})
    assert want.num_gallery == len(set(TRACKLETS["gallery_tracklets"].tolist()))
    assert as_json(run, {**SIDES, **TRACKLETS})["result"] == want.to_dict()

    without_junk = TrackletProtocol(junk_ids=(2,)).evaluate(**{**SIDES, **TRACKLETS})
    found = as_json(run, {**SIDES, **TRACKLETS}, "--junk-id", "2")
    assert found["result"] == without_junk.to_dict()

    want = TrackletProtocol().evaluate(**{**NO_CAMERAS, **TRACKLETS})
    assert as_json(run, {**NO_CAMERAS, **TRACKLETS})["result"] == want.to_dict()


def test_files(run, tmp_path):
    run(SIDES, "--json", str(tmp_path / "a.json"), "--per-query", str(tmp_path / "a.csv"))
    assert json.loads((tmp_path / "a.json").read_text())["result"] == evaluated().to_dict()

    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [int(row["query_id"]) for row in rows] == IDS[:12].tolist()
    assert [row["average_precision"] for row in rows] == [
        str(x) for x in evaluated().average_precision
    ]

    run(SIDES, "--per-query", str(tmp_path / "b.json"))
    whole = ReidResult.from_json((tmp_path / "b.json").read_text())
    assert whole.average_precision.tolist() == evaluated().average_precision.tolist()

    np.save(tmp_path / "q.npy", ROWS[:12])
    np.save(tmp_path / "g.npy", ROWS[12:])
    ids = {name: values for name, values in SIDES.items() if "embeddings" not in name}
    options = [
        "--query-embeddings",
        str(tmp_path / "q.npy"),
        "--gallery-embeddings",
        str(tmp_path / "g.npy"),
    ]

    assert as_json(run, ids, *options)["result"] == evaluated().to_dict()

    renamed = {"who" if name == "query_ids" else name: values for name, values in SIDES.items()}
    assert as_json(run, renamed, "--key", "query_ids=who")["result"] == evaluated().to_dict()


def test_named_identities_and_named_junk(run):
    names = {
        "query_ids": [f"{i:04d}" for i in IDS[:12]],
        "gallery_ids": ["-1"] + [f"{i:04d}" for i in IDS[13:]],
    }
    found = as_json(run, {**SIDES, **names})["result"]

    assert found["num_gallery"] == 59
    assert found == evaluated(**names, junk_ids=["-1"]).to_dict()


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"x": [1]}, [], "no array 'query_embeddings' (nor query_features"),
        (
            {**SIDES, "query_embeddings": np.where(IDS[:12, None] == 3, np.nan, ROWS[:12])},
            [],
            "in 2 of 12 rows (first: [3, 9])",
        ),
        (
            {**SIDES, "query_ids": IDS[:3]},
            [],
            "query_ids as 12 ids, one for each row, got shape (3,)",
        ),
        pytest.param(
            {**SIDES, "gallery_embeddings": ROWS[12:, :5]},
            [],
            "of one width, got (12, 8) and (60, 5)",
            marks=pytest.mark.unhooked,
        ),
        (
            {**SIDES, "query_cameras": IDS[:12] * 0, "gallery_cameras": IDS[12:] * 0},
            [],
            "leaves every match out",
        ),
        (NO_CAMERAS, ["--protocol", "market1501"], "no array 'query_cameras'"),
        (SIDES, ["--protocol", "hands"], "no array 'embeddings'"),
        (SIDES, ["--exclude", "session"], "no array 'query_session'; it has:"),
        (SIDES, ["--junk-id", "x"], "--junk-id x: the ids of the file are integers"),
        (
            SIDES,
            ["--key", "query_ids=who"],
            "no array 'who' for query_ids; it has: query_embeddings",
        ),
        (SIDES, ["--rerank", "--k1", "0"], "k1 as a whole number >= 1"),
        (SIDES, ["--json", "nowhere/at/all.json"], "nowhere/at"),
        ({**SIDES, **TRACKLETS, "query_tracklets": IDS[:12] * 0}, [], "has two query_ids, "),
        ({**NO_CAMERAS, **TRACKLETS}, ["--junk-id", "2"], "--junk-id has no effect: the file has"),
    ],
)
def test_bad_data_is_one_line_and_status_1(run, arrays, options, message):
    error = run(arrays, *options, code=1)
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--k1", "20"], "--k1, --k2 and --lambda-value need --rerank"),
        (["--rerank", "--distance", "euclidean"], "--rerank and --distance exclude each other"),
        (["--seed", "1"], "--splits and --seed have no effect: market1501 draws no galleries"),
        (
            ["--protocol", "text-to-person", "--exclude", "session"],
            "--exclude and --junk-id have no effect: text-to-person leaves nothing out",
        ),
        (
            ["--protocol", "text-to-person", "--rerank"],
            "--rerank does not suit text-to-person",
        ),
        (
            ["--protocol", "text-to-person", "--gallery-embeddings", "g.npy"],
            "have no effect: text-to-person takes captions and images from the file",
        ),
        (["--protocol", "tracklets", "--exclude", "day"], "--exclude has no effect: tracklets"),
        (
            ["--protocol", "tracklets", "--state", "s"],
            "--rerank, cuhk03, vehicleid, hands and tracklets",
        ),
        (
            ["--protocol", "cuhk03", "--exclude", "session"],
            "--exclude and --junk-id have no effect: cuhk03 draws its galleries",
        ),
        (
            ["--protocol", "hands", "--query-embeddings", "q.npy"],
            "have no effect: hands takes one set",
        ),
        (["--protocol", "leave-one-out", "--rerank"], "an image would be its own neighbour"),
        (["--protocol", "msmt17"], "invalid choice: 'msmt17'"),
        (
            ["--key", "query_idz=x"],
            "'query_idz=x' is not NAME=KEY, with NAME one of query_embeddings",
        ),
        (["--state", "s", "--rerank"], "--state has no effect with --rerank, cuhk03"),
        (["--state", "s", "--protocol", "cuhk03"], "--state has no effect with --rerank, cuhk03"),
        (["--ranks", "0"], "0 is not a rank"),
        (["--rank", "3"], "unrecognized arguments: --rank"),
    ],
)
def test_bad_options_are_status_2(tmp_path, capsys, options, message):
    np.savez(tmp_path / "features.npz", **SIDES)
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "features.npz"), *options])

    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_help_describes_the_file(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])

    assert stop.value.code == 0

    text = capsys.readouterr().out
    for word in (
        "query_embeddings (Q, D)",
        "market1501:",
        "q_pids",
        "exit status: 0",
        "--per-query",
        "examples:",
    ):
        assert word in text

    assert max(len(line) for line in text.splitlines()) < 161


def test_as_a_program(tmp_path):
    """Both exit statuses of the module, as ``python -m`` runs it, in one process."""
    np.savez(tmp_path / "features.npz", **SIDES)
    code = """
import runpy, sys
for sys.argv[1:] in ([f"{sys.argv[1]}/no.npz"], [f"{sys.argv[1]}/features.npz"]):
    try:
        runpy.run_module("clipreid_kit.evaluate", run_name="__main__")
    except SystemExit as leaving:
        print("status", leaving.code)
heavy = {"open_clip", "torchvision", "timm", "faiss", "matplotlib", "PIL"} & set(sys.modules)
print("heavy", heavy)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )

    assert done.stderr == f"error: {tmp_path / 'no.npz'}: no such file.\n"
    assert done.stdout.startswith("status 1\nmarket1501, ")
    assert done.stdout.endswith(f"{evaluated().table()}\nstatus 0\nheavy set()\n")


def test_no_json_of_each_query_for_several_galleries(tmp_path, capsys):
    np.savez(tmp_path / "features.npz", embeddings=np.eye(6), ids=[1, 1, 2, 2, 3, 3])
    options = ["--protocol", "vehicleid", "--splits", "2", "--per-query"]
    out = tmp_path / "out.json"
    assert main([str(tmp_path / "features.npz"), *options, str(out)]) == 1
    assert "has no result of each query as JSON; name a .csv file" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("target", ["features.npz", "./features.npz", "a_link.npz"])
@pytest.mark.parametrize("option", ["--json", "--per-query", "--state"])
def test_the_features_are_never_replaced(tmp_path, capsys, monkeypatch, option, target):
    monkeypatch.chdir(tmp_path)
    np.savez("features.npz", embeddings=np.eye(2), ids=[1, 1])
    (tmp_path / "a_link.npz").symlink_to("features.npz")
    content = (tmp_path / "features.npz").read_bytes()

    assert main(["features.npz", option, target]) == 1
    assert "npz: it would replace the features" in capsys.readouterr().err
    assert (tmp_path / "features.npz").read_bytes() == content


def test_two_outputs_are_two_files(tmp_path, capsys):
    np.savez(tmp_path / "features.npz", embeddings=np.eye(2), ids=[1, 1])
    out = str(tmp_path / "out")
    assert main([str(tmp_path / "features.npz"), "--json", out, "--per-query", out]) == 1
    assert "it would replace --json" in capsys.readouterr().err


@pytest.mark.parametrize("arrays", [SIDES, {"embeddings": ROWS, "ids": IDS}])
def test_a_state_changes_nothing_and_is_removed(run, tmp_path, arrays):
    state = tmp_path / "state"
    expected = as_json(run, arrays)["result"]
    assert as_json(run, arrays, "--state", str(state))["result"] == expected
    assert not state.exists()

    state.write_text("notes")
    assert "state holds no counts of an evaluation" in run(arrays, "--state", str(state), code=1)
    assert state.read_text() == "notes"
