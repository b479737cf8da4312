import itertools
from functools import partial

import method_checks as checks
import pytest
import torch
from combinations import by_threes
from method_checks import LABELS, NAMES, SIZE, random_images, unit
from oracles import prompts as oracle
from tiny_towers import tiny_towers
from torch.testing import assert_close

from clipreid_kit.clip import (
    ClipReID,
    ClipReIDPromptStage,
    IdentityBranch,
    IdentityClassifier,
    IdentityPromptLearner,
    layerwise_lr_groups,
    load_weights,
)
from clipreid_kit.losses import ArcFaceHead, CenterLoss, CosFaceHead, ImageToTextCELoss, TripletLoss

ALL_TERMS = {
    "id": 0.5,
    "triplet": 1.0,
    "image_to_text": 0.7,
    "supcon": 0.3,
    "arcface": 0.2,
    "center": 0.01,
}
ARCFACE_BRANCH = partial(IdentityBranch, classifier=ArcFaceHead, label_smoothing=0.0)


def build_clip_reid(name="reid-tiny-vit", num_identities=5, **options):
    towers = tiny_towers(name, image_size=SIZE)
    generator = torch.Generator().manual_seed(1)
    texts = torch.randn(num_identities, towers.embed_dim, generator=generator)
    return ClipReID(towers, texts, **options)


def features_of(model, images):
    """Previous, unprojected and projected features."""
    names = ("previous", "unprojected", "projected")
    levels = model.towers.encode_image_levels(images, names)
    return levels.previous, levels.unprojected, levels.projected


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_formulas_of_the_paper(name):
    model = build_clip_reid(name)
    for branch in model.identity_branches:
        torch.nn.init.normal_(branch.classifier.weight, std=0.3)
    torch.nn.init.normal_(model.identity_branches[0].neck.norm.weight)
    model.towers.eval()  # so that the towers return the same features twice

    output = model(random_images(), LABELS)

    labels = LABELS.tolist()
    previous, unprojected, projected = features_of(model, random_images())
    identity_loss = 0.0
    for features, branch in zip((unprojected, projected), model.identity_branches, strict=True):
        norm = branch.neck.norm
        post_neck = oracle.batch_norm(features, norm.weight, norm.bias)
        identity_loss += oracle.smoothed_ce(post_neck @ branch.classifier.weight.T, labels, 0.1)
    triplet_loss = 0.0
    for features in (previous, unprojected, projected):
        triplet_loss += oracle.batch_hard_triplet(features, labels, 0.3)
    similarity = projected @ model.text_embeddings.T

    expected = {
        "id": 0.25 * identity_loss,
        "triplet": triplet_loss,
        "image_to_text": oracle.smoothed_ce(similarity, labels, 0.1),
    }
    for term, value in expected.items():
        assert_close(output.terms[term].item(), value, atol=1e-3, rtol=1e-4, msg=term)
    assert_close(output.loss.item(), sum(expected.values()), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("descriptor", ["pre_neck", "post_neck"])
def test_descriptor(descriptor):
    model = build_clip_reid(descriptor=descriptor).eval()
    checks.set_running_statistics(*model.identity_branches)

    output = model(random_images())

    _, *features = features_of(model, random_images())
    if descriptor == "post_neck":
        features = [
            checks.apply_neck_in_evaluation(branch.neck, level)
            for branch, level in zip(model.identity_branches, features, strict=True)
        ]
    assert_close(output.embedding, unit(torch.cat(features, dim=1)))
    assert output[3:] == (None, None, None, {})


@pytest.mark.parametrize("descriptor", ["pre_neck", "post_neck"])
def test_neither_labels_nor_other_images_affect_the_descriptor(descriptor):
    model = build_clip_reid(descriptor=descriptor).eval()
    checks.set_running_statistics(*model.identity_branches)

    with torch.no_grad():
        expected = model(random_images()).embedding
        with_labels = model(random_images(), LABELS).embedding
        with_other_labels = model(random_images(), LABELS.flip(0)).embedding
        alone = model(random_images()[:1]).embedding

    assert_close(with_labels, expected, atol=1e-5, rtol=1e-5)
    assert_close(with_other_labels, expected, atol=1e-5, rtol=1e-5)
    assert_close(alone, expected[:1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_everything_that_trains(name):
    model = build_clip_reid(name, weights=ALL_TERMS, losses={"triplet": TripletLoss(None)})
    checks.start_residual_branches(model)
    model(random_images(), LABELS).loss.backward()

    assert checks.names_without_gradient(model) == []
    assert checks.trainable_parts(model) == {"towers", "identity_branches", "losses"}
    assert all(p.grad is None for p in model.towers.text_parameters())


@pytest.mark.parametrize("name", NAMES)
def test_exactly_the_trainable_parameters_move(name):
    model = build_clip_reid(name, image_blocks=1)
    moved = checks.train_two_steps(model, lambda images: model(images, LABELS))

    assert moved == set(checks.trainable(model))
    frozen = {name for name, _ in model.named_parameters()} - moved
    assert any(name.startswith("towers.model.visual") for name in frozen)


def small_towers(build, name):
    if name == NAMES[0]:
        return checks.small_towers(build, "vit", image_size=(32, 16))
    return checks.small_towers(build, "resnet", image_size=(64, 32))


COMBINATIONS_OF_TERMS = [
    terms
    for count in range(1, len(ALL_TERMS) + 1)
    for terms in itertools.combinations(ALL_TERMS, count)
]


# Every three terms, towers and precisions meet in the quick ones, every four with the slow ones.
@by_threes(
    "terms, name, use_bfloat16",
    list(itertools.product(COMBINATIONS_OF_TERMS, NAMES, [False, True])),
    lambda terms, *others: (*(term in terms for term in ALL_TERMS), *others),
)
def test_every_combination_of_terms_takes_a_step(build, terms, name, use_bfloat16):
    towers = small_towers(build, name)
    texts = torch.randn(5, towers.embed_dim)
    weights = {term: ALL_TERMS[term] for term in terms}
    options = {"descriptor": "post_neck"}
    if "supcon" in terms:
        options = {"identity": ARCFACE_BRANCH}
    model = ClipReID(towers, texts, weights=weights, **options)

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=use_bfloat16):
        output = model(random_images(size=towers.image_size), LABELS)

    assert set(output.terms) == set(terms)
    assert (output.logits is None) is ("id" not in terms)
    checks.check_step(model, output)


TEXTS = {
    "fixed": lambda towers: torch.randn(5, towers.embed_dim),
    "learned": lambda towers: IdentityPromptLearner(towers, 5),
    "none": lambda _: None,
}


OPTIONS = itertools.product(
    TEXTS,
    ["pre_neck", "post_neck"],
    ["both", "projected"],
    [0, 1, "all"],
    [IdentityClassifier, ArcFaceHead],
    NAMES,
    [False, True],
)


@by_threes("texts, descriptor, levels, image_blocks, classifier, name, use_bfloat16", list(OPTIONS))
def test_every_combination_of_options_takes_a_step(
    build, texts, descriptor, levels, image_blocks, classifier, name, use_bfloat16
):
    towers = small_towers(build, name)
    model = ClipReID(
        towers,
        TEXTS[texts](towers),
        num_identities=5 if texts == "none" else None,
        weights={"id": 0.25, "triplet": 1.0} if texts == "none" else ALL_TERMS,
        identity=partial(IdentityBranch, classifier=classifier),
        levels=levels,
        image_blocks=image_blocks,
        descriptor=descriptor,
    )

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=use_bfloat16):
        output = model(random_images(size=towers.image_size), LABELS)

    widths = [towers.width, towers.embed_dim] if levels == "both" else [towers.embed_dim]
    assert len(output.logits) == len(widths)
    assert output.embedding.shape[1] == sum(widths)
    checks.check_step(model, output)


@pytest.mark.parametrize("name", NAMES)
def test_parameter_groups_leave_nothing_out(name):
    """Necks, classifiers, ArcFace and centres are in one group each, with the rates asked for."""
    model = build_clip_reid(name, weights=ALL_TERMS)
    rates = {"towers": 5e-6, "losses.center": 0.5, "": 5e-5}
    groups = layerwise_lr_groups(model, rates, weight_decay=1e-4)
    rate_of = {id(p): group["lr"] for group in groups for p in group["params"]}

    assert sum(len(group["params"]) for group in groups) == len(rate_of)
    assert rate_of.keys() == {id(p) for p in checks.trainable(model).values()}
    first, second = model.identity_branches
    assert rate_of[id(first.neck.norm.weight)] == 5e-5
    assert rate_of[id(second.classifier.weight)] == 5e-5
    assert rate_of[id(model.losses["arcface"].head.weight)] == 5e-5
    assert rate_of[id(model.losses["center"].centers)] == 0.5


def test_every_parameter_is_in_the_state_dict():
    model = build_clip_reid(weights=ALL_TERMS)
    names = {name for name, _ in model.named_parameters()}
    assert names <= model.state_dict().keys()


def test_is_built_in_training_mode_with_its_towers():
    """The first stage leaves them in evaluation mode, in which cameras may be missing."""
    towers = tiny_towers(image_size=SIZE, num_cameras=2)
    stage = ClipReIDPromptStage(towers, IdentityPromptLearner(towers, 5))
    assert not towers.training

    model = ClipReID(towers, stage.prompts.encode_all(towers))

    assert all(module.training for module in model.modules())
    with pytest.raises(ValueError, match="cameras"):
        model(random_images(), LABELS)


def test_the_projected_level_alone():
    model = build_clip_reid(levels="projected", weights=ALL_TERMS).eval()
    checks.set_running_statistics(*model.identity_branches)
    output = model(random_images(), LABELS)

    (branch,) = model.identity_branches
    (logits,) = output.logits
    post_neck = branch(output.projected).post_neck
    assert output.previous is None
    assert_close(output.embedding, unit(output.projected))
    assert_close(output.terms["triplet"], TripletLoss()(output.projected, LABELS).detach())
    assert_close(logits, post_neck @ branch.classifier.weight.T)


def test_the_baseline_without_texts():
    towers = tiny_towers(image_size=SIZE)
    weights = {"id": 0.25, "triplet": 1.0}
    without = ClipReID(towers, None, num_identities=5, weights=weights)
    with_texts = ClipReID(towers, torch.randn(5, 128), weights=weights)
    with_texts.identity_branches.load_state_dict(without.identity_branches.state_dict())

    expected = with_texts(random_images(), LABELS).loss
    assert_close(without(random_images(), LABELS).loss, expected)
    assert "text_embeddings" not in without.state_dict()


def test_texts_in_half_precision():
    towers = tiny_towers(image_size=SIZE)
    texts = torch.randn(5, towers.embed_dim)
    weights = {"image_to_text": 1.0, "supcon": 1.0}

    expected = ClipReID(towers, texts, weights=weights)(random_images(), LABELS).loss
    loss = ClipReID(towers, texts.bfloat16(), weights=weights)(random_images(), LABELS).loss

    assert_close(loss, expected, atol=0.05, rtol=0.05)


def test_unknown_cameras_are_an_error_in_training_only():
    towers = tiny_towers(image_size=SIZE, num_cameras=3)
    model = ClipReID(towers, torch.randn(5, towers.embed_dim))
    cameras = torch.tensor([0, 1, 2, 0, 1, 2])
    assert model(random_images(), LABELS, cameras=cameras).loss.isfinite()

    with pytest.raises(ValueError, match="cameras"):
        model(random_images(), LABELS, cameras=cameras + 1)
    assert model.eval()(random_images(), cameras=cameras + 1).embedding.isfinite().all()


@pytest.mark.parametrize("head", [ArcFaceHead, partial(CosFaceHead, margin=0.2)])
def test_a_head_with_a_margin_is_the_identity_loss(head):
    def build_with(classifier):
        identity = partial(IdentityBranch, classifier=classifier, label_smoothing=0.0)
        return build_clip_reid(weights={"id": 1.0}, identity=identity)

    model = build_with(head)
    loss = model(random_images(), LABELS).loss
    loss.backward()

    plain = build_with(IdentityClassifier)(random_images(), LABELS).loss
    assert loss > plain + 1  # a margin of 30 times some tenths
    assert checks.names_without_gradient(model) == []


def test_given_losses_replace_the_default_ones():
    loss = ImageToTextCELoss(0.1, label_smoothing=0.0)
    model = build_clip_reid(weights={"image_to_text": 1.0}, losses={"image_to_text": loss})
    output = model(random_images(), LABELS)
    assert_close(output.loss, loss(output.projected, LABELS, model.text_embeddings))


def test_arcface_and_center_have_the_width_of_a_reduced_neck():
    identity = partial(IdentityBranch, reduced_dim=16)
    weights = {"id": 1.0, "arcface": 1.0, "center": 1.0}
    model = build_clip_reid(weights=weights, identity=identity)
    assert model(random_images(), LABELS).loss.isfinite()
    assert model.losses["arcface"].head.weight.shape == (5, 16)
    assert model.losses["center"].centers.shape == (5, 16)


def test_weights_may_follow_the_epoch():
    model = build_clip_reid(weights={"image_to_text": lambda epoch: 0.1 * epoch})
    first = model(random_images(), LABELS, step=1).loss
    third = model(random_images(), LABELS, step=3).loss

    assert_close(third, 3 * first)
    with pytest.raises(ValueError, match="step"):
        model(random_images(), LABELS)


def test_state_dict_round_trip():
    model = build_clip_reid(weights=ALL_TERMS)
    model(random_images(), LABELS)  # moves the running statistics
    towers = tiny_towers(image_size=SIZE, seed=3)
    other = ClipReID(towers, torch.zeros(5, 128), weights=ALL_TERMS)

    other.load_state_dict(model.state_dict())

    model.eval()
    other.eval()
    assert torch.equal(other(random_images()).embedding, model(random_images()).embedding)
    expected = model(random_images(), LABELS).loss
    assert_close(other(random_images(), LABELS).loss, expected)


def test_a_checkpoint_of_other_identities_loads_without_its_heads():
    source = build_clip_reid(num_identities=9, weights=ALL_TERMS)
    target = build_clip_reid(num_identities=5, weights=ALL_TERMS)
    with torch.no_grad():
        source.towers.model.visual.proj.add_(1)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}

    report = load_weights(target, source.state_dict(), strict=False)

    skipped = {name for name, _, _ in report.mismatched}
    assert skipped == {
        "text_embeddings",
        "identity_branches.0.classifier.weight",
        "identity_branches.1.classifier.weight",
        "losses.arcface.head.weight",
        "losses.center.centers",
    }
    for name in skipped:
        assert torch.equal(target.state_dict()[name], before[name])
    assert torch.equal(target.towers.model.visual.proj, source.towers.model.visual.proj)
    assert "identity_branches.0.classifier.weight (9, 128) in the checkpoint" in report.summary()
    with pytest.raises(ValueError, match="mismatched"):
        load_weights(target, source.state_dict())


def test_the_two_stages_lower_their_losses():
    towers = tiny_towers(image_size=SIZE)
    labels = torch.arange(12) // 3
    images = 4 * torch.rand(4, 3, 1, 1)[labels] + 0.5 * torch.randn(12, 3, *SIZE)

    stage = ClipReIDPromptStage(towers, IdentityPromptLearner(towers, 4))
    features = stage.image_embeddings(images)
    first = checks.losses_of_training(stage, lambda: stage(features, labels), lr=0.02, num_steps=12)
    texts = stage.prompts.encode_all(towers)

    model = ClipReID(towers, texts)
    second = checks.losses_of_training(model, lambda: model(images, labels), lr=3e-5)

    assert first[-1] < 0.8 * first[0]
    assert second[-1] < 0.9 * second[0]
    assert torch.equal(model.text_embeddings, texts)


@pytest.mark.slow
@pytest.mark.unhooked
# a warning of torch 2.6 about itself
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", NAMES)
def test_compiles(build, name):
    towers = small_towers(build, name)
    model = ClipReID(towers, torch.randn(5, towers.embed_dim), weights=ALL_TERMS).eval()
    images = random_images(size=towers.image_size)
    expected = model(images, LABELS)

    output = torch.compile(model, fullgraph=True, backend="aot_eager")(images, LABELS)
    output.loss.backward()

    assert_close(output.loss, expected.loss, atol=1e-4, rtol=1e-4)
    assert_close(output.embedding, expected.embedding, atol=1e-5, rtol=1e-4)
    assert all(p.grad is not None for p in checks.trainable(model).values())


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"suncon": 1.0}}, "unknown term 'suncon' in weights; it has id, triplet, im"),
        ({"losses": {"center": CenterLoss(128, 5)}}, "the loss 'center' has no weight"),
        ({"num_identities": 6}, "num_identities is 6, but there are texts for 5 identities"),
        ({"levels": "all"}, "expected levels to be one of both, projected"),
        ({"descriptor": "both"}, "expected descriptor to be one of pre_neck, post_neck"),
        (
            {"descriptor": "post_neck", "identity": partial(IdentityBranch, use_neck=False)},
            'descriptor="post_neck" needs an identity branch with a neck',
        ),
    ],
)
def test_wrong_options(options, message):
    towers = tiny_towers(image_size=SIZE)
    with pytest.raises(ValueError, match="ClipReID: " + message):
        ClipReID(towers, torch.randn(5, 128), **options)


@pytest.mark.unhooked
def test_texts_of_another_width():
    towers = tiny_towers(image_size=SIZE)
    with pytest.raises(ValueError, match=r"text_embeddings \(C, 128\) of at least one identity"):
        ClipReID(towers, torch.randn(5, 64))


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 5], r"labels in \[0, 5\), got labels from 0 to 5"),
        ([0, 1, 2], "labels as 2 integers"),
        ([0], "at least two rows"),
    ],
)
def test_wrong_labels(labels, message):
    num_rows = min(len(labels), 2)
    with pytest.raises(ValueError, match=message):
        build_clip_reid()(random_images(num_rows), torch.tensor(labels))
