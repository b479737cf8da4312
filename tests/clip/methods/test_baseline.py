import itertools
import math
from functools import partial

import method_checks as checks
import pytest
import torch
from method_checks import LABELS, NAMES, SIZE, random_images, unit
from oracles import losses, metric, prompts, ranks, text_to_person
from tiny_towers import tiny_towers
from torch.testing import assert_close

from clipreid_kit import FrameAttention, FrameMean, FrameTransformer
from clipreid_kit.clip import (
    ClipBaseline,
    ClipReID,
    ClipReIDPromptStage,
    ClipTowers,
    IdentityBranch,
    PromptSG,
    add_lora,
    export_image_tower,
    freeze,
    load_weights,
    set_gradient_checkpointing,
    unfreeze_last_blocks,
)
from clipreid_kit.distances import l2_normalize
from clipreid_kit.losses import (
    ArcFaceHead,
    CameraPrototypeLoss,
    InfoNCELoss,
    SupConLoss,
    TripletLoss,
)

CAPTIONS = ["a red coat", "a red coat and a hat", "a blue cup", "a cup", "a hand", "a left hand"]
ALL_TERMS = {
    "id": 0.5,
    "triplet": 1.0,
    "center": 0.01,
    "prototype": 0.3,
    "supcon_image": 0.7,
    "recall_surrogate": 0.6,
    "smooth_ap": 0.9,
    "supcon_text": 0.4,
    "info_nce": 0.2,
    "hard_negative": 0.6,
    "triplet_text": 0.8,
    "sdm": 0.3,
    "triplet_alignment": 0.5,
    "cmpm": 0.1,
    "id_text": 0.4,
}
PAIR_TERMS = (
    *("supcon_text", "info_nce", "hard_negative", "triplet_text"),
    *("sdm", "triplet_alignment", "cmpm"),
)
TEXT_TERMS = (*PAIR_TERMS, "id_text")


def build_baseline(name="reid-tiny-vit", num_identities=5, **options):
    towers = tiny_towers(name, image_size=SIZE)
    return ClipBaseline(towers, num_identities, **options)


def tokens_for(model):
    return model.towers.tokenize(CAPTIONS)


@pytest.fixture(scope="module")
def features_of_all_terms():
    """A model of all terms, its output in training mode, and the features that it had."""
    torch.manual_seed(0)
    model = build_baseline(weights=ALL_TERMS)
    torch.nn.init.normal_(model.identity_branch.classifier.weight, std=0.3)
    torch.nn.init.normal_(model.identity_branch.neck.norm.weight)
    prototype = model.losses["prototype"]
    prototype.initialize(torch.randn(5, 128), torch.arange(5))
    prototypes = prototype.prototypes.clone()
    model.towers.eval()  # so that the towers return the same features twice

    output = model(random_images(), LABELS, tokens=tokens_for(model))
    images = model.towers.encode_image(random_images()).detach()
    texts = model.towers.encode_text(tokens_for(model)).detach()
    return model, output, images, texts, prototypes


def test_output(features_of_all_terms):
    _, output, images, texts, _ = features_of_all_terms
    assert_close(output.loss, torch.stack(list(output.terms.values())).sum())
    assert_close(output.features, images)
    assert_close(output.text_embeddings, texts)
    assert_close(output.embedding, unit(images))


def expected_terms(model, images, texts, prototypes):
    labels = LABELS.tolist()
    image_rows, text_rows = images.tolist(), texts.tolist()

    branch = model.identity_branch
    norm = branch.neck.norm
    logits = prompts.batch_norm(images, norm.weight, norm.bias) @ branch.classifier.weight.T
    text_logits = prompts.batch_norm(texts, norm.weight, norm.bias) @ branch.classifier.weight.T
    sides = (image_rows, text_rows, labels, labels)
    among_images = (image_rows, labels, None, None)
    log_probability = (unit(images) @ unit(prototypes).T / 0.05).log_softmax(1)
    image_to_text = losses.supcon(image_rows, labels, 0.07, text_rows, labels)
    text_to_image = losses.supcon(text_rows, labels, 0.07, image_rows, labels)

    return {
        "id": prompts.smoothed_ce(logits, labels, 0.1),
        "triplet": prompts.batch_hard_triplet(images, labels, 0.3),
        "center": metric.center(image_rows, labels, model.losses["center"].centers.tolist()),
        "prototype": -log_probability[torch.arange(6), LABELS].mean().item(),
        "supcon_image": losses.supcon(image_rows, labels, 0.07),
        "recall_surrogate": ranks.recall_surrogate(*among_images, (1, 2, 4, 8, 16), 1.0, 0.01),
        "smooth_ap": ranks.smooth_ap(*among_images, 0.01),
        "supcon_text": (image_to_text + text_to_image) / 2,
        "info_nce": losses.info_nce(image_rows, text_rows, 0.07),
        "sdm": text_to_person.sdm(*sides, 0.02),
        "triplet_alignment": text_to_person.triplet_alignment(*sides, 0.1, 0.015),
        "cmpm": text_to_person.cmpm(*sides),
        "id_text": prompts.smoothed_ce(text_logits, labels, 0.1),
    }


def test_terms_equal_the_formulas_of_their_papers(features_of_all_terms):
    model, output, images, texts, prototypes = features_of_all_terms
    for term, value in expected_terms(model, images, texts, prototypes).items():
        expected = ALL_TERMS[term] * float(value)
        assert_close(output.terms[term].item(), expected, atol=1e-3, rtol=1e-4, msg=term)


def test_triplets_between_images_and_texts_are_the_mean_of_both_directions(features_of_all_terms):
    _, output, images, texts, _ = features_of_all_terms
    image_to_text = TripletLoss()(images, LABELS, texts, LABELS)
    text_to_image = TripletLoss()(texts, LABELS, images, LABELS)
    expected = ALL_TERMS["triplet_text"] * (image_to_text + text_to_image) / 2
    assert_close(output.terms["triplet_text"], expected)


def test_views_of_an_image_are_contrasted():
    model = build_baseline(weights={"self_supervision": 0.5}).eval()
    image_ids = torch.tensor([7, 7, 8, 8, 9, 9])
    output = model(random_images(), LABELS, image_ids=image_ids)
    expected = 0.5 * model.losses["self_supervision"](output.features, image_ids)
    assert_close(output.loss, expected)

    with pytest.raises(ValueError, match='ClipBaseline: "self_supervision" contrasts views of one'):
        model(random_images(), LABELS)


def test_the_hard_negative_term_is_that_of_its_loss(features_of_all_terms):
    model, output, images, texts, _ = features_of_all_terms
    expected = ALL_TERMS["hard_negative"] * model.losses["hard_negative"](images, texts, LABELS)
    assert expected > 0
    assert_close(output.terms["hard_negative"], expected)


@pytest.mark.parametrize("descriptor", ["pre_neck", "post_neck"])
@pytest.mark.parametrize("reduced_dim", [None, 16])
def test_descriptor(descriptor, reduced_dim):
    identity = partial(IdentityBranch, reduced_dim=reduced_dim)
    model = build_baseline(descriptor=descriptor, identity=identity).eval()
    checks.set_running_statistics(model.identity_branch)

    output = model(random_images())

    expected = model.towers.encode_image(random_images())
    if descriptor == "post_neck":
        expected = checks.apply_neck_in_evaluation(model.identity_branch.neck, expected)
    assert_close(output.embedding, unit(expected))
    assert output[2:] == (None, None, None, {})


@pytest.mark.parametrize("descriptor", ["pre_neck", "post_neck"])
def test_neither_labels_nor_other_images_affect_the_descriptor(descriptor):
    model = build_baseline(descriptor=descriptor).eval()
    checks.set_running_statistics(model.identity_branch)

    with torch.no_grad():
        expected = model(random_images()).embedding
        with_labels = model(random_images(), LABELS).embedding
        with_other_labels = model(random_images(), LABELS.flip(0)).embedding
        alone = model(random_images()[:1]).embedding

    assert_close(with_labels, expected, atol=1e-5, rtol=1e-5)
    assert_close(with_other_labels, expected, atol=1e-5, rtol=1e-5)
    assert_close(alone, expected[:1], atol=1e-5, rtol=1e-5)


def test_only_weighted_terms_are_built():
    model = build_baseline(weights={"supcon_image": 1.0})
    assert model.identity_branch is None
    assert list(model.losses) == ["supcon_image"]


def test_without_terms_on_texts_no_text_is_encoded(monkeypatch):
    model = build_baseline(weights={"supcon_image": 1.0})
    monkeypatch.setattr(ClipTowers, "encode_text", lambda *_: pytest.fail("a text was encoded"))
    model(random_images(), LABELS, tokens=tokens_for(model))


def test_without_requested_terms_on_texts_no_text_is_encoded(monkeypatch):
    model = build_baseline(weights={"id": 1.0, "supcon_text": 1.0})
    monkeypatch.setattr(ClipTowers, "encode_text", lambda *_: pytest.fail("a text was encoded"))
    model(random_images(), LABELS, terms=["id"])


def test_the_identity_branch_runs_only_where_it_is_needed(monkeypatch):
    model = build_baseline(weights={"id": 1.0, "triplet": 1.0})
    run = lambda *_: pytest.fail("the branch was run")  # noqa: E731
    monkeypatch.setattr(model.identity_branch, "forward", run)
    model(random_images())
    model(random_images(), LABELS, terms=["triplet"])


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_everything_that_trains(name):
    model = build_baseline(
        name,
        weights=ALL_TERMS,
        losses={"triplet": TripletLoss(None), "info_nce": InfoNCELoss(learnable=True)},
        identity=partial(IdentityBranch, dropout=0.2),
    )
    checks.start_residual_branches(model)
    model(random_images(), LABELS, tokens=tokens_for(model)).loss.backward()

    assert checks.names_without_gradient(model) == []
    assert checks.trainable_parts(model) == {"towers", "identity_branch", "losses"}
    frozen = {name for name, p in model.towers.named_parameters() if not p.requires_grad}
    assert frozen == {"model.logit_scale"}


@pytest.mark.parametrize(
    ("weights", "text_trains"), [({"triplet": 1.0}, False), ({"supcon_text": 1.0}, True)]
)
def test_exactly_the_trainable_parameters_move(weights, text_trains):
    model = build_baseline(weights=weights, image_blocks=1, text_blocks=1)
    tokens = tokens_for(model)

    moved = checks.train_two_steps(model, lambda images: model(images, LABELS, tokens=tokens))

    assert moved == set(checks.trainable(model))
    assert any(p.requires_grad for p in model.towers.text_parameters()) is text_trains


def test_blocks_of_none_leave_requires_grad_as_it_is():
    towers = tiny_towers(image_size=SIZE)
    freeze(towers)
    model = ClipBaseline(towers, weights={"supcon_text": 1.0}, image_blocks=None, text_blocks=None)
    assert checks.trainable(model) == {}


def combinations_of_terms():
    """Terms, tower and precision: each term and all, on both towers and in both precisions."""
    alone = [*itertools.combinations(ALL_TERMS, 1), tuple(ALL_TERMS)]
    for number, terms in enumerate(alone):
        vit_in_bfloat16 = number % 2 == 1
        yield with_classifier(terms), NAMES[0], vit_in_bfloat16
        yield with_classifier(terms), NAMES[1], not vit_in_bfloat16


def with_classifier(terms):
    """Captions need the classifier of the images."""
    return ("id", *terms) if "id_text" in terms and "id" not in terms else terms


@pytest.mark.parametrize(("terms", "name", "use_bfloat16"), list(combinations_of_terms()))
def test_every_combination_of_terms_takes_a_step(terms, name, use_bfloat16):
    options = {}
    if "id" in terms:
        options["identity"] = partial(IdentityBranch, classifier=ArcFaceHead)
    weights = {term: ALL_TERMS[term] for term in terms}
    model = build_baseline(name, weights=weights, **options)

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=use_bfloat16):
        output = model(random_images(), LABELS, tokens=tokens_for(model))

    assert set(output.terms) == set(terms)
    assert (output.logits is None) is ("id" not in terms)
    assert (output.text_embeddings is None) is not any(term in TEXT_TERMS for term in terms)
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    assert output.loss.isfinite()
    for parameter_name, parameter in checks.trainable(model).items():
        assert parameter.grad is None or parameter.grad.isfinite().all(), parameter_name


OPEN_SET_TERMS = ("triplet", "supcon_image", "recall_surrogate", "smooth_ap", *PAIR_TERMS)


@pytest.mark.parametrize(
    "terms", [("triplet",), ("info_nce", "id"), OPEN_SET_TERMS, tuple(ALL_TERMS)], ids="-".join
)
def test_requested_terms(terms):
    model = build_baseline(weights=ALL_TERMS).eval()
    tokens = tokens_for(model)
    all_terms = model(random_images(), LABELS, tokens=tokens).terms

    output = model(random_images(), LABELS, tokens=tokens, terms=terms)

    assert list(output.terms) == [name for name in ALL_TERMS if name in terms]
    assert_close(output.loss, torch.stack([all_terms[name] for name in terms]).sum())


def test_open_set_terms_accept_unseen_identities():
    model = build_baseline(weights=ALL_TERMS).eval()
    assert model.open_set_terms == OPEN_SET_TERMS

    options = {"tokens": tokens_for(model), "terms": model.open_set_terms}
    unseen = model(random_images(), LABELS + 100, **options).loss
    assert_close(unseen, model(random_images(), LABELS, **options).loss)


def test_labels_without_classes_may_be_any_integers():
    model = build_baseline(num_identities=None, weights={"supcon_image": 1.0}).eval()
    other = model(random_images(), LABELS * 1000 - 7).loss
    assert_close(other, model(random_images(), LABELS).loss)


def test_a_head_with_a_margin_is_the_identity_loss():
    def loss_of(classifier):
        identity = partial(IdentityBranch, classifier=classifier, label_smoothing=0.0)
        model = build_baseline(weights={"id": 1.0}, identity=identity)
        return model(random_images(), LABELS).loss

    without_margin = loss_of(partial(ArcFaceHead, margin=0.0))
    with_margin = loss_of(partial(ArcFaceHead, margin=0.5))
    assert with_margin > without_margin + 1  # a margin of 30 times some tenths


def test_the_initial_identity_loss_is_at_chance_level():
    loss = build_baseline(weights={"id": 1.0})(random_images(), LABELS).loss
    assert loss.item() == pytest.approx(math.log(5), abs=0.1)


def test_given_losses_replace_the_default_ones():
    losses = {"supcon_image": SupConLoss(1.0)}
    model = build_baseline(weights={"supcon_image": 1.0, "triplet": 1.0}, losses=losses)
    output = model(random_images(), LABELS)

    assert model.losses["supcon_image"] is losses["supcon_image"]
    assert_close(output.terms["supcon_image"], SupConLoss(1.0)(output.features, LABELS).detach())
    assert_close(output.terms["triplet"], TripletLoss(0.3)(output.features, LABELS).detach())


def test_one_loss_may_serve_two_terms():
    supcon = SupConLoss(1.0)
    weights = {"supcon_image": 1.0, "supcon_text": 1.0}
    model = build_baseline(weights=weights, losses=dict.fromkeys(weights, supcon))
    assert model.losses["supcon_image"] is model.losses["supcon_text"] is supcon

    output = model(random_images(), LABELS, tokens=tokens_for(model))
    images, texts = output.features, output.text_embeddings
    both = supcon(images, LABELS, texts, LABELS) + supcon(texts, LABELS, images, LABELS)
    assert_close(output.terms["supcon_text"], both.detach() / 2)


def test_dropout_affects_the_classifier_alone():
    identity = partial(IdentityBranch, dropout=0.9)
    model = build_baseline(weights={"id": 1.0, "triplet": 1.0}, identity=identity)
    first = model(random_images(), LABELS)
    second = model(random_images(), LABELS)

    assert not torch.equal(first.logits, second.logits)
    assert torch.equal(first.terms["triplet"], second.terms["triplet"])
    assert torch.equal(first.embedding, second.embedding)


def test_weights_may_follow_the_epoch():
    model = build_baseline(weights={"supcon_image": lambda epoch: 0.1 * epoch, "triplet": 1.0})
    first = model(random_images(), LABELS, terms=["supcon_image"], step=1).loss
    third = model(random_images(), LABELS, terms=["supcon_image"], step=3).loss

    assert_close(third, 3 * first)
    with pytest.raises(ValueError, match="step"):
        model(random_images(), LABELS)


def test_cameras_reach_the_towers():
    towers = tiny_towers(image_size=SIZE, num_cameras=3)
    torch.nn.init.normal_(next(towers.camera_embedding.parameters()))
    model = ClipBaseline(towers, 5).eval()

    first = model(random_images(), cameras=torch.full((6,), 0)).embedding
    second = model(random_images(), cameras=torch.full((6,), 2)).embedding

    assert not torch.allclose(first, second)


@pytest.mark.parametrize("num_cameras", [0, 2])
def test_a_term_on_cameras_needs_no_embedding_of_them(num_cameras):
    towers = tiny_towers(image_size=SIZE, num_cameras=num_cameras)
    loss = CameraPrototypeLoss(128, 5, 2)
    terms = {"weights": {"camera_prototype": 2.0}, "losses": {"camera_prototype": loss}}
    model = ClipBaseline(towers, 5, **terms).eval()

    images, cameras = random_images(6), torch.arange(6) % 2
    given = {"cameras": cameras} if num_cameras else {}
    loss.initialize(towers.encode_image(images, **given), LABELS, cameras)
    output = model(images, LABELS, cameras=cameras)
    expected = 2 * loss(output.features, LABELS, cameras)
    assert_close(output.loss, expected)
    assert output.terms.keys() == {"camera_prototype"}
    assert model.open_set_terms == ()

    # cameras may also be given where the term is not computed
    assert_close(model(images, cameras=cameras).features, output.features)

    with pytest.raises(ValueError, match="'camera_prototype' compares within and across cameras;"):
        model(images, LABELS)
    with pytest.raises(ValueError, match='"camera_prototype" needs the number of cameras; pass'):
        ClipBaseline(towers, 5, weights={"camera_prototype": 1.0})


def test_a_checkpoint_of_other_identities_loads_without_its_heads():
    source = build_baseline(num_identities=9, weights=ALL_TERMS)
    target = build_baseline(num_identities=5, weights=ALL_TERMS)
    with torch.no_grad():
        source.towers.model.visual.proj.add_(1)

    report = load_weights(target, source.state_dict(), strict=False)

    assert {name for name, _, _ in report.mismatched} == {
        "identity_branch.classifier.weight",
        "losses.center.centers",
        "losses.prototype.prototypes",
        "losses.prototype.filled",
    }
    assert torch.equal(target.towers.model.visual.proj, source.towers.model.visual.proj)


def test_both_towers_learn():
    model = build_baseline(num_identities=None, weights={"supcon_image": 0.5, "supcon_text": 1.0})
    labels = torch.arange(6) // 2
    images = 4 * torch.rand(3, 3, 1, 1)[labels] + 0.5 * torch.randn(6, 3, *SIZE)
    tokens = model.towers.tokenize([CAPTIONS[2 * label] for label in labels.tolist()])

    losses = checks.losses_of_training(model, lambda: model(images, labels, tokens=tokens), lr=1e-4)

    assert losses[-1] < 0.8 * losses[0]


WITHOUT_NECK = partial(IdentityBranch, use_neck=False)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"weights": {"suncon": 1.0}},
            "unknown term 'suncon' in weights; it has id, center, prototype, camera_prototype,",
        ),
        (
            {"losses": {"suncon": SupConLoss()}},
            "unknown term 'suncon' in losses; it has id, center, prototype, camera_prototype,",
        ),
        (
            {"losses": {"supcon_image": SupConLoss()}},
            "the loss 'supcon_image' has no weight, so it would do nothing",
        ),
        ({"losses": {"id": SupConLoss()}}, r"made by `identity`, not by losses\['id'\]"),
        ({"losses": {"triplet": 0.3}}, r"expected losses\['triplet'\] as a module, got float"),
        (
            {"num_identities": None, "weights": {"id": 1.0, "center": 1.0}},
            "'id', 'center' needs the number of identities; pass num_identities",
        ),
        ({"num_identities": 0}, "expected num_identities as a whole number >= 1, got 0"),
        (
            {"weights": {"triplet": 1.0}, "identity": WITHOUT_NECK},
            '`identity` has no effect without a weight for "id"',
        ),
        (
            {"weights": {"triplet": 1.0}, "descriptor": "post_neck"},
            'descriptor="post_neck" needs an identity branch with a neck',
        ),
        (
            {"identity": WITHOUT_NECK, "descriptor": "post_neck"},
            'descriptor="post_neck" needs an identity branch with a neck',
        ),
        ({"descriptor": "both"}, "expected descriptor to be one of pre_neck, post_neck"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match="ClipBaseline: .*" + message):
        build_baseline(**options)


@pytest.mark.unhooked
def test_wrong_options_freeze_nothing():
    towers = tiny_towers(image_size=SIZE)
    with pytest.raises(ValueError, match="post_neck"):
        ClipBaseline(towers, weights={"triplet": 1.0}, image_blocks=0, descriptor="post_neck")
    assert all(parameter.requires_grad for parameter in towers.parameters())


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "labels", "message"),
    [
        ({}, [0, 5], r"labels in \[0, 5\), got labels from 0 to 5"),
        ({"weights": {"triplet": 1.0}}, [0, 1, 2], "labels as 2 integers"),
        ({}, [0], "at least two rows"),
    ],
)
def test_wrong_labels(options, labels, message):
    num_rows = min(len(labels), 2)
    with pytest.raises(ValueError, match=message):
        build_baseline(**options)(random_images(num_rows), torch.tensor(labels))


@pytest.mark.unhooked
def test_wrong_tokens():
    model = build_baseline(weights={"info_nce": 1.0, "triplet": 1.0})
    with pytest.raises(ValueError, match="'info_nce' compares images with captions; pass tokens="):
        model(random_images(), LABELS)
    with pytest.raises(ValueError, match="expected tokens of 6 captions, got shape"):
        model(random_images(), LABELS, tokens=tokens_for(model)[:3])


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("labels", "terms", "message"),
    [
        (LABELS, ["id"], "unknown term 'id'; this model has info_nce, triplet"),
        (LABELS, [], "terms is empty; pass None"),
        (None, ["triplet"], "terms are computed from labels; pass labels, too"),
    ],
)
def test_wrong_terms(labels, terms, message):
    model = build_baseline(weights={"info_nce": 1.0, "triplet": 1.0})
    with pytest.raises(ValueError, match="ClipBaseline: " + message):
        model(random_images(), labels, tokens=tokens_for(model), terms=terms)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    "method",
    [
        lambda model: ClipBaseline(model, 5),
        lambda model: ClipReID(model, torch.randn(5, 8)),
        lambda model: ClipReIDPromptStage(model, None),
        lambda model: PromptSG(model, 5),
        freeze,
        lambda model: unfreeze_last_blocks(model, 1),
        set_gradient_checkpointing,
        add_lora,
        lambda model: export_image_tower(model, "tower.onnx"),
    ],
)
def test_a_model_that_is_no_towers_is_an_error(method):
    expected = (
        r"^\w+: expected towers as ClipTowers, got Linear\. Build them with ClipTowers\.from_o"
    )
    with pytest.raises(ValueError, match=expected):
        method(torch.nn.Linear(2, 2))


def tracklets_of(num_frames):
    """Frames of two tracklets (2, T, 3, H, W), and the labels of the tracklets."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, num_frames, 3, *SIZE, generator=generator), torch.tensor([0, 1])


def test_tracklets_are_the_pooled_frames():
    model = build_baseline(pooling=FrameAttention(128)).eval()
    torch.nn.init.normal_(model.pooling.score.weight)
    frames, _ = tracklets_of(3)
    valid = torch.tensor([[True, True, True], [True, False, True]])

    with torch.no_grad():
        alone = model(frames.flatten(0, 1)).embedding.unflatten(0, (2, 3))
        expected = l2_normalize(model.pooling(alone, valid))
        assert_close(model(frames, valid=valid).embedding, expected)
        assert_close(model.pool_frames(alone, valid), expected)


@pytest.mark.parametrize("pooling", [FrameMean(), FrameAttention(128), FrameTransformer(128)])
def test_losses_of_tracklets_reach_towers_and_pooling(pooling):
    model = build_baseline(pooling=pooling, weights={"id": 1.0, "supcon_image": 1.0})
    frames, labels = tracklets_of(2)
    output = model(frames.repeat(2, 1, 1, 1, 1), labels.repeat(2))
    output.loss.backward()

    assert output.embedding.shape == (4, 128)
    assert output.logits.shape == (4, 5)
    named = dict(model.named_parameters())
    trained = [name for name in named if name.startswith(("towers.model.visual", "pooling"))]
    reached = [name for name in trained if named[name].grad is not None]
    assert reached == trained


def test_cameras_of_tracklets_are_those_of_their_frames():
    towers = tiny_towers(image_size=SIZE, num_cameras=3)
    model = ClipBaseline(towers, weights={"supcon_image": 1.0}, pooling=FrameMean()).eval()
    frames, _ = tracklets_of(2)
    cameras = torch.tensor([2, 0])

    with torch.no_grad():
        alone = model(frames.flatten(0, 1), cameras=torch.tensor([2, 2, 0, 0])).embedding
        expected = l2_normalize(alone.unflatten(0, (2, 2)).mean(dim=1))
        assert_close(model(frames, cameras=cameras).embedding, expected)


@pytest.mark.parametrize(
    ("options", "images", "valid", "message"),
    [
        ({}, (2, 2, 3, *SIZE), None, "tracklets need a pooling; pass pooling=FrameMean"),
        (
            {"pooling": FrameMean()},
            (2, 3, *SIZE),
            torch.ones(2, 1, dtype=torch.bool),
            "valid belongs to tracklets",
        ),
    ],
)
def test_tracklets_without_a_pooling_are_an_error(options, images, valid, message):
    with pytest.raises(ValueError, match=f"^ClipBaseline: {message}"):
        build_baseline(**options)(torch.zeros(images), valid=valid)


def test_frames_are_pooled_before_the_neck():
    with pytest.raises(ValueError, match=r"^ClipBaseline: frames are pooled before the neck"):
        build_baseline(pooling=FrameMean(), descriptor="post_neck")
