import torch
from oracles import frames as oracle

from clipreid_kit import FrameMean


def test_is_the_mean_of_the_oracle():
    frames = torch.randn(3, 4, 5, dtype=torch.float64)
    expected = torch.tensor([oracle.mean(row) for row in frames.tolist()], dtype=torch.float64)
    torch.testing.assert_close(FrameMean()(frames), expected)
