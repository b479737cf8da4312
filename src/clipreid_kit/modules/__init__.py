"""Heads and necks that a training loop puts on top of a tower, and the parts of prompt methods."""

from clipreid_kit.modules.bn_neck import BNNeck, BNNeckOutput
from clipreid_kit.modules.ema_teacher import EmaTeacher
from clipreid_kit.modules.feature_adapter import FeatureAdapter
from clipreid_kit.modules.frame_attention import FrameAttention
from clipreid_kit.modules.frame_mean import FrameMean
from clipreid_kit.modules.frame_transformer import FrameTransformer
from clipreid_kit.modules.gem import GeM
from clipreid_kit.modules.interaction import InteractionOutput, MultiModalInteraction
from clipreid_kit.modules.masked_language import (
    MaskedLanguageHead,
    MaskedLanguageOutput,
    MaskedTokens,
    mask_tokens,
)
from clipreid_kit.modules.pseudo_token import insert_pseudo_token
from clipreid_kit.modules.test_time_augmentation import TestTimeAugmentation
from clipreid_kit.modules.textual_inversion import TextualInversionMLP
from clipreid_kit.modules.token_selection import SelectedTokens, TokenSelection

__all__ = [
    "BNNeck",
    "BNNeckOutput",
    "EmaTeacher",
    "FeatureAdapter",
    "FrameAttention",
    "FrameMean",
    "FrameTransformer",
    "GeM",
    "InteractionOutput",
    "MaskedLanguageHead",
    "MaskedLanguageOutput",
    "MaskedTokens",
    "MultiModalInteraction",
    "SelectedTokens",
    "TestTimeAugmentation",
    "TextualInversionMLP",
    "TokenSelection",
    "insert_pseudo_token",
    "mask_tokens",
]
