import itertools
from functools import partial

import pytest
import torch
from oracles import prompts as oracle
from torch.testing import assert_close

from clipreid_kit.clip import (
    ClipTowers,
    IdentityBranch,
    IdentityClassifier,
    PromptComposer,
    PromptSG,
    layerwise_lr_groups,
    load_weights,
)
from clipreid_kit.losses import ArcFaceHead, SupConLoss, TripletLoss
from clipreid_kit.modules import MultiModalInteraction, TextualInversionMLP

SIZE = (64, 32)
NAMES = ("reid-tiny-vit", "reid-tiny-resnet")
LABELS = torch.tensor([0, 0, 2, 2, 3, 3])


def made(name="reid-tiny-vit", **options):
    return PromptSG(ClipTowers.from_open_clip(name, image_size=SIZE), 5, **options)


def pictures(rows=6, seed=0):
    return torch.randn(rows, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def seasoned(model):
    """Running statistics as after training: untrained ones would hide which side of a neck is read."""
    for branch in model.identity_branches:
        torch.nn.init.normal_(branch.neck.norm.running_mean)
        torch.nn.init.uniform_(branch.neck.norm.running_var, 0.5, 2.0)
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
    branch = model.identity_branches[0]
    torch.nn.init.normal_(branch.classifier.weight, std=0.3)
    towers = model.towers.eval()  # so that the towers give the same features twice
    output = model(pictures(), LABELS)
    levels = towers.encode_image_levels(
        pictures(), ("previous", "unprojected", "projected", "patches")
    )
    # s* = f(v), and the sentence with s* in the place of a word, at full length
    pseudo = oracle.inversion(levels.projected, model.inversion.state_dict())
    tokens = towers.tokenize(["A photo of a x person."])
    words = towers.embed_tokens(tokens).repeat(6, 1, 1)
    words[:, 5] = pseudo
    text = towers.encode_text_embeddings(words, tokens.argmax(dim=1).expand(6))
    assert_close(output.pseudo_tokens, pseudo, atol=1e-4, rtol=1e-4)
    assert_close(output.text_embeddings, text, atol=1e-4, rtol=1e-4)
    options = {
        "joint": True,
        "readout": "query",
        "residual": True,
        "norm": "pre",
        "input_norm": True,
    }
    state = dict(model.interaction.state_dict())
    seen, _, attention = oracle.interaction(text, levels.patches, state, 8, 2, **options)
    assert_close(output.representation, seen, atol=1e-4, rtol=1e-4)
    assert_close(output.attention, attention, atol=1e-5, rtol=1e-4)
    assert_close(output.embedding, seen / seen.norm(dim=1, keepdim=True), atol=1e-4, rtol=1e-4)
    labels, norm = LABELS.tolist(), branch.neck.norm
    logits = oracle.batch_norm(seen, norm.weight, norm.bias) @ branch.classifier.weight.T
    three = (levels.previous, levels.unprojected, seen)
    expected = {
        "id": oracle.smoothed_ce(logits, labels, 0.1),
        "triplet": sum(oracle.batch_hard_triplet(rows, labels, 0.3) for rows in three),
        "supcon": 0.5
        * (
            oracle.supcon_across(levels.projected, text, labels, 0.07)
            + oracle.supcon_across(text, levels.projected, labels, 0.07)
        ),
    }
    for term, value in expected.items():
        assert_close(output.terms[term].item(), value, atol=2e-3, rtol=1e-3)
    assert_close(output.loss.item(), sum(expected.values()), atol=5e-3, rtol=1e-3)


def test_a_changed_pseudo_token_changes_the_descriptor():
    model = made().eval()
    with torch.no_grad():
        before = model(pictures())
        for parameter in model.inversion.parameters():
            parameter.add_(0.3)
        after = model(pictures())
    assert (before.text_embeddings - after.text_embeddings).norm(dim=1).min() > 1e-3
    assert (before.embedding - after.embedding).norm(dim=1).min() > 1e-4


@pytest.mark.parametrize("levels", ["image", "interaction", "final"])
def test_gradient_reaches_everything_that_trains(levels):
    model = made(triplet_levels=levels, losses={"triplet": TripletLoss(None)}, id_levels="both")
    model(pictures(), LABELS).loss.backward()
    assert without_gradient(model) == []
    trained = {key.split(".")[0] for key, p in model.named_parameters() if p.requires_grad}
    assert trained == {"towers", "inversion", "interaction", "identity_branches"}
    assert all(p.grad is None for p in model.towers.text_parameters())


@pytest.mark.parametrize("term", ["id", "triplet", "supcon"])
def test_each_term_trains_the_inversion_network(term):
    model = made(
        weights={term: 1.0}, losses={"triplet": TripletLoss(None)} if term == "triplet" else None
    )
    model(pictures(), LABELS).loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.inversion.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_frozen_parts_stay_as_they_are(name):
    model = made(name, image_blocks=1)
    frozen = {key: p.detach().clone() for key, p in model.named_parameters() if not p.requires_grad}
    assert {key.split(".")[2] for key in frozen if key.startswith("towers")} >= {
        "visual",
        "token_embedding",
    }
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
    return build("vit" if name == NAMES[0] else "resnet", image_size=(64, 32)).train()


def without_part(model):
    """Parameters that train and take no part, which DistributedDataParallel refuses."""
    return [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_combination_of_options_takes_a_step(build, name, half):
    towers = small_towers(build, name)
    images = torch.randn(6, 3, *towers.image_size)
    for toggles in itertools.product(
        ("composed", "simplified"),
        ("linear", "arcface"),
        (True, False),
        ("image", "interaction", "final"),
        ("representation", "both"),
        ("joint", "query"),
    ):
        prompt, head, use_neck, triplet_levels, id_levels, sequence = toggles
        model = PromptSG(
            towers,
            5,
            prompt=prompt,
            interaction=MultiModalInteraction(
                towers.embed_dim, visual_dim=towers.width, sequence=sequence
            ),
            identity=partial(
                IdentityBranch,
                classifier=ArcFaceHead if head == "arcface" else IdentityClassifier,
                use_neck=use_neck,
                reduced_dim=16 if use_neck else None,
                label_smoothing=0.0 if head == "arcface" else 0.1,
            ),
            triplet_levels=triplet_levels,
            id_levels=id_levels,
            descriptor="post_neck" if use_neck else "pre_neck",
        )
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            output = model(images, LABELS)
        assert output.loss.isfinite(), toggles
        assert set(output.terms) == (
            {"id", "triplet", "supcon"} if prompt == "composed" else {"id", "triplet"}
        )
        assert output.embedding.shape == (6, 16 if use_neck else towers.embed_dim)
        output.loss.backward()
        assert without_part(model) == [], toggles
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_combination_of_terms_takes_a_step(build, name, half):
    towers = small_towers(build, name)
    images = torch.randn(6, 3, *towers.image_size)
    for prompt, names in (
        ("composed", ("id", "triplet", "supcon")),
        ("simplified", ("id", "triplet")),
    ):
        combinations = (c for count in range(1, 4) for c in itertools.combinations(names, count))
        for terms, levels in itertools.product(combinations, ("representation", "both")):
            model = PromptSG(
                towers, 5, prompt=prompt, weights=dict.fromkeys(terms, 1.0), id_levels=levels
            )
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                output = model(images, LABELS)
            assert set(output.terms) == set(terms)
            assert (output.logits is None) is ("id" not in terms)
            output.loss.backward()
            assert without_part(model) == [], (prompt, terms, levels)
            model.zero_grad()


@pytest.mark.parametrize("name", NAMES)
def test_groups_of_the_optimiser_leave_nothing_out(name):
    """Reduction, neck and head are in a group and in the state dict, like everything else that trains."""
    model = made(
        name,
        identity=partial(
            IdentityBranch, reduced_dim=16, classifier=ArcFaceHead, label_smoothing=0.0
        ),
    )
    groups = layerwise_lr_groups(model, {"towers": 5e-6, "": 5e-5}, weight_decay=1e-4)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(rates)
    assert rates.keys() == {id(p) for p in model.parameters() if p.requires_grad}
    branch = model.identity_branches[0]
    heads = [branch.neck.reduction.weight, branch.neck.norm.weight, branch.classifier.weight]
    assert {rates[id(parameter)] for parameter in heads} == {5e-5}
    names = ("neck.reduction.weight", "neck.norm.running_mean", "classifier.weight")
    assert {f"identity_branches.0.{name}" for name in names} <= set(model.state_dict())


def test_is_made_in_training_mode_with_its_towers():
    towers = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=SIZE).eval()
    assert all(module.training for module in PromptSG(towers, 5).modules())


def test_a_head_with_a_margin_is_the_identity_loss():
    """What the hands pipeline computed and left out: the margin is in the loss, and its head learns."""
    branch = partial(IdentityBranch, label_smoothing=0.0, reduced_dim=16)
    model = made(weights={"id": 1.0}, identity=partial(branch, classifier=ArcFaceHead))
    none = made(
        weights={"id": 1.0},
        identity=partial(branch, classifier=partial(ArcFaceHead, margin=0.0)),
    )
    none.load_state_dict(model.state_dict())
    output = model(pictures(), LABELS)
    assert output.loss > none(pictures(), LABELS).loss + 1  # a margin of 30 times some tenths
    output.loss.backward()
    assert without_gradient(model) == []
    branch = model.identity_branches[0]
    reduced = branch.neck(output.representation).after
    assert_close(output.logits, branch.classifier(reduced, LABELS), atol=1e-4, rtol=1e-4)


def test_composed_and_simplified_inference():
    model = made().eval()
    with torch.no_grad():
        composed = model(pictures())
        text = model.composer.encode_plain(model.towers)
        simplified = model(pictures(), text=text)
        alone = model(pictures()[2:3], text=text)
    assert simplified.pseudo_tokens is None
    assert_close(simplified.text_embeddings, text.expand(6, -1))
    assert (composed.embedding - simplified.embedding).norm(dim=1).min() > 1e-4
    assert_close(alone.embedding, simplified.embedding[2:3], atol=1e-5, rtol=1e-5)
    trained_so = made(prompt="simplified").eval()
    assert trained_so.inversion is None
    trained_so.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        assert_close(trained_so(pictures()).embedding, simplified.embedding, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prompt", ["composed", "simplified"])
def test_a_variant_for_each_image(prompt):
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE)
    aspects = [{"aspect": "right dorsal"}, {"aspect": "left palmar"}]
    composer = PromptComposer(towers, "A photo of a {tokens} {aspect} hand.", fields=aspects)
    model = PromptSG(towers, 5, composer=composer, prompt=prompt).eval()
    with torch.no_grad():
        each = [model(pictures(), variant=variant).embedding for variant in (0, 1)]
        mixed = model(pictures(), variant=torch.tensor([0, 1, 1, 0, 0, 1])).embedding
    assert (each[0] - each[1]).norm(dim=1).min() > 1e-5
    for row, variant in enumerate([0, 1, 1, 0, 0, 1]):
        assert_close(mixed[row], each[variant][row], atol=1e-5, rtol=1e-5)


def test_descriptor_after_the_neck():
    before, after = (
        seasoned(made()),
        seasoned(made(descriptor="post_neck", identity=partial(IdentityBranch, reduced_dim=16))),
    )
    assert before(pictures()).embedding.shape == (6, 128)
    output = after(pictures())
    neck = after.identity_branches[0].neck
    rows = output.representation @ neck.reduction.weight.T
    expected = (rows - neck.norm.running_mean) / (neck.norm.running_var + 1e-5).sqrt()
    assert_close(output.embedding, expected / expected.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("descriptor", ["pre_neck", "post_neck"])
def test_labels_never_enter_the_descriptor(descriptor):
    model = seasoned(made(descriptor=descriptor))
    with torch.no_grad():
        plain = model(pictures()).embedding
        assert_close(model(pictures(), LABELS).embedding, plain, atol=1e-5, rtol=1e-5)
        assert_close(model(pictures(), LABELS.flip(0)).embedding, plain, atol=1e-5, rtol=1e-5)


def test_parts_of_ones_own():
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE)
    inversion = TextualInversionMLP(towers.embed_dim, towers.text_width, variant="basic")
    interaction = MultiModalInteraction(
        towers.embed_dim, 1, visual_dim=towers.width, sequence="query"
    )
    supcon = SupConLoss(0.1, positives="sum")
    model = PromptSG(
        towers, 5, inversion=inversion, interaction=interaction, losses={"supcon": supcon}
    )
    assert model.inversion is inversion
    output = model(pictures(), LABELS)
    expected = supcon(output.projected, LABELS, output.text_embeddings, LABELS)
    expected = expected + supcon(output.text_embeddings, LABELS, output.projected, LABELS)
    assert_close(output.terms["supcon"], 0.5 * expected.detach())


def test_state_dict_round_trip_and_other_identities():
    model = made(id_levels="both").train()
    model(pictures(), LABELS)
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE, seed=3)
    other = PromptSG(towers, 5, id_levels="both")
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(pictures()).embedding, model.eval()(pictures()).embedding)
    more = PromptSG(towers, 8, id_levels="both")
    report = load_weights(more, model.state_dict(), strict=False)
    assert [name for name, _, _ in report.mismatched] == [
        "identity_branches.0.classifier.weight",
        "identity_branches.1.classifier.weight",
    ]


def test_training_lowers_the_loss():
    model = made(losses={"triplet": TripletLoss(None)})
    images = torch.randn(4, 3, *SIZE)[LABELS] + 0.3 * torch.randn(6, 3, *SIZE)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-4)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        output = model(images, LABELS)
        output.loss.backward()
        optimizer.step()
        losses.append(float(output.loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.unhooked
@pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning"
)  # torch 2.6, about itself
@pytest.mark.parametrize(
    ("name", "prompt"), [(NAMES[0], "composed"), (NAMES[0], "simplified"), (NAMES[1], "composed")]
)
def test_compiles(build, name, prompt):
    towers = small_towers(build, name)
    model = PromptSG(towers, 5, prompt=prompt).eval()
    images = torch.randn(6, 3, *towers.image_size)
    output = torch.compile(model, fullgraph=True, backend="aot_eager")(images, LABELS)
    expected = model(images, LABELS)
    assert_close(output.loss, expected.loss, atol=1e-4, rtol=1e-4)
    assert_close(output.embedding, expected.embedding, atol=1e-5, rtol=1e-4)
    output.loss.backward()
    assert without_part(model) == []


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"center": 1.0}}, "unknown term 'center' in weights; the terms are id, trip"),
        (
            {"prompt": "simplified", "weights": {"supcon": 1.0}},
            'the term "supcon" needs prompt="composed"',
        ),
        (
            {"prompt": "simplified", "inversion": torch.nn.Identity()},
            'the inversion network has no effect with prompt="simplified"',
        ),
        (
            {"identity": partial(IdentityBranch, use_neck=False), "descriptor": "post_neck"},
            'descriptor="post_neck" needs an identity branch with a neck',
        ),
        (
            {"weights": {"id": 1.0}, "losses": {"supcon": SupConLoss()}},
            "the loss 'supcon' has no weight",
        ),
        ({"triplet_levels": "all"}, "triplet_levels to be one of image, interaction, final"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)


@pytest.mark.unhooked
def test_wrong_batches():
    model = made()
    with pytest.raises(ValueError, match=r"labels in \[0, 5\), got labels from 5 to 5"):
        model(pictures(2), torch.tensor([5, 5]))
    with pytest.raises(ValueError, match="SupCon compares each image with a text of its own"):
        model(pictures(), LABELS, text=torch.zeros(1, 128))
    with pytest.raises(ValueError, match=r"text \(1, 128\) or \(6, 128\), got shape \(2, 128\)"):
        model(pictures(), text=torch.zeros(2, 128))
