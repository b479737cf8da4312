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
    IdentityBranch,
    IdentityClassifier,
    PromptComposer,
    PromptSG,
    layerwise_lr_groups,
    load_weights,
)
from clipreid_kit.losses import ArcFaceHead, SupConLoss, TripletLoss
from clipreid_kit.modules import MultiModalInteraction, TextualInversionMLP

WITHOUT_NECK = partial(IdentityBranch, use_neck=False)
SOFT_TRIPLETS = {"triplet": TripletLoss(None)}  # has a gradient where the hinge has none


def build_prompt_sg(name="reid-tiny-vit", **options):
    return PromptSG(tiny_towers(name, image_size=SIZE), 5, **options)


def composed_text(model, pseudo_tokens):
    """Text of "A photo of a s* person." with s* in place of a word, over the full context."""
    towers = model.towers
    tokens = towers.tokenize(["A photo of a x person."])
    words = towers.embed_tokens(tokens).repeat(len(pseudo_tokens), 1, 1)
    words[:, 5] = pseudo_tokens
    end = tokens.argmax(dim=1).expand(len(pseudo_tokens))
    return towers.encode_text_embeddings(words, end)


@pytest.fixture(scope="module", params=NAMES)
def restated(request):
    """A model, its output in training mode, and the same values by the formulas of the paper."""
    torch.manual_seed(0)
    model = build_prompt_sg(request.param)
    torch.nn.init.normal_(model.identity_branches[0].classifier.weight, std=0.3)
    model.towers.eval()  # so that the towers return the same features twice
    output = model(random_images(), LABELS)

    names = ("previous", "unprojected", "projected", "patches")
    levels = model.towers.encode_image_levels(random_images(), names)
    pseudo_tokens = oracle.inversion(levels.projected, model.inversion.state_dict())
    text = composed_text(model, pseudo_tokens)
    representation, _, attention = oracle.interaction(
        text,
        levels.patches,
        dict(model.interaction.state_dict()),
        8,
        2,
        joint=True,
        readout="query",
        residual=True,
        norm="pre",
        input_norm=True,
    )
    return model, output, levels, pseudo_tokens, text, representation, attention


def test_features_equal_the_formulas_of_the_paper(restated):
    _, output, _, pseudo_tokens, text, representation, attention = restated
    assert_close(output.pseudo_tokens, pseudo_tokens, atol=1e-4, rtol=1e-4)
    assert_close(output.text_embeddings, text, atol=1e-4, rtol=1e-4)
    assert_close(output.representation, representation, atol=1e-4, rtol=1e-4)
    assert_close(output.attention, attention, atol=1e-5, rtol=1e-4)
    assert_close(output.embedding, unit(representation), atol=1e-4, rtol=1e-4)


def test_terms_equal_the_formulas_of_the_paper(restated):
    model, output, levels, _, text, representation, _ = restated
    labels = LABELS.tolist()

    (branch,) = model.identity_branches
    norm = branch.neck.norm
    post_neck = oracle.batch_norm(representation, norm.weight, norm.bias)
    logits = post_neck @ branch.classifier.weight.T
    triplet_loss = 0.0
    for features in (levels.previous, levels.unprojected, representation):
        triplet_loss += oracle.batch_hard_triplet(features, labels, 0.3)
    image_to_text = oracle.supcon_across(levels.projected, text, labels, 0.07)
    text_to_image = oracle.supcon_across(text, levels.projected, labels, 0.07)

    expected = {
        "id": oracle.smoothed_ce(logits, labels, 0.1),
        "triplet": triplet_loss,
        "supcon": 0.5 * (image_to_text + text_to_image),
    }
    for term, value in expected.items():
        assert_close(output.terms[term].item(), value, atol=2e-3, rtol=1e-3, msg=term)
    assert_close(output.loss.item(), sum(expected.values()), atol=5e-3, rtol=1e-3)


def test_another_pseudo_token_gives_another_descriptor():
    model = build_prompt_sg().eval()
    with torch.no_grad():
        before = model(random_images())
        for parameter in model.inversion.parameters():
            parameter.add_(0.3)
        after = model(random_images())

    assert (before.text_embeddings - after.text_embeddings).norm(dim=1).min() > 1e-3
    assert (before.embedding - after.embedding).norm(dim=1).min() > 1e-4


@pytest.mark.parametrize("triplet_levels", ["image", "interaction", "final"])
def test_gradient_reaches_everything_that_trains(triplet_levels):
    model = build_prompt_sg(triplet_levels=triplet_levels, losses=SOFT_TRIPLETS, id_levels="both")
    model(random_images(), LABELS).loss.backward()

    assert checks.names_without_gradient(model) == []
    parts = {"towers", "inversion", "interaction", "identity_branches"}
    assert checks.trainable_parts(model) == parts
    assert all(p.grad is None for p in model.towers.text_parameters())


@pytest.mark.parametrize("term", ["id", "triplet", "supcon"])
def test_each_term_trains_the_inversion_network(term):
    losses = SOFT_TRIPLETS if term == "triplet" else None
    model = build_prompt_sg(weights={term: 1.0}, losses=losses)
    model(random_images(), LABELS).loss.backward()
    for name, parameter in model.inversion.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("name", NAMES)
def test_exactly_the_trainable_parameters_move(name):
    model = build_prompt_sg(name, image_blocks=1)
    moved = checks.train_two_steps(model, lambda images: model(images, LABELS))

    assert moved == set(checks.trainable(model))
    frozen = {name for name, _ in model.named_parameters()} - moved
    assert any(name.startswith("towers.model.visual") for name in frozen)
    assert any(name.startswith("towers.model.token_embedding") for name in frozen)


def small_towers(build, name):
    kind = "vit" if name == NAMES[0] else "resnet"
    return checks.small_towers(build, kind, image_size=(64, 32))


OPTIONS = itertools.product(
    ["joint", "query"],
    ["representation", "both"],
    ["image", "interaction", "final"],
    [True, False],
    [IdentityClassifier, ArcFaceHead],
    ["composed", "simplified"],
    NAMES,
    [False, True],
)


# Every three values meet in the quick ones, and every four with the slow ones.
@by_threes(
    "sequence, id_levels, triplet_levels, use_neck, classifier, prompt, name, use_bfloat16",
    list(OPTIONS),
)
def test_every_combination_of_options_takes_a_step(
    build,
    sequence,
    id_levels,
    triplet_levels,
    use_neck,
    classifier,
    prompt,
    name,
    use_bfloat16,
):
    towers = small_towers(build, name)
    identity = partial(
        IdentityBranch,
        classifier=classifier,
        use_neck=use_neck,
        reduced_dim=16 if use_neck else None,
        label_smoothing=0.0 if classifier is ArcFaceHead else 0.1,
    )
    model = PromptSG(
        towers,
        5,
        identity=identity,
        interaction=MultiModalInteraction(
            towers.embed_dim, visual_dim=towers.width, sequence=sequence
        ),
        prompt=prompt,
        triplet_levels=triplet_levels,
        id_levels=id_levels,
        descriptor="post_neck" if use_neck else "pre_neck",
    )

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=use_bfloat16):
        output = model(random_images(size=towers.image_size), LABELS)

    expected_terms = {"id", "triplet", "supcon"} if prompt == "composed" else {"id", "triplet"}
    assert set(output.terms) == expected_terms
    assert output.embedding.shape == (6, 16 if use_neck else towers.embed_dim)
    checks.check_step(model, output)


def combinations_of_terms():
    """Prompt, terms that can be computed with it, and other options."""
    others = list(itertools.product(["representation", "both"], NAMES, [False, True]))
    for prompt, names in (
        ("composed", ("id", "triplet", "supcon")),
        ("simplified", ("id", "triplet")),
    ):
        for count in range(1, len(names) + 1):
            for terms in itertools.combinations(names, count):
                for rest in others:
                    yield prompt, terms, *rest


@by_threes(
    "prompt, terms, id_levels, name, use_bfloat16",
    list(combinations_of_terms()),
    lambda prompt, terms, *others: (
        prompt,
        *(term in terms for term in ("id", "triplet", "supcon")),
        *others,
    ),
)
def test_every_combination_of_terms_takes_a_step(
    build, prompt, terms, id_levels, name, use_bfloat16
):
    towers = small_towers(build, name)
    weights = dict.fromkeys(terms, 1.0)
    model = PromptSG(towers, 5, weights=weights, prompt=prompt, id_levels=id_levels)

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=use_bfloat16):
        output = model(random_images(size=towers.image_size), LABELS)

    assert set(output.terms) == set(terms)
    assert (output.logits is None) is ("id" not in terms)
    checks.check_step(model, output)


@pytest.mark.parametrize("name", NAMES)
def test_parameter_groups_leave_nothing_out(name):
    """Reduction, neck and classifier are in a group and in the state dict."""
    identity = partial(IdentityBranch, reduced_dim=16, classifier=ArcFaceHead)
    model = build_prompt_sg(name, identity=identity)
    groups = layerwise_lr_groups(model, {"towers": 5e-6, "": 5e-5}, weight_decay=1e-4)
    rate_of = {id(p): group["lr"] for group in groups for p in group["params"]}

    assert sum(len(group["params"]) for group in groups) == len(rate_of)
    assert rate_of.keys() == {id(p) for p in checks.trainable(model).values()}
    (branch,) = model.identity_branches
    for part in (branch.neck.reduction, branch.neck.norm, branch.classifier):
        assert rate_of[id(part.weight)] == 5e-5

    names = ("neck.reduction.weight", "neck.norm.running_mean", "classifier.weight")
    assert {f"identity_branches.0.{name}" for name in names} <= model.state_dict().keys()


def test_is_built_in_training_mode_with_its_towers():
    towers = tiny_towers("reid-tiny-resnet", image_size=SIZE).eval()
    assert all(module.training for module in PromptSG(towers, 5).modules())


def test_a_head_with_a_margin_is_the_identity_loss():
    """The hands pipeline computed the margin and left it out of the loss."""
    identity = partial(IdentityBranch, label_smoothing=0.0, reduced_dim=16)

    def build_with(margin):
        head = partial(ArcFaceHead, margin=margin)
        return build_prompt_sg(weights={"id": 1.0}, identity=partial(identity, classifier=head))

    model = build_with(0.5)
    without_margin = build_with(0.0)
    without_margin.load_state_dict(model.state_dict())

    output = model(random_images(), LABELS)
    output.loss.backward()

    (branch,) = model.identity_branches
    post_neck = branch.neck(output.representation).after
    assert_close(output.logits, branch.classifier(post_neck, LABELS), atol=1e-4, rtol=1e-4)
    # a margin of 30 times some tenths
    assert output.loss > without_margin(random_images(), LABELS).loss + 1
    assert checks.names_without_gradient(model) == []


def test_composed_and_simplified_inference():
    model = build_prompt_sg().eval()
    with torch.no_grad():
        text = model.composer.encode_plain(model.towers)
        composed = model(random_images())
        simplified = model(random_images(), text=text)
        alone = model(random_images()[2:3], text=text)

    assert simplified.pseudo_tokens is None
    assert_close(simplified.text_embeddings, text.expand(6, -1))
    assert (composed.embedding - simplified.embedding).norm(dim=1).min() > 1e-4
    assert_close(alone.embedding, simplified.embedding[2:3], atol=1e-5, rtol=1e-5)


def test_a_simplified_model_needs_no_inversion_network():
    composed = build_prompt_sg().eval()
    simplified = build_prompt_sg(prompt="simplified").eval()
    simplified.load_state_dict(composed.state_dict(), strict=False)

    with torch.no_grad():
        text = composed.composer.encode_plain(composed.towers)
        expected = composed(random_images(), text=text).embedding
        embedding = simplified(random_images()).embedding

    assert simplified.inversion is None
    assert_close(embedding, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prompt", ["composed", "simplified"])
def test_a_variant_for_each_image(prompt):
    towers = tiny_towers(image_size=SIZE)
    aspects = [{"aspect": "right dorsal"}, {"aspect": "left palmar"}]
    composer = PromptComposer(towers, "A photo of a {tokens} {aspect} hand.", fields=aspects)
    model = PromptSG(towers, 5, composer=composer, prompt=prompt).eval()
    variants = [0, 1, 1, 0, 0, 1]

    with torch.no_grad():
        of_variant = [model(random_images(), variant=variant).embedding for variant in (0, 1)]
        mixed = model(random_images(), variant=torch.tensor(variants)).embedding

    assert (of_variant[0] - of_variant[1]).norm(dim=1).min() > 1e-5
    for row, variant in enumerate(variants):
        assert_close(mixed[row], of_variant[variant][row], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("descriptor", ["pre_neck", "post_neck"])
def test_descriptor(descriptor):
    identity = partial(IdentityBranch, reduced_dim=16)
    model = build_prompt_sg(descriptor=descriptor, identity=identity).eval()
    checks.set_running_statistics(*model.identity_branches)

    output = model(random_images())

    expected = output.representation
    if descriptor == "post_neck":
        expected = checks.apply_neck_in_evaluation(model.identity_branches[0].neck, expected)
    assert_close(output.embedding, unit(expected))
    assert (output.logits, output.loss, output.terms) == (None, None, {})


@pytest.mark.parametrize("descriptor", ["pre_neck", "post_neck"])
def test_labels_do_not_affect_the_descriptor(descriptor):
    model = build_prompt_sg(descriptor=descriptor).eval()
    checks.set_running_statistics(*model.identity_branches)

    with torch.no_grad():
        expected = model(random_images()).embedding
        with_labels = model(random_images(), LABELS).embedding
        with_other_labels = model(random_images(), LABELS.flip(0)).embedding

    assert_close(with_labels, expected, atol=1e-5, rtol=1e-5)
    assert_close(with_other_labels, expected, atol=1e-5, rtol=1e-5)


def test_given_parts_replace_the_default_ones():
    towers = tiny_towers(image_size=SIZE)
    inversion = TextualInversionMLP(towers.embed_dim, towers.text_width, variant="basic")
    interaction = MultiModalInteraction(
        towers.embed_dim, 1, visual_dim=towers.width, sequence="query"
    )
    supcon = SupConLoss(0.1, positives="sum")
    model = PromptSG(
        towers, 5, inversion=inversion, interaction=interaction, losses={"supcon": supcon}
    )
    output = model(random_images(), LABELS)

    images, texts = output.projected, output.text_embeddings
    both = supcon(images, LABELS, texts, LABELS) + supcon(texts, LABELS, images, LABELS)
    assert model.inversion is inversion
    assert model.interaction is interaction
    assert_close(output.terms["supcon"], 0.5 * both.detach())


def test_state_dict_round_trip():
    model = build_prompt_sg(id_levels="both")
    model(random_images(), LABELS)  # moves the running statistics
    towers = tiny_towers(image_size=SIZE, seed=3)
    other = PromptSG(towers, 5, id_levels="both")

    other.load_state_dict(model.state_dict())

    model.eval()
    other.eval()
    assert torch.equal(other(random_images()).embedding, model(random_images()).embedding)


def test_a_checkpoint_of_other_identities_loads_without_its_heads():
    model = build_prompt_sg(id_levels="both")
    towers = tiny_towers(image_size=SIZE)
    other = PromptSG(towers, 8, id_levels="both")

    report = load_weights(other, model.state_dict(), strict=False)

    assert [name for name, _, _ in report.mismatched] == [
        "identity_branches.0.classifier.weight",
        "identity_branches.1.classifier.weight",
    ]


def test_training_lowers_the_loss():
    model = build_prompt_sg(losses=SOFT_TRIPLETS)
    images = torch.randn(4, 3, *SIZE)[LABELS] + 0.3 * torch.randn(6, 3, *SIZE)
    losses = checks.losses_of_training(model, lambda: model(images, LABELS), lr=3e-4)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
@pytest.mark.unhooked
# a warning of torch 2.6 about itself
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "prompt"), [(NAMES[0], "composed"), (NAMES[0], "simplified"), (NAMES[1], "composed")]
)
def test_compiles(build, name, prompt):
    towers = small_towers(build, name)
    model = PromptSG(towers, 5, prompt=prompt).eval()
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
        ({"weights": {"center": 1.0}}, "unknown term 'center' in weights; it has id, triplet, su"),
        (
            {"prompt": "simplified", "weights": {"supcon": 1.0}},
            'the term "supcon" needs prompt="composed"',
        ),
        (
            {"prompt": "simplified", "inversion": torch.nn.Identity()},
            'the inversion network has no effect with prompt="simplified"',
        ),
        (
            {"identity": WITHOUT_NECK, "descriptor": "post_neck"},
            'descriptor="post_neck" needs an identity branch with a neck',
        ),
        (
            {"weights": {"id": 1.0}, "losses": {"supcon": SupConLoss()}},
            "the loss 'supcon' has no weight",
        ),
        ({"triplet_levels": "all"}, "expected triplet_levels to be one of image, interaction, fi"),
        ({"id_levels": "all"}, "expected id_levels to be one of representation, both"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match="PromptSG: " + message):
        build_prompt_sg(**options)


@pytest.mark.unhooked
def test_wrong_number_of_identities():
    towers = tiny_towers(image_size=SIZE)
    with pytest.raises(ValueError, match="PromptSG: expected num_identities as a whole number"):
        PromptSG(towers, "5")


@pytest.mark.unhooked
def test_wrong_labels():
    with pytest.raises(ValueError, match=r"labels in \[0, 5\), got labels from 5 to 5"):
        build_prompt_sg()(random_images(2), torch.tensor([5, 5]))


@pytest.mark.unhooked
def test_wrong_texts():
    model = build_prompt_sg()
    with pytest.raises(ValueError, match="SupCon compares each image with a text of its own"):
        model(random_images(), LABELS, text=torch.zeros(1, 128))
    with pytest.raises(ValueError, match=r"text \(1, 128\) or \(6, 128\), got shape \(2, 128\)"):
        model(random_images(), text=torch.zeros(2, 128))


def test_unit_representation_is_what_head_and_losses_see():
    """As if the interaction module had returned rows of length 1."""
    torch.manual_seed(0)
    options = {"identity": WITHOUT_NECK, "triplet_levels": "final", "losses": SOFT_TRIPLETS}
    model = build_prompt_sg(unit_representation=True, **options)
    torch.nn.init.normal_(model.identity_branches[0].classifier.weight)
    model.towers.eval()
    output = model(random_images(), LABELS)
    assert_close(output.representation.norm(dim=1), torch.ones(6))

    model.unit_representation = False
    plain = model(random_images(), LABELS)
    rows = unit(plain.representation)
    assert_close(output.representation, rows)
    assert_close(output.embedding, plain.embedding)
    assert_close(output.logits, rows @ model.identity_branches[0].classifier.weight.T)
    assert_close(output.terms["triplet"], SOFT_TRIPLETS["triplet"](rows, LABELS).detach())
    assert not torch.allclose(output.terms["triplet"], plain.terms["triplet"])


def test_balanced_terms_keep_the_proportions_of_their_weights():
    model = build_prompt_sg(
        weights={"id": 1.0, "triplet": 0.25}, losses=SOFT_TRIPLETS, balance="magnitude"
    )
    terms = model(random_images(), LABELS).terms
    assert_close(terms["id"], 4 * terms["triplet"])
    assert "weighted_sum.magnitude_id" in model.state_dict()  # a resumed run goes on with it
