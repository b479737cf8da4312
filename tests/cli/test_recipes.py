"""Recipes are listed with their notes, shown resolved, and compared key by key."""

import yaml


def test_list(clipreid):
    status, text, _ = clipreid("recipes", "list", "own/")
    rows = text.splitlines()

    assert status == 0
    assert [row.split()[0] for row in rows] == ["own/cnn", "own/lora", "own/train", "own/zero_shot"]
    assert all(len(row.split()) > 5 for row in rows)
    assert clipreid("recipes", "list", "zzz") == (
        1,
        "",
        "error: recipes list: no recipe's name begins with 'zzz'.\n",
    )


def test_show(clipreid):
    text = clipreid("recipes", "show", "quickstart/joint_v1", "--set", "seed=3")[1]
    tree = yaml.safe_load(text)

    assert tree["seed"] == 3
    assert tree["loss"]["info_nce"] == 1.0
    assert tree["data"]["num_identities"] == 500  # of its parent
    assert tree["evaluate"]["rerank"] is False  # the default

    source = clipreid("recipes", "show", "quickstart/joint_v1", "--source")[1]
    assert source.startswith("# ")
    assert "base: joint.yaml\n" in source


def test_diff(clipreid):
    status, text, _ = clipreid("recipes", "diff", "quickstart/joint_v1", "quickstart/joint_v2")

    assert status == 0
    assert "batch.num_instances: 1 -> 4\n" in text
    assert "loss.info_nce: 1.0 -> 0.0\n" in text
    assert "note" not in text
    assert clipreid("recipes", "diff", "own/train", "own/train")[1] == ""


def test_diff_of_two_stages_shows_keys_of_one_alone(clipreid):
    text = clipreid("recipes", "diff", "quickstart/joint", "quickstart/clip_reid")[1]
    assert "stage: joint -> clip_reid\n" in text
    assert "prompt.epochs: - -> 30\n" in text
    assert "augment.vertical_flip" not in text


def test_convert(clipreid, tmp_path):
    own = tmp_path / "mine.json"
    own.write_text('{"training_config": {"epochs": 3}}')
    status, text, error = clipreid("recipes", "convert", own)

    assert (status, error) == (0, "")
    assert yaml.safe_load(text)["optim"]["epochs"] == 3

    assert clipreid("recipes", "convert", own, "--out", tmp_path / "mine.yaml")[:2] == (0, "")
    assert (tmp_path / "mine.yaml").read_text() == text

    status, _, error = clipreid("recipes", "convert", tmp_path / "none.yml")
    assert (status, error.count("\n")) == (1, 1)
    assert "there is no file" in error
