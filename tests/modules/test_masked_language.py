import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.modules import MaskedLanguageHead, mask_tokens

VOCABULARY, MASK = 50, 7


def texts(num_rows=200, length=20):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(10, VOCABULARY, (num_rows, length), generator=generator)
    return tokens, torch.arange(length)[None, :].expand(num_rows, -1) % 5 != 0


def masked(seed=0, **options):
    tokens, words = texts()
    generator = torch.Generator().manual_seed(seed)
    return (
        tokens,
        words,
        mask_tokens(tokens, words, MASK, VOCABULARY, generator=generator, **options),
    )


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.15, 0.9]))
def test_targets_are_the_chosen_words(seed, probability):
    tokens, words, output = masked(seed, probability=probability)
    chosen = output.targets != -100

    assert not chosen[~words].any()
    assert torch.equal(output.targets[chosen], tokens[chosen])
    assert torch.equal(output.tokens[~chosen], tokens[~chosen])
    share = chosen.sum() / words.sum()
    assert abs(share - probability) < 0.05


def test_shares_of_masks_and_random_tokens():
    tokens, _, output = masked(probability=0.9)
    chosen = output.targets != -100
    is_mask = (output.tokens == MASK)[chosen].float().mean()
    is_same = (output.tokens == tokens)[chosen].float().mean()

    assert abs(is_mask - 0.8) < 0.03
    # A random token is the old one now and then.
    assert abs(is_same - 0.1 - 0.1 / VOCABULARY) < 0.03

    others = output.tokens[chosen & (output.tokens != MASK) & (output.tokens != tokens)]
    assert set(others.tolist()) == set(range(VOCABULARY)) - {MASK}


def test_the_draw_is_that_of_the_generator():
    state = torch.get_rng_state()
    _, _, first = masked(3)
    _, _, again = masked(3)
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first.tokens, masked(4)[2].tokens)


def head(**options):
    torch.manual_seed(0)
    return MaskedLanguageHead(8, VOCABULARY, num_blocks=2, num_heads=2, visual_dim=6, **options)


def inputs():
    torch.manual_seed(1)
    return torch.randn(3, 5, 8), torch.randn(3, 4, 6)


def chosen_targets():
    targets = torch.full((3, 5), -100)
    targets[0, 1], targets[0, 4], targets[2, 0] = 10, 20, 30
    return targets


def attend(layer, queries, values):
    """Multi-head attention in loops over heads, from its formula."""
    weights = [layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight]
    biases = layer.in_proj_bias.chunk(3)
    sides = (queries, values, values)
    q, k, v = (x @ w.T + b for x, w, b in zip(sides, weights, biases, strict=True))
    heads = []
    for part in range(layer.num_heads):
        size = q.shape[2] // layer.num_heads
        cut = slice(part * size, (part + 1) * size)
        weight = (q[..., cut] @ k[..., cut].transpose(1, 2) / math.sqrt(size)).softmax(dim=2)
        heads.append(weight @ v[..., cut])
    return torch.cat(heads, dim=2) @ layer.out_proj.weight.T + layer.out_proj.bias


def test_equals_the_formula():
    module = head()
    words, patches = inputs()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))

    states = attend(module.attention, module.text_norm(words), module.visual_norm(patches))
    for block in module.blocks:
        states = block(states)  # tested with MultiModalInteraction
    logits = module.head(module.norm(states))

    torch.testing.assert_close(module(words, patches).logits, logits)
    targets = chosen_targets()
    output = module(words, patches, targets)
    torch.testing.assert_close(output.logits, logits[targets != -100])
    want = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(output.loss, want)


def test_image_and_neighbouring_words_matter():
    module = head()
    words, patches = inputs()
    want = module(words, patches).logits[0, 1]
    assert not torch.allclose(module(words, patches.flip(0)).logits[0, 1], want)

    changed = words.clone()
    changed[0, 3] += 1
    assert not torch.allclose(module(changed, patches).logits[0, 1], want)


def test_words_can_be_learned_from_images():
    """The word is known from the image alone; a guess without it is at chance level."""
    module = head()
    generator = torch.Generator().manual_seed(0)
    answers = torch.randint(0, 4, (64,), generator=generator)
    patches = F.one_hot(answers, 6).float()[:, None, :].expand(-1, 4, -1).contiguous()
    words = torch.ones(64, 5, 8)
    targets = torch.full((64, 5), -100)
    targets[:, 2] = answers

    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(50):
        optimizer.zero_grad()
        module(words, patches, targets).loss.backward()
        optimizer.step()
    assert module(words, patches, targets).loss < 0.5
    assert module(words, patches.flip(0), targets).loss > 1


def test_without_chosen_words_the_loss_is_a_connected_zero():
    module = head()
    words, patches = inputs()
    output = module(words.requires_grad_(), patches, torch.full((3, 5), -100))
    output.loss.backward()

    assert output.loss.item() == 0
    assert output.logits.shape == (0, VOCABULARY)
    assert words.grad is not None


@pytest.mark.unhooked
def test_errors():
    tokens, words = texts(2, 5)
    with pytest.raises(ValueError, match=r"mask_tokens: expected mask_id in \[0, 50\), got 50"):
        mask_tokens(tokens, words, 50, 50)
    with pytest.raises(ValueError, match=r"expected maskable as booleans \(2, 5\)"):
        mask_tokens(tokens, words[:1], 0, 50)
    with pytest.raises(ValueError, match=r"expected token ids \(N, L\)"):
        mask_tokens(tokens[0], words[0], 0, 50)
    with pytest.raises(ValueError, match=r"probability in \[0, 1\), got 1"):
        mask_tokens(tokens, words, 0, 50, probability=1)
    with pytest.raises(ValueError, match="expected num_heads to divide dim = 8, got 3"):
        MaskedLanguageHead(8, 50, num_heads=3)

    module = head()
    words, patches = inputs()
    with pytest.raises(ValueError, match=r"expected words \(N, L, 8\)"):
        module(words[..., :4], patches)
    with pytest.raises(ValueError, match=r"expected patches \(3, T, 6\)"):
        module(words, patches[:2])
    with pytest.raises(ValueError, match=r"expected targets \(3, 5\)"):
        module(words, patches, torch.zeros(3, 4).long())
    with pytest.raises(ValueError, match=r"targets in \[0, 50\), got targets from 50 to 50"):
        module(words, patches, torch.full((3, 5), 50))
