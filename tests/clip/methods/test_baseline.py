import itertools
import math
from functools import partial

import pytest
import torch
from oracles import losses, metric, prompts
from torch.testing import assert_close

from clipreid_kit.clip import ClipBaseline, ClipTowers, IdentityBranch, freeze, load_weights
from clipreid_kit.losses import ArcFaceHead, InfoNCELoss, SupConLoss, TripletLoss

SIZE = (64, 32)
NAMES = ("reid-tiny-vit", "reid-tiny-resnet")
LABELS = torch.tensor([0, 0, 2, 2, 3, 3])
WORDS = ["a red coat", "a red coat and a hat", "a blue cup", "a cup", "a hand", "a left hand"]
ALL = {"id": 0.5, "triplet": 1.0, "center": 0.01, "prototype": 0.3, "supcon_image": 0.7}
ALL |= {"supcon_text": 0.4, "info_nce": 0.2, "hard_negative": 0.6, "triplet_text": 0.8}
TEXT = ("supcon_text", "info_nce", "hard_negative", "triplet_text")


def build(name="reid-tiny-vit", identities=5, **options):
    torch.manual_seed(0)
    return ClipBaseline(ClipTowers.from_open_clip(name, image_size=SIZE), identities, **options)


def pictures(rows=6, seed=0):
    return torch.randn(rows, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def captions(model):
    return model.towers.tokenize(WORDS)


def without_gradient(model):
    return [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any())
    ]


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def test_every_term_equals_its_paper():
    model = build(weights=ALL)
    torch.nn.init.normal_(model.identity_branch.classifier.weight, std=0.3)
    torch.nn.init.normal_(model.identity_branch.neck.norm.weight)
    model.losses["prototype"].initialize(torch.randn(5, 128), torch.arange(5))
    stored = model.losses["prototype"].prototypes.clone()
    model.towers.eval()
    output = model(pictures(), LABELS, tokens=captions(model))
    images, texts = (
        model.towers.encode_image(pictures()).detach(),
        model.towers.encode_text(captions(model)).detach(),
    )
    i, t, labels = images.tolist(), texts.tolist(), LABELS.tolist()
    normed = prompts.batch_norm(
        images, model.identity_branch.neck.norm.weight, model.identity_branch.neck.norm.bias
    )
    among = (unit(images) @ unit(stored).T / 0.05).log_softmax(1)
    expected = {
        "id": prompts.smoothed_ce(normed @ model.identity_branch.classifier.weight.T, labels, 0.1),
        "triplet": prompts.batch_hard_triplet(images, labels, 0.3),
        "center": metric.center(i, labels, model.losses["center"].centers.tolist()),
        "prototype": -among[torch.arange(6), LABELS].mean().item(),
        "supcon_image": losses.supcon(i, labels, 0.07),
        "supcon_text": (
            losses.supcon(i, labels, 0.07, t, labels) + losses.supcon(t, labels, 0.07, i, labels)
        )
        / 2,
        "info_nce": losses.info_nce(i, t, 0.07),
    }
    for term, value in expected.items():
        assert_close(
            output.terms[term].item(), ALL[term] * float(value), atol=1e-3, rtol=1e-4, msg=term
        )
    for term in (
        "triplet_text",
        "hard_negative",
    ):  # of two modalities, as the losses themselves, in both directions
        assert output.terms[term] > 0
    both = [
        TripletLoss()(images, LABELS, texts, LABELS),
        TripletLoss()(texts, LABELS, images, LABELS),
    ]
    assert_close(output.terms["triplet_text"], ALL["triplet_text"] * sum(both) / 2)
    assert_close(output.loss, torch.stack(list(output.terms.values())).sum())
    assert_close(output.features, images)
    assert_close(output.text_embeddings, texts)
    assert_close(output.embedding, unit(images))


@pytest.mark.parametrize("descriptor", ["pre_neck", "post_neck"])
@pytest.mark.parametrize("reduced_dim", [None, 16])
def test_descriptor(descriptor, reduced_dim):
    model = build(descriptor=descriptor, identity=partial(IdentityBranch, reduced_dim=reduced_dim))
    torch.nn.init.normal_(model.identity_branch.neck.norm.running_mean)
    torch.nn.init.uniform_(model.identity_branch.neck.norm.running_var, 0.5, 2.0)
    model.eval()
    output = model(pictures())
    features = model.towers.encode_image(pictures())
    if descriptor == "post_neck":
        features = (
            model.identity_branch.neck.reduction(features)
            - model.identity_branch.neck.norm.running_mean
        )
        features = features / (model.identity_branch.neck.norm.running_var + 1e-5).sqrt()
    assert_close(output.embedding, unit(features))
    assert (output.text_embeddings, output.logits, output.loss, output.terms) == (
        None,
        None,
        None,
        {},
    )
    with torch.no_grad():  # labels never enter it, nor do the other images
        for labels in (LABELS, LABELS.flip(0)):
            assert_close(
                model(pictures(), labels).embedding, output.embedding.detach(), atol=1e-5, rtol=1e-5
            )
        assert_close(
            model(pictures()[:1]).embedding, output.embedding[:1].detach(), atol=1e-5, rtol=1e-5
        )


def test_only_what_is_asked_for_is_built_and_computed(monkeypatch):
    model = build(weights={"supcon_image": 1.0})
    assert model.identity_branch is None
    assert list(model.losses) == ["supcon_image"]
    monkeypatch.setattr(ClipTowers, "encode_text", lambda *_: pytest.fail("a text was encoded"))
    model(pictures(), LABELS, tokens=captions(model))
    model = build(weights={"id": 1.0, "supcon_text": 1.0})
    model(pictures(), LABELS, terms=["id"])
    monkeypatch.setattr(
        model.identity_branch, "forward", lambda *_: pytest.fail("the branch was run")
    )
    model.eval()(pictures())


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_everything_that_trains(name):
    model = build(
        name,
        weights=ALL,
        losses={"triplet": TripletLoss(None), "info_nce": InfoNCELoss(learnable=True)},
        identity=partial(IdentityBranch, dropout=0.2),
    )
    for key, parameter in model.named_parameters():
        if key.endswith("bn3.weight"):  # open_clip starts a ResNet's branches at 0
            torch.nn.init.ones_(parameter)
    model(pictures(), LABELS, tokens=captions(model)).loss.backward()
    assert without_gradient(model) == []
    trained = {key.split(".")[0] for key, p in model.named_parameters() if p.requires_grad}
    assert trained == {"towers", "identity_branch", "losses"}
    still = {key for key, p in model.towers.named_parameters() if not p.requires_grad}
    assert still == {"model.logit_scale"}


@pytest.mark.parametrize(
    ("weights", "tower"), [({"triplet": 1.0}, "text"), ({"supcon_text": 1.0}, "neither")]
)
def test_frozen_parts_stay_as_they_are(weights, tower):
    model = build(weights=weights, image_blocks=1, text_blocks=1)
    frozen = {key: p.detach().clone() for key, p in model.named_parameters() if not p.requires_grad}
    trained = {key: p.detach().clone() for key, p in model.named_parameters() if p.requires_grad}
    words = {id(p) for p in model.towers.text_parameters()}
    assert any(id(p) in words and p.requires_grad for p in model.parameters()) == (tower != "text")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for seed in range(2):
        optimizer.zero_grad()
        model(pictures(seed=seed), LABELS, tokens=captions(model)).loss.backward()
        optimizer.step()
    now = dict(model.named_parameters())
    assert all(torch.equal(now[key], value) for key, value in frozen.items())
    assert [key for key, value in trained.items() if torch.equal(now[key], value)] == []


def test_none_leaves_what_trains_to_the_caller():
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE)
    freeze(towers)
    model = ClipBaseline(towers, weights={"supcon_text": 1.0}, image_blocks=None, text_blocks=None)
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_every_combination_of_terms_takes_a_step(name):
    towers, images = ClipTowers.from_open_clip(name, image_size=SIZE), pictures()
    tokens = towers.tokenize(WORDS)
    half = (
        name == NAMES[0]
    )  # in turns: each combination runs in both precisions, one with each tower
    for terms in [*itertools.combinations(ALL, 1), *itertools.pairwise(ALL), tuple(ALL)]:
        half = not half
        model = ClipBaseline(
            towers,
            5,
            weights={term: ALL[term] for term in terms},
            **(
                {"identity": partial(IdentityBranch, classifier=ArcFaceHead)}
                if "id" in terms
                else {}
            ),
        )
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            output = model(images, LABELS, tokens=tokens)
        assert set(output.terms) == set(terms)
        assert output.loss.dtype == torch.float32
        assert output.loss.isfinite()
        assert (output.logits is None) is ("id" not in terms)
        assert (output.text_embeddings is None) is not any(term in TEXT for term in terms)
        output.loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        optimizer.step()
        optimizer.zero_grad()


def test_some_terms_of_all():
    model = build(weights=ALL).eval()
    tokens = captions(model)
    every = model(pictures(), LABELS, tokens=tokens)
    assert model.open_set_terms == ("triplet", "supcon_image", *TEXT)
    for terms in (["triplet"], ["info_nce", "id"], model.open_set_terms, tuple(ALL)):
        some = model(pictures(), LABELS, tokens=tokens, terms=terms)
        assert list(some.terms) == [name for name in ALL if name in terms]
        assert_close(some.loss, torch.stack([every.terms[name] for name in terms]).sum())
    unseen = model(
        pictures(), LABELS + 100, tokens=tokens, terms=model.open_set_terms
    )  # identities never seen
    assert_close(
        unseen.loss, model(pictures(), LABELS, tokens=tokens, terms=model.open_set_terms).loss
    )


def test_labels_without_classes_may_be_any():
    model = build(identities=None, weights={"supcon_image": 1.0}).eval()
    assert_close(model(pictures(), LABELS * 1000 - 7).loss, model(pictures(), LABELS).loss)


def test_heads_and_losses_of_ones_own():
    plain = build(weights={"id": 1.0}, identity=partial(IdentityBranch, label_smoothing=0.0))(
        pictures(), LABELS
    )
    assert plain.loss.item() == pytest.approx(math.log(5), abs=0.1)
    margin = build(
        weights={"id": 1.0},
        identity=partial(
            IdentityBranch, classifier=partial(ArcFaceHead, margin=0.5), label_smoothing=0.0
        ),
    )
    assert margin(pictures(), LABELS).loss > plain.loss + 1  # a margin of 30 times some tenths
    warm = build(
        weights={"supcon_image": 1.0, "supcon_text": 1.0},
        losses=dict.fromkeys(("supcon_image", "supcon_text"), SupConLoss(1.0)),
    )
    output = warm(pictures(), LABELS, tokens=captions(warm))
    assert_close(output.terms["supcon_image"], SupConLoss(1.0)(output.features, LABELS).detach())
    soft = build(weights={"triplet": 1.0}, losses={"triplet": TripletLoss(None)})(
        pictures(), LABELS
    )
    assert not torch.isclose(soft.loss, build(weights={"triplet": 1.0})(pictures(), LABELS).loss)


def test_dropout_is_before_the_classifier_alone():
    model = build(
        weights={"id": 1.0, "triplet": 1.0}, identity=partial(IdentityBranch, dropout=0.9)
    )
    first, second = (model(pictures(), LABELS) for _ in range(2))
    assert not torch.equal(first.logits, second.logits)
    assert torch.equal(first.terms["triplet"], second.terms["triplet"])
    assert torch.equal(first.embedding, second.embedding)


def test_weights_may_follow_the_epoch():
    model = build(weights={"supcon_image": lambda epoch: 0.1 * epoch, "triplet": 1.0})
    first, third = (
        model(pictures(), LABELS, terms=["supcon_image"], step=step).loss for step in (1, 3)
    )
    assert_close(third, 3 * first)
    with pytest.raises(ValueError, match="a step"):
        model(pictures(), LABELS)


def test_cameras_reach_the_towers():
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE, num_cameras=3)
    torch.nn.init.normal_(next(towers.camera_embedding.parameters()))
    model = ClipBaseline(towers, 5).eval()
    first, second = (
        model(pictures(), cameras=torch.full((6,), camera)).embedding for camera in (0, 2)
    )
    assert not torch.allclose(first, second)


def test_a_checkpoint_of_other_identities_leaves_the_heads_out():
    source, target = build(identities=9, weights=ALL), build(identities=5, weights=ALL)
    with torch.no_grad():
        source.towers.model.visual.proj.add_(1)
    report = load_weights(target, source.state_dict(), strict=False)
    dropped = {name for name, _, _ in report.mismatched}
    assert {
        "identity_branch.classifier.weight",
        "losses.center.centers",
        "losses.prototype.prototypes",
    } <= dropped
    assert not any(name.startswith("towers") for name in dropped)
    assert torch.equal(target.towers.model.visual.proj, source.towers.model.visual.proj)


def test_both_towers_learn():
    model = build(identities=None, weights={"supcon_image": 0.5, "supcon_text": 1.0})
    labels = torch.arange(6) // 2
    images = 4 * torch.rand(3, 3, 1, 1)[labels] + 0.5 * torch.randn(6, 3, *SIZE)
    tokens = model.towers.tokenize([WORDS[0], WORDS[0], WORDS[2], WORDS[2], WORDS[4], WORDS[4]])
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    values = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = model(images, labels, tokens=tokens).loss
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.8 * values[0]


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"weights": {"suncon": 1.0}},
            "ClipBaseline: unknown term 'suncon' in weights; the terms are id, center, prototype,",
        ),
        (
            {"losses": {"suncon": SupConLoss()}},
            "ClipBaseline: unknown term 'suncon' in losses; the terms are id, center, prototype,",
        ),
        (
            {"losses": {"supcon_image": SupConLoss()}},
            "the loss 'supcon_image' has no weight, so it would do nothing",
        ),
        ({"losses": {"id": SupConLoss()}}, r"made by `identity`, not by losses\['id'\]"),
        ({"losses": {"triplet": 0.3}}, r"losses\['triplet'\] as a module, got float"),
        (
            {"identities": None, "weights": {"id": 1.0, "center": 1.0}},
            "'id', 'center' needs the number of training identities; pass num_identities",
        ),
        ({"identities": 0}, "num_identities as a whole number >= 1, got 0"),
        (
            {"weights": {"triplet": 1.0}, "identity": partial(IdentityBranch, use_neck=False)},
            '`identity` has no effect without a weight for "id"',
        ),
        (
            {"weights": {"triplet": 1.0}, "descriptor": "post_neck"},
            'descriptor="post_neck" needs an identity branch with a neck',
        ),
        (
            {"identity": partial(IdentityBranch, use_neck=False), "descriptor": "post_neck"},
            'descriptor="post_neck" needs an identity branch with a neck',
        ),
        ({"descriptor": "both"}, "descriptor to be one of pre_neck, post_neck"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.unhooked
def test_wrong_options_freeze_nothing():
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE)
    with pytest.raises(ValueError, match="post_neck"):
        ClipBaseline(towers, weights={"triplet": 1.0}, image_blocks=0, descriptor="post_neck")
    assert all(parameter.requires_grad for parameter in towers.parameters())


@pytest.mark.unhooked
def test_wrong_labels():
    with pytest.raises(ValueError, match=r"labels in \[0, 5\), got labels from 0 to 5"):
        build()(pictures(2), torch.tensor([0, 5]))
    with pytest.raises(ValueError, match="labels as 2 integers"):
        build(weights={"triplet": 1.0})(pictures(2), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="at least two rows in training mode"):
        build()(pictures(1), torch.tensor([0]))


@pytest.mark.unhooked
def test_wrong_tokens():
    model = build(weights={"info_nce": 1.0, "triplet": 1.0})
    with pytest.raises(ValueError, match="'info_nce' compares images with captions; pass tokens="):
        model(pictures(), LABELS)
    with pytest.raises(ValueError, match="tokens of 6 captions, got shape"):
        model(pictures(), LABELS, tokens=captions(model)[:3])


@pytest.mark.unhooked
def test_wrong_terms():
    model = build(weights={"info_nce": 1.0, "triplet": 1.0})
    with pytest.raises(ValueError, match="unknown term 'id'; this model has info_nce, triplet"):
        model(pictures(), LABELS, tokens=captions(model), terms=["id"])
    with pytest.raises(ValueError, match="terms is empty; pass None"):
        model(pictures(), LABELS, tokens=captions(model), terms=[])
    with pytest.raises(ValueError, match="terms are computed from labels"):
        model(pictures(), terms=["triplet"])
