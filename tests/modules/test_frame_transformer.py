import pytest
import torch
from oracles import frames as oracle

from clipreid_kit import FrameTransformer


def test_is_the_transformer_of_the_oracle():
    generator = torch.Generator().manual_seed(0)
    module = FrameTransformer(4, num_blocks=2, num_heads=2, num_positions=3).double().eval()
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).double() * 0.7
    frames = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    table = module.positions.tolist()
    parameters = [
        {name: value.tolist() for name, value in block.named_parameters()}
        for block in module.blocks
    ]

    expected = []
    for row in frames.tolist():
        positions = [oracle.position(table, i, len(row)) for i in range(len(row))]
        begun = [
            [a + b for a, b in zip(*pair, strict=True)] for pair in zip(row, positions, strict=True)
        ]
        tokens = begun
        for of_block in parameters:
            tokens = oracle.block(tokens, of_block, num_heads=2)
        changed = [
            [x + t - b for x, t, b in zip(*triple, strict=True)]
            for triple in zip(row, tokens, begun, strict=True)
        ]
        expected.append(oracle.mean(changed))

    torch.testing.assert_close(module(frames), torch.tensor(expected, dtype=torch.float64))


def test_as_many_frames_as_positions_have_one_each():
    module = FrameTransformer(4, num_positions=3)
    positions = module._positions_of(torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(positions[0], module.positions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_blocks": 0}, "num_blocks as a whole number >= 1"),
        ({"num_positions": 0}, "num_positions as a whole number >= 1"),
        ({"num_heads": 3}, "num_heads that divides dim = 4, got 3"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=f"^FrameTransformer: expected {message}"):
        FrameTransformer(4, **options)
