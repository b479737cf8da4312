"""Heads and necks that a training loop puts on top of a tower."""

from clipreid_kit.modules.averaged_encoder import AveragedEncoder
from clipreid_kit.modules.bn_neck import BNNeck, BNNeckOutput

__all__ = ["AveragedEncoder", "BNNeck", "BNNeckOutput"]
