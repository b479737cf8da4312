"""Checkpoints of version 0.1 load into the present methods.

``state_dicts_0_1.json`` lists the tensors beside the towers, with their shapes, as version 0.1
saved them.
"""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_towers import tiny_towers

from clipreid_kit.clip import (
    ClipBaseline,
    ClipReID,
    IdentityBranch,
    IdentityPromptLearner,
    PromptSG,
    TrainingCheckpoints,
    load_weights,
    warm_start,
)
from clipreid_kit.clip.methods._state_dict_0_1 import rename_from_0_1
from clipreid_kit.losses import ArcFaceHead, CenterLoss, InfoNCELoss

TENSORS = json.loads((Path(__file__).parent / "state_dicts_0_1.json").read_text())

BASELINE_TERMS = (
    *("id", "triplet", "center", "prototype", "supcon_image", "supcon_text"),
    *("info_nce", "hard_negative", "triplet_text"),
)
CLIP_REID_TERMS = ("id", "triplet", "image_to_text", "supcon", "arcface", "center")


def equal_weights(terms):
    return dict.fromkeys(terms, 1.0)


def small_towers(name="reid-tiny-vit"):
    return tiny_towers(name, image_size=(64, 32))


def baseline():
    return ClipBaseline(
        small_towers(),
        5,
        weights=equal_weights(BASELINE_TERMS),
        losses={"info_nce": InfoNCELoss(learnable=True)},
        identity=partial(IdentityBranch, reduced_dim=16),
    )


def baseline_without_neck():
    identity = partial(IdentityBranch, classifier=ArcFaceHead, use_neck=False)
    return ClipBaseline(small_towers(), 5, weights={"id": 1.0}, identity=identity)


def clip_reid():
    weights = equal_weights(CLIP_REID_TERMS)
    return ClipReID(small_towers(), torch.zeros(5, 128), weights=weights)


def clip_reid_projected():
    return ClipReID(
        small_towers("reid-tiny-resnet"),
        torch.zeros(5, 128),
        weights=equal_weights(CLIP_REID_TERMS),
        identity=partial(IdentityBranch, classifier=ArcFaceHead),
        levels="projected",
    )


def clip_reid_with_prompts():
    towers = small_towers()
    prompts = IdentityPromptLearner(towers, 5)
    return ClipReID(towers, prompts, weights=equal_weights(CLIP_REID_TERMS))


def prompt_sg():
    identity = partial(IdentityBranch, reduced_dim=16)
    return PromptSG(small_towers(), 5, identity=identity, id_levels="both")


def prompt_sg_simplified():
    identity = partial(IdentityBranch, use_neck=False)
    return PromptSG(small_towers(), 5, identity=identity, prompt="simplified")


def prompt_sg_without_id():
    return PromptSG(small_towers(), 5, weights={"triplet": 1.0, "supcon": 0.5})


BUILDERS = {
    builder.__name__: builder
    for builder in (
        baseline,
        baseline_without_neck,
        clip_reid,
        clip_reid_projected,
        clip_reid_with_prompts,
        prompt_sg,
        prompt_sg_simplified,
        prompt_sg_without_id,
    )
}


def saved_by_0_1(case):
    """Tensors beside the towers, under the names of version 0.1, each with another value."""
    tensors = {}
    for number, (name, shape) in enumerate(TENSORS[case].items(), start=1):
        dtype = torch.float32
        if name.endswith("num_batches_tracked"):
            dtype = torch.long
        elif name.endswith("filled"):
            dtype = torch.bool
        tensors[name] = torch.full(shape, number, dtype=dtype)
    return tensors


def towers_of(model):
    return {name: value for name, value in model.state_dict().items() if name.startswith("towers.")}


def test_every_case_has_its_names():
    assert BUILDERS.keys() == TENSORS.keys()


@pytest.mark.parametrize("case", BUILDERS)
def test_load_weights(case):
    model = BUILDERS[case]()
    saved = saved_by_0_1(case)

    report = load_weights(model, {**towers_of(model), **saved})

    assert report.missing == report.unexpected == report.mismatched == ()
    state = model.state_dict()
    beside_towers = [value for name, value in state.items() if not name.startswith("towers.")]
    assert len(beside_towers) == len(saved)
    for found, expected in zip(
        sorted(beside_towers, key=float_of), sorted(saved.values(), key=float_of), strict=True
    ):
        assert torch.equal(found, expected)


def float_of(tensor):
    return (str(tensor.dtype), float(tensor.flatten()[0]))


def test_baseline_names():
    model = baseline()
    saved = saved_by_0_1("baseline")
    load_weights(model, {**towers_of(model), **saved})

    branch = model.identity_branch
    assert torch.equal(branch.neck.reduction.weight, saved["neck.reduction.weight"])
    assert torch.equal(branch.neck.norm.running_var, saved["neck.norm.running_var"])
    assert torch.equal(branch.classifier.weight, saved["classifier.weight"])
    assert torch.equal(model.losses["center"].centers, saved["center.centers"])
    assert torch.equal(model.losses["prototype"].prototypes, saved["prototype.prototypes"])
    assert torch.equal(model.losses["info_nce"].log_scale, saved["info_nce.log_scale"])


def test_clip_reid_names():
    model = clip_reid()
    saved = saved_by_0_1("clip_reid")
    load_weights(model, {**towers_of(model), **saved})

    for level, branch in enumerate(model.identity_branches):
        assert torch.equal(branch.neck.norm.weight, saved[f"necks.{level}.norm.weight"])
        assert torch.equal(branch.classifier.weight, saved[f"classifiers.{level}.weight"])
    assert torch.equal(model.losses["arcface"].head.weight, saved["arcface.head.weight"])
    assert torch.equal(model.losses["center"].centers, saved["center.centers"])
    assert torch.equal(model.text_embeddings, saved["text_embeddings"])


@pytest.mark.parametrize("case", ["baseline", "clip_reid", "prompt_sg"])
def test_training_checkpoints(case, tmp_path):
    model = BUILDERS[case]()
    checkpoints = TrainingCheckpoints(tmp_path)
    checkpoints.save(1, model, {}, best=True)
    saved = saved_by_0_1(case)
    save_file(saved, checkpoints.path("last") / "heads.safetensors")

    report = checkpoints.load("last", model)

    assert report.missing == report.unexpected == report.mismatched == ()
    assert sorted(report.loaded) == sorted(model.state_dict())


def test_warm_start_with_other_identities(tmp_path):
    model = clip_reid()
    checkpoints = TrainingCheckpoints(tmp_path)
    checkpoints.save(1, model, {}, best=True)
    save_file(saved_by_0_1("clip_reid"), checkpoints.path("best") / "heads.safetensors")
    other = ClipReID(model.towers, torch.zeros(9, 128))

    report = warm_start(other, tmp_path)

    assert {name for name, _, _ in report.mismatched} == {
        "text_embeddings",
        "identity_branches.0.classifier.weight",
        "identity_branches.1.classifier.weight",
    }
    assert report.unexpected == ("losses.arcface.head.weight", "losses.center.centers")
    assert "identity_branches.0.neck.norm.weight" in report.loaded


def test_present_names_stay():
    for builder in BUILDERS.values():
        model = builder()
        state = model.state_dict()
        assert rename_from_0_1(state, model.losses.keys()).keys() == state.keys()


def test_a_loss_that_served_two_terms_is_loaded_into_both():
    weights = {"triplet": 1.0, "triplet_text": 1.0}
    losses = {"triplet": CenterLoss(128, 5), "triplet_text": CenterLoss(128, 5)}
    model = ClipBaseline(small_towers(), 5, weights=weights, losses=losses)
    centers = torch.randn(5, 128)

    load_weights(model, {**towers_of(model), "triplet.centers": centers})

    assert torch.equal(model.losses["triplet"].centers, centers)
    assert torch.equal(model.losses["triplet_text"].centers, centers)
