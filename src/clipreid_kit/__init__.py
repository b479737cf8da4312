"""Components for fine-tuning CLIP-like models on re-identification and instance retrieval.

The public names are imported when one of them is first used, so that a program that only prints its
help does not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipreid_kit.losses import (
        ArcFaceHead,
        ArcFaceLoss,
        CachedContrastive,
        CenterLoss,
        CircleLoss,
        ClassSample,
        ClassSampler,
        CosFaceHead,
        CosFaceLoss,
        CrossBatchMemory,
        EmbeddingQueue,
        HardNegativeContrastiveLoss,
        ImageToTextCELoss,
        InfoNCELoss,
        MultiSimilarityLoss,
        PrototypeMemoryLoss,
        ProxyAnchorLoss,
        SigLIPLoss,
        SupConLoss,
        TripletLoss,
        WeightedSum,
        WeightedTripletLoss,
        arcface_logits,
        arcface_loss,
        center_loss,
        circle_loss,
        class_rows,
        cosface_logits,
        cosface_loss,
        hard_negative_contrastive_loss,
        image_to_text_ce_loss,
        info_nce_loss,
        multi_similarity_loss,
        proxy_anchor_loss,
        sample_classes,
        siglip_loss,
        sum_losses,
        supcon_loss,
        triplet_loss,
        weighted_triplet_loss,
    )
    from clipreid_kit.metrics import (
        ConfidenceInterval,
        CUHK03Protocol,
        GallerySplit,
        HandsProtocol,
        InShopProtocol,
        KReciprocalReranker,
        LeaveOneOutProtocol,
        Market1501Protocol,
        OpenSetResult,
        PairCosines,
        ReidEvaluator,
        ReidResult,
        RetrievalResult,
        SplitResults,
        VehicleIDProtocol,
        VerificationResult,
        bootstrap_interval,
        chance_level_losses,
        check_collapse,
        database_augmentation,
        evaluate_open_set,
        evaluate_reid,
        evaluate_reid_similarity,
        evaluate_retrieval,
        evaluate_retrieval_similarity,
        evaluate_verification,
        k_reciprocal_rerank,
        pair_cosines,
        query_expansion,
    )
    from clipreid_kit.modules import (
        BNNeck,
        BNNeckOutput,
        GeM,
        InteractionOutput,
        MultiModalInteraction,
        TestTimeAugmentation,
        TextualInversionMLP,
        insert_pseudo_token,
    )
    from clipreid_kit.samplers import HardIdentitySampler, PKSampler
    from clipreid_kit.schedulers import (
        WarmupCosineLR,
        WarmupMultiStepLR,
        cosine_ramp,
        linear_ramp,
        warmup_cosine_factor,
        warmup_multistep_factor,
    )

__all__ = [
    "ArcFaceHead",
    "ArcFaceLoss",
    "BNNeck",
    "BNNeckOutput",
    "CUHK03Protocol",
    "CachedContrastive",
    "CenterLoss",
    "CircleLoss",
    "ClassSample",
    "ClassSampler",
    "ConfidenceInterval",
    "CosFaceHead",
    "CosFaceLoss",
    "CrossBatchMemory",
    "EmbeddingQueue",
    "GallerySplit",
    "GeM",
    "HandsProtocol",
    "HardIdentitySampler",
    "HardNegativeContrastiveLoss",
    "ImageToTextCELoss",
    "InShopProtocol",
    "InfoNCELoss",
    "InteractionOutput",
    "KReciprocalReranker",
    "LeaveOneOutProtocol",
    "Market1501Protocol",
    "MultiModalInteraction",
    "MultiSimilarityLoss",
    "OpenSetResult",
    "PKSampler",
    "PairCosines",
    "PrototypeMemoryLoss",
    "ProxyAnchorLoss",
    "ReidEvaluator",
    "ReidResult",
    "RetrievalResult",
    "SigLIPLoss",
    "SplitResults",
    "SupConLoss",
    "TestTimeAugmentation",
    "TextualInversionMLP",
    "TripletLoss",
    "VehicleIDProtocol",
    "VerificationResult",
    "WarmupCosineLR",
    "WarmupMultiStepLR",
    "WeightedSum",
    "WeightedTripletLoss",
    "arcface_logits",
    "arcface_loss",
    "bootstrap_interval",
    "center_loss",
    "chance_level_losses",
    "check_collapse",
    "circle_loss",
    "class_rows",
    "cosface_logits",
    "cosface_loss",
    "cosine_ramp",
    "database_augmentation",
    "evaluate_open_set",
    "evaluate_reid",
    "evaluate_reid_similarity",
    "evaluate_retrieval",
    "evaluate_retrieval_similarity",
    "evaluate_verification",
    "hard_negative_contrastive_loss",
    "image_to_text_ce_loss",
    "info_nce_loss",
    "insert_pseudo_token",
    "k_reciprocal_rerank",
    "linear_ramp",
    "multi_similarity_loss",
    "pair_cosines",
    "proxy_anchor_loss",
    "query_expansion",
    "sample_classes",
    "siglip_loss",
    "sum_losses",
    "supcon_loss",
    "triplet_loss",
    "warmup_cosine_factor",
    "warmup_multistep_factor",
    "weighted_triplet_loss",
]

__version__ = "0.1.0"

_PACKAGES = ("losses", "metrics", "modules", "samplers", "schedulers")


if not TYPE_CHECKING:  # checkers of types know the names from above

    def __getattr__(name: str) -> object:
        """Import what the public names come from, and return one of them, or a package."""
        if name not in __all__ and name not in _PACKAGES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

        for package in _PACKAGES:
            module = importlib.import_module(f"{__name__}.{package}")
            public = {own: getattr(module, own) for own in module.__all__ if own in __all__}
            globals().update(public)
        return globals()[name]


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__, *_PACKAGES})
