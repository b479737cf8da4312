import copy

import method_checks as checks
import pytest
import torch
import torch.nn.functional as F
from method_checks import LABELS, SIZE, random_images, unit
from oracles import text_to_person as oracle
from tiny_towers import tiny_towers
from torch.testing import assert_close

from clipreid_kit.clip import TextToPerson, freeze
from clipreid_kit.clip.methods import text_to_person as module
from clipreid_kit.losses import SDMLoss, TripletAlignmentLoss
from clipreid_kit.modules import MaskedLanguageHead, TokenSelection, mask_tokens
from clipreid_kit.retrieval import Encoder

CAPTIONS = ["a red coat", "a red coat and a hat", "a blue cup", "a cup", "a hand", "a left hand"]
RDE = {"triplet_alignment": 0.7}
IRRA = {"id": 0.5, "id_text": 0.25, "sdm": 1.0, "masked_language": 2.0}


@pytest.fixture(scope="module")
def built():
    torch.manual_seed(0)
    return tiny_towers(image_size=SIZE)


@pytest.fixture
def towers(built):
    return copy.deepcopy(built).train()


def selections(dim=16):
    return TokenSelection(128, dim, ratio=0.5), TokenSelection(128, dim)


def head(towers):
    return MaskedLanguageHead(128, towers.vocabulary_size, num_blocks=1, num_heads=4)


def lists(rows):
    return rows.detach().double().tolist()


def test_rde_sums_the_loss_of_both_embeddings(towers):
    parts = selections()
    model = TextToPerson(towers, weights=RDE, selections=parts).eval()
    tokens = towers.tokenize(CAPTIONS)
    output = model(random_images(), LABELS, tokens=tokens)

    levels = towers.encode_image_levels(random_images(), ["projected", "projected_patches"])
    nearness = F.cosine_similarity(levels.projected_patches, levels.projected[:, None], dim=2)
    images = [levels.projected, parts[0](levels.projected_patches, nearness)]

    states, end = towers.encode_text_tokens(tokens), towers.end_of_text(tokens)
    pooled = states[torch.arange(6), end]
    place = torch.arange(tokens.shape[1])
    is_word = (place > 0) & (place < end[:, None])
    nearness = F.cosine_similarity(states, pooled[:, None], dim=2)
    texts = [pooled, parts[1](states, nearness, is_word)]

    labels = LABELS.tolist()
    expected = sum(
        oracle.triplet_alignment(lists(image), lists(text), labels, labels, 0.1, 0.015)
        for image, text in zip(images, texts, strict=True)
    )
    assert output.loss.item() == pytest.approx(0.7 * expected, rel=1e-3)

    # The cosine of the descriptors is the mean cosine of both embeddings.
    mean = sum(unit(i) @ unit(t).T for i, t in zip(images, texts, strict=True)) / 2
    assert_close(output.embedding @ output.text_embedding.T, mean, rtol=1e-4, atol=1e-5)


def test_irra_is_the_sum_of_its_terms(towers, monkeypatch):
    words = head(towers)
    model = TextToPerson(towers, 5, weights=IRRA, masked_language=words).eval()
    tokens = towers.tokenize(CAPTIONS)

    def masked(tokens, maskable, mask_id, vocabulary_size):
        assert (mask_id, vocabulary_size) == (49405, 49408)
        draw = torch.Generator().manual_seed(3)
        return mask_tokens(
            tokens, maskable, mask_id, vocabulary_size, probability=0.5, generator=draw
        )

    monkeypatch.setattr(module, "mask_tokens", masked)
    output = model(random_images(), LABELS, tokens=tokens)

    images, texts = towers.encode_image(random_images()), towers.encode_text(tokens)
    labels = LABELS.tolist()
    expected = oracle.sdm(lists(images), lists(texts), labels, labels, 0.02)
    assert output.terms["sdm"].item() == pytest.approx(expected, rel=1e-3)

    classify = model.classification
    assert_close(output.terms["id"], 0.5 * classify(images, LABELS).loss)
    assert_close(output.terms["id_text"], 0.25 * classify(texts, LABELS).loss)

    length = int(towers.end_of_text(tokens).max()) + 1
    tokens = tokens[:, :length]
    is_word = (tokens != tokens[0, 0]) & (tokens != 0) & (tokens != 49407)
    found = masked(tokens, is_word, 49405, 49408)
    patches = towers.encode_image_levels(random_images(), ["projected_patches"]).projected_patches
    guessed = words(towers.encode_text_tokens(found.tokens), patches, found.targets).loss
    assert_close(output.terms["masked_language"], 2 * guessed)
    assert_close(output.loss, sum(output.terms.values()))


def test_weights_of_pairs(towers):
    losses = {"triplet_alignment": TripletAlignmentLoss(reduction="none")}
    model = TextToPerson(towers, weights=RDE, losses=losses, selections=selections()).eval()
    batch = random_images(), LABELS, towers.tokenize(CAPTIONS)
    values = model.pair_losses(*batch)
    assert values.shape == (2, 6)
    assert not values.requires_grad

    def loss(weights):
        return model(batch[0], batch[1], tokens=batch[2], pair_weights=weights).loss

    weights = torch.tensor([1.0, 0.0, 1.0, 0.5, 0.0, 1.0])
    assert_close(loss(None), 0.7 * values.mean(dim=1).sum())
    assert_close(loss(weights), 0.7 * (weights * values).mean(dim=1).sum())
    assert loss(torch.zeros(6)) == 0


def test_texts_are_in_the_space_of_images(towers):
    model = TextToPerson(towers, weights=RDE, selections=selections()).eval()
    encoder = Encoder(model)
    alone = encoder.encode_texts(CAPTIONS[:1])
    assert alone.shape == (1, 144)
    assert_close(encoder.encode_texts(CAPTIONS)[:1], alone, rtol=1e-4, atol=1e-5)
    assert_close(alone, model.encode_text(towers.tokenize(CAPTIONS[:1])).detach())
    assert model(random_images()).embedding.shape == (6, 144)
    assert model(random_images()).loss is None


def test_every_trained_parameter_gets_a_gradient(towers):
    weights = {**IRRA, "triplet_alignment": 1.0, "cmpm": 0.1}
    model = TextToPerson(
        towers, 5, weights=weights, selections=selections(), masked_language=head(towers)
    )
    freeze(towers, "image")
    frozen = copy.deepcopy(towers.model.visual.state_dict())
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(checks.trainable(model).values(), lr=0.1)
    model(random_images(), LABELS, tokens=towers.tokenize(CAPTIONS * 1)).loss.backward()
    optimizer.step()

    # Small texts use few positions and words, and max-pooling few hidden units.
    missing = checks.names_without_gradient(model)
    assert missing == []
    assert all(torch.equal(frozen[k], v) for k, v in towers.model.visual.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"info_nce": 1.0}}, "unknown term 'info_nce' in weights"),
        ({"weights": {"id": 1.0}}, "need the number of identities; pass num_identities"),
        ({"weights": {"masked_language": 1.0}}, "masked_language needs the part"),
        (
            {"weights": {"id": 1.0}, "num_identities": 5, "selections": selections()},
            "selections are trained by pair terms",
        ),
        (
            {"weights": RDE, "selections": (*selections()[:1], TokenSelection(128, 8))},
            "selections of patches and words with one dim, got 16 and 8",
        ),
        (
            {"weights": RDE, "selections": (TokenSelection(64, 8), TokenSelection(64, 8))},
            "selections of token_dim 128, got 64",
        ),
    ],
)
def test_parts_that_do_not_fit(towers, options, message):
    with pytest.raises(ValueError, match=f"TextToPerson: .*{message}"):
        TextToPerson(towers, **options)


def test_a_head_that_does_not_fit(towers):
    other = MaskedLanguageHead(64, 100, num_heads=4)
    with pytest.raises(ValueError, match=r"vocabulary_size \(128, 128, 49408\)"):
        TextToPerson(towers, weights={"masked_language": 1.0}, masked_language=other)
    with pytest.raises(ValueError, match="masked_language needs a weight"):
        TextToPerson(towers, weights=RDE, masked_language=head(towers))


@pytest.mark.unhooked
def test_batches_that_do_not_fit(towers):
    model = TextToPerson(towers, weights={"sdm": 1.0}, losses={"sdm": SDMLoss()})
    tokens = towers.tokenize(CAPTIONS)
    with pytest.raises(ValueError, match="TextToPerson: expected tokens of 6 captions, got none"):
        model(random_images(), LABELS)
    with pytest.raises(ValueError, match="pair_weights of 6 pairs"):
        model(random_images(), LABELS, tokens=tokens, pair_weights=torch.ones(5))
    with pytest.raises(ValueError, match=r"the loss of 'sdm' has no values .*reduction=\"none\""):
        model(random_images(), LABELS, tokens=tokens, pair_weights=torch.ones(6))
