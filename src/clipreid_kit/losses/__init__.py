"""Losses: functions of embeddings and labels, and the Modules that hold their options."""

from clipreid_kit.losses.arcface import ArcFaceHead, ArcFaceLoss, arcface_logits, arcface_loss
from clipreid_kit.losses.cached_contrastive import CachedContrastive
from clipreid_kit.losses.camera_prototypes import CameraPrototypeLoss
from clipreid_kit.losses.center import CenterLoss, center_loss
from clipreid_kit.losses.circle import CircleLoss, circle_loss
from clipreid_kit.losses.circle_softmax import CircleSoftmaxHead, circle_softmax_logits
from clipreid_kit.losses.class_sampling import ClassSample, ClassSampler, class_rows, sample_classes
from clipreid_kit.losses.cmpc import CMPCLoss, cmpc_loss
from clipreid_kit.losses.cmpm import CMPMLoss, cmpm_loss
from clipreid_kit.losses.cosface import CosFaceHead, CosFaceLoss, cosface_logits, cosface_loss
from clipreid_kit.losses.cross_batch_memory import CrossBatchMemory, EmbeddingQueue
from clipreid_kit.losses.distillation import (
    FeatureDistillationLoss,
    LogitDistillationLoss,
    RelationalDistillationLoss,
    feature_distillation_loss,
    logit_distillation_loss,
    relational_distillation_loss,
)
from clipreid_kit.losses.hard_negative import (
    HardNegativeContrastiveLoss,
    hard_negative_contrastive_loss,
)
from clipreid_kit.losses.identity import IdentityLoss, identity_loss
from clipreid_kit.losses.image_to_text import ImageToTextCELoss, image_to_text_ce_loss
from clipreid_kit.losses.info_nce import InfoNCELoss, info_nce_loss
from clipreid_kit.losses.matryoshka import MatryoshkaLoss
from clipreid_kit.losses.multi_similarity import MultiSimilarityLoss, multi_similarity_loss
from clipreid_kit.losses.noisy_correspondence import PairDivision, clean_probability, divide_pairs
from clipreid_kit.losses.partial_fc import PartialFCLoss
from clipreid_kit.losses.prototype_memory import PrototypeMemoryLoss
from clipreid_kit.losses.proxy_anchor import ProxyAnchorLoss, proxy_anchor_loss
from clipreid_kit.losses.recall_surrogate import RecallSurrogateLoss, recall_surrogate_loss
from clipreid_kit.losses.sdm import SDMLoss, sdm_loss
from clipreid_kit.losses.self_supervision import SelfSupervisionLoss
from clipreid_kit.losses.siglip import SigLIPLoss, siglip_loss
from clipreid_kit.losses.smooth_ap import SmoothAPLoss, smooth_ap_loss
from clipreid_kit.losses.supcon import SupConLoss, supcon_loss
from clipreid_kit.losses.triplet import TripletLoss, triplet_loss
from clipreid_kit.losses.triplet_alignment import TripletAlignmentLoss, triplet_alignment_loss
from clipreid_kit.losses.weighted_sum import WeightedSum, sum_losses
from clipreid_kit.losses.weighted_triplet import WeightedTripletLoss, weighted_triplet_loss

__all__ = [
    "ArcFaceHead",
    "ArcFaceLoss",
    "CMPCLoss",
    "CMPMLoss",
    "CachedContrastive",
    "CameraPrototypeLoss",
    "CenterLoss",
    "CircleLoss",
    "CircleSoftmaxHead",
    "ClassSample",
    "ClassSampler",
    "CosFaceHead",
    "CosFaceLoss",
    "CrossBatchMemory",
    "EmbeddingQueue",
    "FeatureDistillationLoss",
    "HardNegativeContrastiveLoss",
    "IdentityLoss",
    "ImageToTextCELoss",
    "InfoNCELoss",
    "LogitDistillationLoss",
    "MatryoshkaLoss",
    "MultiSimilarityLoss",
    "PairDivision",
    "PartialFCLoss",
    "PrototypeMemoryLoss",
    "ProxyAnchorLoss",
    "RecallSurrogateLoss",
    "RelationalDistillationLoss",
    "SDMLoss",
    "SelfSupervisionLoss",
    "SigLIPLoss",
    "SmoothAPLoss",
    "SupConLoss",
    "TripletAlignmentLoss",
    "TripletLoss",
    "WeightedSum",
    "WeightedTripletLoss",
    "arcface_logits",
    "arcface_loss",
    "center_loss",
    "circle_loss",
    "circle_softmax_logits",
    "class_rows",
    "clean_probability",
    "cmpc_loss",
    "cmpm_loss",
    "cosface_logits",
    "cosface_loss",
    "divide_pairs",
    "feature_distillation_loss",
    "hard_negative_contrastive_loss",
    "identity_loss",
    "image_to_text_ce_loss",
    "info_nce_loss",
    "logit_distillation_loss",
    "multi_similarity_loss",
    "proxy_anchor_loss",
    "recall_surrogate_loss",
    "relational_distillation_loss",
    "sample_classes",
    "sdm_loss",
    "siglip_loss",
    "smooth_ap_loss",
    "sum_losses",
    "supcon_loss",
    "triplet_alignment_loss",
    "triplet_loss",
    "weighted_triplet_loss",
]
