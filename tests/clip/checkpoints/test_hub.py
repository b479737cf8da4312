import inspect
import shutil
import sys
from pathlib import Path

import pytest
import torch
from tiny_towers import tiny_towers
from torch import nn

from clipreid_kit.clip import (
    ClipBaseline,
    ModelCard,
    add_lora,
    from_pretrained,
    load_pretrained,
    push_to_hub,
    read_card,
    save_pretrained,
    warm_start,
)

CARD = ModelCard("Shoes", "mit", data="none", protocol="none", figures={"mAP": 0.5})


def build(seed=0):
    return tiny_towers(image_size=(32, 32), seed=seed).eval()


def same(one, other):
    second = other.state_dict()
    return all(torch.equal(value, second[name]) for name, value in one.state_dict().items())


class Hub:
    """The calls of ``HfApi`` that are used, on folders."""

    def __init__(self, root):
        self.root = root
        self.calls = []

    def create_repo(self, repo_id, *, private, exist_ok):
        self.calls.append(("create", repo_id, private, exist_ok))
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(self, *, repo_id, folder_path, commit_message, revision):
        self.calls.append(("upload", commit_message, revision))
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        return f"https://hub/{repo_id}/commit/1"

    def snapshot_download(self, repo_id, *, revision, allow_patterns, local_files_only):
        self.calls.append(("download", revision, local_files_only))
        if not (self.root / repo_id).is_dir():
            raise FileNotFoundError(f"404: {repo_id}\nmore")
        target = self.root / "cache"
        for file in (self.root / repo_id).iterdir():
            if file.name in allow_patterns:
                target.mkdir(exist_ok=True)
                shutil.copy(file, target)
        return str(target)


@pytest.fixture
def hub(tmp_path):
    return Hub(tmp_path)


class TestPush:
    def test_towers_come_back(self, hub):
        towers = build(seed=3)
        address = push_to_hub(
            towers, "me/shoes", card=CARD, private=True, revision="dev", client=hub
        )

        assert address == "https://hub/me/shoes/commit/1"
        assert hub.calls == [
            ("create", "me/shoes", True, True),
            ("upload", "Add weights and model card", "dev"),
        ]
        files = {path.name for path in (hub.root / "me/shoes").iterdir()}
        assert files == {"README.md", "card.json", "model.safetensors"}
        found = from_pretrained("me/shoes", revision="dev", local_files_only=True, client=hub)
        assert same(found, towers)
        assert hub.calls[-1] == ("download", "dev", True)

    def test_a_method_comes_back(self, hub):
        method = ClipBaseline(build(seed=3), 5)
        push_to_hub(method, "me/shoes", card=CARD, client=hub)

        twin = ClipBaseline(build(), 5)
        assert load_pretrained(twin, "me/shoes", client=hub).is_complete
        assert same(twin, method)
        assert same(from_pretrained("me/shoes", client=hub), method.towers)

    def test_what_the_hub_refuses_is_said(self, hub, monkeypatch):
        def refuse(*arguments, **options):
            raise OSError("403 Forbidden\nmore")

        monkeypatch.setattr(hub, "create_repo", refuse)
        with pytest.raises(
            ValueError, match=r"push_to_hub: me/shoes could not be written \(403 Forbidden\)"
        ):
            push_to_hub(build(), "me/shoes", card=CARD, client=hub)

    def test_the_client_is_that_of_huggingface_hub(self):
        """The calls of the stub are those of the real client."""
        api = pytest.importorskip("huggingface_hub").HfApi
        for name in ("create_repo", "upload_folder", "snapshot_download"):
            stub = set(inspect.signature(getattr(Hub, name)).parameters)
            assert stub <= set(inspect.signature(getattr(api, name)).parameters)


class TestFolder:
    def test_frozen_towers_of_a_method_are_saved(self, tmp_path):
        method = ClipBaseline(build(seed=3), 5, image_blocks=0).requires_grad_(False)
        save_pretrained(method, tmp_path, card=CARD)
        assert same(from_pretrained(tmp_path), method.towers)
        assert read_card(tmp_path)["licence"] == "mit"

    def test_a_classifier_of_other_identities_is_refused_but_can_be_left_out(self, tmp_path):
        save_pretrained(ClipBaseline(build(seed=3), 5), tmp_path, card=CARD)
        other = ClipBaseline(build(), 7)
        with pytest.raises(ValueError, match="1 mismatched: identity_branch"):
            load_pretrained(other, tmp_path)
        assert len(warm_start(other, tmp_path).mismatched) == 1

    def test_adapters_are_merged_when_asked(self, tmp_path):
        pytest.importorskip("peft", reason="an extra")
        towers = build()
        add_lora(towers, 2)
        save_pretrained(towers, tmp_path / "with", card=CARD)
        save_pretrained(towers, tmp_path / "without", card=CARD, merge_adapters=True)
        assert from_pretrained(tmp_path / "with").adapters == towers.adapters
        assert from_pretrained(tmp_path / "without").adapters == {}

    def test_a_folder_has_no_revision(self, tmp_path):
        with pytest.raises(ValueError, match="is a folder, which has no revision"):
            from_pretrained(tmp_path, revision="dev")

    @pytest.mark.parametrize("source", [Path("nowhere"), "./nowhere", "/a/b", "a/b/c"])
    def test_a_missing_folder_is_not_looked_for_in_the_hub(self, source, hub):
        with pytest.raises(ValueError, match=r"a folder that exists, or owner/name, got "):
            from_pretrained(source, client=hub)
        assert hub.calls == []

    def test_an_unknown_repository_is_named(self, hub):
        with pytest.raises(
            ValueError, match=r"me/none is neither a folder nor .* \(404: me/none\)"
        ):
            from_pretrained("me/none", client=hub)

    def test_an_empty_folder_holds_no_weights(self, tmp_path):
        with pytest.raises(ValueError, match=r"load_pretrained: expected a folder with model\.saf"):
            load_pretrained(ClipBaseline(build(), 5), tmp_path)


@pytest.mark.parametrize("call", [save_pretrained, push_to_hub])
def test_a_module_without_towers_is_refused(call, tmp_path):
    with pytest.raises(ValueError, match=r"ClipTowers, or a method that holds them .* got Linear"):
        call(nn.Linear(2, 2), str(tmp_path), card=CARD)


def test_a_missing_client_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install clipreid_kit\[hub\]"):
        from_pretrained("me/shoes")
