import itertools
from functools import partial

import pytest
import torch
from oracles import prompts as oracle
from torch.testing import assert_close

from clipreid_kit.clip import (
    ClipReID,
    ClipReIDPromptStage,
    ClipTowers,
    IdentityClassifier,
    IdentityPromptLearner,
    layerwise_lr_groups,
    load_weights,
)
from clipreid_kit.losses import ArcFaceHead, CenterLoss, CosFaceHead, ImageToTextCELoss, TripletLoss

SIZE = (64, 32)
NAMES = ("reid-tiny-vit", "reid-tiny-resnet")
LABELS = torch.tensor([0, 0, 2, 2, 3, 3])
ALL = {
    "id": 0.5,
    "triplet": 1.0,
    "image_to_text": 0.7,
    "supcon": 0.3,
    "arcface": 0.2,
    "center": 0.01,
}


def made(name="reid-tiny-vit", identities=5, **options):
    towers = ClipTowers.from_open_clip(name, image_size=SIZE)
    texts = torch.randn(identities, towers.embed_dim, generator=torch.Generator().manual_seed(1))
    return ClipReID(towers, texts, **options)


def pictures(rows=6, seed=0):
    return torch.randn(rows, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def seasoned(model):
    """Running statistics as after training: untrained ones would hide which side of a neck is read."""
    for neck in model.necks:
        torch.nn.init.normal_(neck.norm.running_mean)
        torch.nn.init.uniform_(neck.norm.running_var, 0.5, 2.0)
    return model.eval()


def without_gradient(model):
    return [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any())
    ]


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_formulas_of_the_paper(name):
    model = made(name)
    for head in model.classifiers:
        torch.nn.init.normal_(head.weight, std=0.3)
    torch.nn.init.normal_(model.necks[0].norm.weight)
    model.towers.eval()  # so that the towers give the same features twice
    output = model(pictures(), LABELS)
    levels = model.towers.encode_image_levels(pictures(), ("previous", "unprojected", "projected"))
    labels = LABELS.tolist()
    identity = 0.0
    for feature, neck, head in zip(
        (levels.unprojected, levels.projected), model.necks, model.classifiers, strict=True
    ):
        normed = oracle.batch_norm(feature, neck.norm.weight, neck.norm.bias)
        identity += oracle.smoothed_ce(normed @ head.weight.T, labels, 0.1)
    three = (levels.previous, levels.unprojected, levels.projected)
    triplet = sum(oracle.batch_hard_triplet(rows, labels, 0.3) for rows in three)
    image_to_text = oracle.smoothed_ce(levels.projected @ model.text_embeddings.T, labels, 0.1)
    expected = {"id": 0.25 * identity, "triplet": triplet, "image_to_text": image_to_text}
    for term, value in expected.items():
        assert_close(output.terms[term].item(), value, atol=1e-3, rtol=1e-4)
    assert_close(output.loss.item(), sum(expected.values()), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("descriptor", ["pre_neck", "post_neck"])
def test_descriptor(descriptor):
    model = seasoned(made(descriptor=descriptor))
    output = model(pictures())
    levels = model.towers.encode_image_levels(pictures(), ("unprojected", "projected"))
    sides = [levels.unprojected, levels.projected]
    if descriptor == "post_neck":
        sides = [
            (side - neck.norm.running_mean) / (neck.norm.running_var + 1e-5).sqrt()
            for side, neck in zip(sides, model.necks, strict=True)
        ]
    expected = torch.cat(sides, dim=1)
    assert_close(output.embedding, expected / expected.norm(dim=1, keepdim=True))
    assert (output.previous, output.logits, output.loss, output.terms) == (None, None, None, {})


@pytest.mark.parametrize("descriptor", ["pre_neck", "post_neck"])
def test_labels_never_enter_the_descriptor(descriptor):
    model = seasoned(made(descriptor=descriptor))
    with torch.no_grad():
        plain = model(pictures()).embedding
        for labels in (LABELS, LABELS.flip(0)):
            assert_close(model(pictures(), labels).embedding, plain, atol=1e-5, rtol=1e-5)
        assert_close(
            model(pictures()[:1]).embedding, plain[:1], atol=1e-5, rtol=1e-5
        )  # one image at a time


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_everything_that_trains(name):
    model = made(name, weights=ALL, triplet=TripletLoss(None))
    for key, parameter in model.named_parameters():
        if key.endswith("bn3.weight"):  # open_clip starts a ResNet's branches at 0
            torch.nn.init.ones_(parameter)
    model(pictures(), LABELS).loss.backward()
    assert without_gradient(model) == []
    trained = {key.split(".")[0] for key, p in model.named_parameters() if p.requires_grad}
    assert trained == {"towers", "necks", "classifiers", "arcface", "center"}
    assert all(p.grad is None for p in model.towers.text_parameters())


@pytest.mark.parametrize("name", NAMES)
def test_frozen_parts_stay_as_they_are(name):
    model = made(name, image_blocks=1)
    frozen = {key: p.detach().clone() for key, p in model.named_parameters() if not p.requires_grad}
    assert any(key.startswith("towers.model.visual") for key in frozen)
    trained = {key: p.detach().clone() for key, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for seed in range(2):
        optimizer.zero_grad()
        model(pictures(seed=seed), LABELS).loss.backward()
        optimizer.step()
    now = dict(model.named_parameters())
    assert all(torch.equal(now[key], value) for key, value in frozen.items())
    assert [key for key, value in trained.items() if torch.equal(now[key], value)] == []


def small_towers(build, name):
    return build(
        "vit" if name == NAMES[0] else "resnet",
        image_size=(64, 32) if name == NAMES[1] else (32, 16),
    ).train()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_combination_of_terms_takes_a_step(build, name, half):
    towers = small_towers(build, name)
    texts, images = torch.randn(5, towers.embed_dim), torch.randn(6, 3, *towers.image_size)
    for terms in (terms for count in range(1, 7) for terms in itertools.combinations(ALL, count)):
        options = (
            {"head": ArcFaceHead, "label_smoothing": 0.0}
            if "supcon" in terms
            else {"descriptor": "post_neck"}
        )
        model = ClipReID(towers, texts, weights={term: ALL[term] for term in terms}, **options)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            output = model(images, LABELS)
        assert set(output.terms) == set(terms)
        assert output.loss.dtype == torch.float32
        assert output.loss.isfinite()
        assert (output.logits is None) is ("id" not in terms)
        output.loss.backward()
        # DistributedDataParallel fails where a parameter that trains takes no part
        assert [
            key for key, p in model.named_parameters() if p.requires_grad and p.grad is None
        ] == [], terms
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_combination_of_other_toggles_takes_a_step(build, name, half):
    towers = small_towers(build, name)
    images = torch.randn(6, 3, *towers.image_size)
    toggles = (
        (IdentityClassifier, ArcFaceHead),
        (0, 1, "all"),
        ("both", "projected"),
        ("pre_neck", "post_neck"),
    )
    texts = (torch.randn(5, towers.embed_dim), IdentityPromptLearner(towers, 5), None)
    for head, blocks, levels, descriptor, text in itertools.product(*toggles, texts):
        weights = {"id": 0.25, "triplet": 1.0} if text is None else ALL
        options = {
            "levels": levels,
            "descriptor": descriptor,
            "num_identities": 5 if text is None else None,
        }
        model = ClipReID(towers, text, weights=weights, head=head, image_blocks=blocks, **options)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            output = model(images, LABELS)
        output.loss.backward()
        assert output.loss.isfinite()
        assert len(output.logits) == (2 if levels == "both" else 1)
        assert output.embedding.shape[1] == towers.embed_dim + (
            towers.width if levels == "both" else 0
        )
        assert [
            key for key, p in model.named_parameters() if p.requires_grad and p.grad is None
        ] == []
        model.zero_grad()


@pytest.mark.parametrize("name", NAMES)
def test_groups_of_the_optimiser_leave_nothing_out(name):
    """Neck, classifiers, ArcFace and centres are in a group each once, with rates of their own where asked."""
    model = made(name, weights=ALL)
    groups = layerwise_lr_groups(
        model, {"towers": 5e-6, "center": 0.5, "": 5e-5}, weight_decay=1e-4
    )
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(rates)
    assert rates.keys() == {id(p) for p in model.parameters() if p.requires_grad}
    assert rates[id(model.center.centers)] == 0.5
    assert {rates[id(p)] for p in (model.necks[0].norm.weight, model.classifiers[1].weight)} == {
        5e-5
    }
    assert rates[id(model.arcface.head.weight)] == 5e-5
    held = {name for name, _ in model.named_parameters()}
    assert held <= model.state_dict().keys()


def test_is_made_in_training_mode_with_its_towers():
    """The first stage leaves the towers in evaluation mode, where BatchNorm stands still and cameras may be missing."""
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE, num_cameras=2)
    stage = ClipReIDPromptStage(towers, IdentityPromptLearner(towers, 5))
    assert not towers.training
    model = ClipReID(towers, stage.prompts.encode_all(towers))
    assert all(module.training for module in model.modules())
    with pytest.raises(ValueError, match="Training mode needs the cameras"):
        model(pictures(), LABELS)


def test_the_projected_level_alone():
    model = seasoned(made(levels="projected", weights=ALL))
    output = model(pictures(), LABELS)
    assert len(model.necks) == len(model.classifiers) == len(output.logits) == 1
    assert output.previous is None
    assert_close(output.embedding, output.projected / output.projected.norm(dim=1, keepdim=True))
    assert_close(output.terms["triplet"], TripletLoss()(output.projected, LABELS).detach())
    assert_close(
        output.logits[0], model.necks[0](output.projected).after @ model.classifiers[0].weight.T
    )


def test_the_baseline_without_texts():
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE)
    model = ClipReID(towers, None, num_identities=5, weights={"id": 0.25, "triplet": 1.0})
    with_texts = ClipReID(towers, torch.randn(5, 128), weights={"id": 0.25, "triplet": 1.0})
    with_texts.classifiers.load_state_dict(model.classifiers.state_dict())
    assert_close(model(pictures(), LABELS).loss, with_texts(pictures(), LABELS).loss)
    assert "text_embeddings" not in model.state_dict()


def test_texts_in_half_precision_and_cameras():
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE, num_cameras=3)
    texts = torch.randn(5, towers.embed_dim)
    cameras = torch.tensor([0, 1, 2, 0, 1, 2])
    losses = []
    for rows in (texts, texts.bfloat16()):
        model = ClipReID(towers, rows, weights={"image_to_text": 1.0, "supcon": 1.0})
        losses.append(model(pictures(), LABELS, cameras=cameras).loss)
    assert_close(losses[0], losses[1], atol=0.05, rtol=0.05)
    with pytest.raises(ValueError, match=r"cameras in 0\.\.2 in training, got \[3\]"):
        model(pictures(), LABELS, cameras=cameras + 1)
    assert model.eval()(pictures(), cameras=cameras + 1).embedding.isfinite().all()


@pytest.mark.parametrize("head", [ArcFaceHead, partial(CosFaceHead, margin=0.2)])
def test_a_head_with_a_margin_is_the_identity_loss(head):
    model = made(head=head, weights={"id": 1.0}, label_smoothing=0.0)
    output = model(pictures(), LABELS)
    plain = made(weights={"id": 1.0}, label_smoothing=0.0)(pictures(), LABELS)
    assert output.loss > plain.loss + 1  # a margin of 30 times some tenths
    output.loss.backward()
    assert without_gradient(model) == []


def test_losses_of_ones_own():
    soft = made(weights={"triplet": 1.0}, triplet=TripletLoss(None))(pictures(), LABELS)
    assert not torch.isclose(soft.loss, made(weights={"triplet": 1.0})(pictures(), LABELS).loss)
    cosine = made(
        weights={"image_to_text": 1.0}, image_to_text=ImageToTextCELoss(0.1, label_smoothing=0.0)
    )
    output = cosine(pictures(), LABELS)
    expected = ImageToTextCELoss(0.1, label_smoothing=0.0)(
        output.projected, LABELS, cosine.text_embeddings
    )
    assert_close(output.loss, expected)


def test_weights_may_follow_the_epoch():
    model = made(weights={"image_to_text": lambda epoch: 0.1 * epoch})
    first, third = (model(pictures(), LABELS, step=step).loss for step in (1, 3))
    assert_close(third, 3 * first)
    with pytest.raises(ValueError, match="a step"):
        model(pictures(), LABELS)


def test_state_dict_round_trip():
    model = made(weights=ALL).train()
    model(pictures(), LABELS)
    other = ClipReID(
        ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE, seed=3),
        torch.zeros(5, 128),
        weights=ALL,
    )
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(pictures()).embedding, model.eval()(pictures()).embedding)
    assert_close(other(pictures(), LABELS).loss, model(pictures(), LABELS).loss)


def test_a_checkpoint_of_other_identities_leaves_the_heads_out():
    source, target = made(identities=9, weights=ALL), made(identities=5, weights=ALL)
    with torch.no_grad():
        source.towers.model.visual.proj.add_(1)
    heads = [head.weight.clone() for head in target.classifiers]
    report = load_weights(target, source.state_dict(), strict=False)
    dropped = {name for name, _, _ in report.mismatched}
    assert dropped == {
        "text_embeddings",
        "classifiers.0.weight",
        "classifiers.1.weight",
        "arcface.head.weight",
        "center.centers",
    }
    assert "classifiers.0.weight (9, 128) in the checkpoint, (5, 128) here" in report.summary()
    assert all(torch.equal(a, b.weight) for a, b in zip(heads, target.classifiers, strict=True))
    assert torch.equal(target.towers.model.visual.proj, source.towers.model.visual.proj)
    with pytest.raises(ValueError, match="mismatched"):
        load_weights(target, source.state_dict())


def test_the_two_stages_lower_their_losses():
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE)
    labels = torch.arange(12) // 3
    images = 4 * torch.rand(4, 3, 1, 1)[labels] + 0.5 * torch.randn(12, 3, *SIZE)

    stage = ClipReIDPromptStage(towers, IdentityPromptLearner(towers, 4))
    features = stage.image_embeddings(images)
    optimizer = torch.optim.Adam(stage.prompts.parameters(), lr=0.02)
    first = [float(step_of(stage, optimizer, features, labels)) for _ in range(12)]
    texts = stage.prompts.encode_all(towers)

    model = ClipReID(towers, texts)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-5)
    second = [float(step_of(model, optimizer, images, labels)) for _ in range(10)]
    assert first[-1] < 0.8 * first[0]
    assert second[-1] < 0.9 * second[0]
    assert torch.equal(model.text_embeddings, texts)


def step_of(module, optimizer, *batch):
    optimizer.zero_grad()
    loss = module(*batch).loss
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.mark.unhooked
@pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning"
)  # torch 2.6, about itself
@pytest.mark.parametrize("name", NAMES)
def test_compiles(build, name):
    towers = small_towers(build, name)
    model = ClipReID(towers, torch.randn(5, towers.embed_dim), weights=ALL).eval()
    images = torch.randn(6, 3, *towers.image_size)
    output = torch.compile(model, fullgraph=True, backend="aot_eager")(images, LABELS)
    expected = model(images, LABELS)
    assert_close(output.loss, expected.loss, atol=1e-4, rtol=1e-4)
    assert_close(output.embedding, expected.embedding, atol=1e-5, rtol=1e-4)
    output.loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.unhooked
def test_errors():
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE)
    texts = torch.randn(5, towers.embed_dim)
    with pytest.raises(ValueError, match=r"labels in \[0, 5\), got labels from 0 to 5"):
        made()(pictures(2), torch.tensor([0, 5]))
    with pytest.raises(ValueError, match="labels as 2 integers"):
        made()(pictures(2), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"weights of id, triplet, image_to_text.*got 'suncon'"):
        ClipReID(towers, texts, weights={"suncon": 1.0})
    with pytest.raises(ValueError, match="a weight for 'center', got its loss alone"):
        ClipReID(towers, texts, center=CenterLoss(128, 5))
    with pytest.raises(
        ValueError, match=r"texts \(C, 128\) of at least one identity, got \(5, 64\)"
    ):
        ClipReID(towers, texts[:, :64])
    with pytest.raises(ValueError, match="descriptor to be one of before, after"):
        ClipReID(towers, texts, descriptor="both")
    with pytest.raises(ValueError, match=r"label_smoothing in \[0, 1\)"):
        ClipReID(towers, texts, label_smoothing=1.0)
    with pytest.raises(ValueError, match="at least two rows in training mode"):
        made()(pictures(1), torch.tensor([0]))
