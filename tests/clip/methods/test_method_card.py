"""Methods are built again from their cards, and give the same descriptors to the bit."""

import json
from functools import partial

import pytest
import torch
from tiny_towers import tiny_towers
from torch import nn

from clipreid_kit import (
    ArcFaceHead,
    FrameAttention,
    FrameMean,
    FrameTransformer,
    MaskedLanguageHead,
    MultiModalInteraction,
    TextualInversionMLP,
    TokenSelection,
)
from clipreid_kit.clip import (
    ClipBaseline,
    ClipReID,
    IdentityBranch,
    PromptComposer,
    PromptSG,
    TextToPerson,
    TrainingCheckpoints,
    build_method,
    read_card,
)

SIZE = (64, 32)


def towers_of(name="reid-tiny-vit"):
    return tiny_towers(name, image_size=SIZE)


def baseline(towers):
    branch = partial(IdentityBranch, reduced_dim=16, classifier=ArcFaceHead)
    weights = {"id": 1.0, "center": 0.1}
    return ClipBaseline(towers, 5, weights=weights, identity=branch, descriptor="post_neck")


def baseline_without_classes(towers):
    return ClipBaseline(towers, weights={"supcon_image": 1.0})


def baseline_of_tracklets(pooling, towers):
    return ClipBaseline(towers, weights={"supcon_image": 1.0}, pooling=pooling(towers.embed_dim))


def clip_reid(towers):
    return ClipReID(towers, torch.randn(5, towers.embed_dim), descriptor="post_neck")


def clip_reid_projected(towers):
    weights = {"triplet": 1.0, "arcface": 1.0}
    return ClipReID(towers, None, num_identities=5, weights=weights, levels="projected")


def prompt_sg(towers):
    return PromptSG(
        towers,
        5,
        composer=PromptComposer(
            towers, "A photo of a {tokens} {kind}.", fields=[{"kind": "cup"}, {"kind": "dog"}]
        ),
        inversion=TextualInversionMLP(
            towers.embed_dim, towers.text_width, hidden_dim=8, affine=False, token_std=0.5
        ),
        interaction=MultiModalInteraction(
            towers.embed_dim, 1, visual_dim=towers.width, num_heads=4, readout="mean", norm="post"
        ),
        id_levels="both",
        unit_representation=True,
        descriptor="post_neck",
        balance="uncertainty",
    )


def prompt_sg_simplified(towers):
    return PromptSG(towers, 5, prompt="simplified")


def text_to_person(towers):
    parts = TokenSelection(128, 8, hidden_dim=4), TokenSelection(128, 8, ratio=0.5)
    head = MaskedLanguageHead(128, towers.vocabulary_size, num_blocks=0)
    weights = {"id": 1.0, "sdm": 1.0, "masked_language": 1.0}
    return TextToPerson(towers, 5, weights=weights, selections=parts, masked_language=head)


METHODS = [
    baseline,
    baseline_without_classes,
    clip_reid,
    clip_reid_projected,
    prompt_sg,
    prompt_sg_simplified,
    text_to_person,
]


def shaken(method):
    """The method with running statistics and weights that no new one has."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in method.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                value.add_(torch.rand(value.shape, generator=generator))
        for name, value in method.named_parameters():
            if not name.startswith("towers."):
                value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return method.eval()


def beside_towers(method):
    state = method.state_dict()
    return {name: value for name, value in state.items() if not name.startswith("towers.")}


@pytest.mark.parametrize("make", METHODS)
def test_the_descriptor_is_the_same_to_the_bit(make):
    towers = towers_of()
    trained = shaken(make(towers))
    card = json.loads(json.dumps(trained.method_card()))
    built = build_method(card, towers, beside_towers(trained))

    images = torch.randn(3, 3, *SIZE)
    with torch.no_grad():
        assert torch.equal(built(images).embedding, trained(images).embedding)
    assert type(built) is type(trained)
    assert not built.training
    assert not any("classifier" in name for name in built.state_dict())


@pytest.mark.parametrize(
    "pooling",
    [
        lambda _: FrameMean(),
        partial(FrameAttention, hidden_dim=5),
        partial(FrameTransformer, num_blocks=2, num_heads=4, num_positions=3, dropout=0.1),
    ],
)
def test_the_descriptor_of_tracklets_is_the_same_to_the_bit(pooling):
    towers = towers_of()
    trained = shaken(baseline_of_tracklets(pooling, towers))
    card = json.loads(json.dumps(trained.method_card()))
    built = build_method(card, towers, beside_towers(trained))

    images = torch.randn(2, 3, 3, *SIZE)
    with torch.no_grad():
        assert torch.equal(built(images).embedding, trained(images).embedding)


def test_a_pooling_of_another_class_cannot_be_described():
    class OwnMean(FrameMean):
        """A pooling that is not of the library."""

    method = ClipBaseline(towers_of(), weights={"supcon_image": 1.0}, pooling=OwnMean())
    with pytest.raises(ValueError, match=r"modules of your own \(pooling\)"):
        build_method(method.method_card(), towers_of(), {})


def test_a_checkpoint_keeps_the_card(tmp_path):
    method = baseline(towers_of())
    checkpoints = TrainingCheckpoints(tmp_path)
    checkpoints.save(1, method, {}, best=True, card={"identities": ["a"]})
    card = read_card(tmp_path)
    assert card == {"epoch": 1, "method": method.method_card(), "identities": ["a"]}
    assert card["method"]["necks"] == [{"use_neck": True, "reduced_dim": 16}]


def test_with_frozen_towers_the_card_is_beside_the_heads(tmp_path):
    method = baseline(towers_of())
    method.towers.requires_grad_(requires_grad=False)
    TrainingCheckpoints(tmp_path).save(1, method, {}, best=True, card={"identities": ["a"]})
    card = read_card(tmp_path)
    assert not list(tmp_path.rglob("card.json"))
    assert card["identities"] == ["a"]
    assert len(card["frozen_towers"]) == 32

    other = baseline(tiny_towers(image_size=SIZE, seed=1))
    other.towers.requires_grad_(requires_grad=False)
    TrainingCheckpoints(tmp_path / "b").save(1, other, {}, best=True)
    assert read_card(tmp_path / "b")["frozen_towers"] != card["frozen_towers"]


def test_parts_of_another_class_cannot_be_described():
    class Inversion(nn.Linear):
        pass

    towers = towers_of()
    method = PromptSG(towers, 5, inversion=Inversion(towers.embed_dim, towers.text_width))
    assert method.method_card()["own_modules"] == ["inversion"]
    with pytest.raises(ValueError, match=r"has modules of your own \(inversion\), which a card"):
        build_method(method.method_card(), towers, beside_towers(method))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "card has version 2, and this version of clipreid_kit builds version 1"),
        ({"kind": "Other"}, "method 'Other', and known are ClipBaseline, ClipReID, PromptSG"),
        ({"necks": None}, "the card of the method is damaged"),
        ({"levels": "projected"}, "not of the method of its card: 0 tensors are missing and 5"),
    ],
)
def test_cards_that_cannot_be_built(change, words):
    towers = towers_of()
    method = clip_reid(towers)
    with pytest.raises(ValueError, match=words):
        build_method(method.method_card() | change, towers, beside_towers(method))


def test_missing_tensors_are_named():
    towers = towers_of()
    method = baseline(towers)
    tensors = beside_towers(method)
    del tensors["identity_branch.neck.norm.running_var"]
    with pytest.raises(ValueError, match=r"1 tensors are missing and 0 left over \(identity_bra"):
        build_method(method.method_card(), towers, tensors)
