"""CLIP towers at ReID geometry, and their prompts, methods, tuning and checkpoints."""

from clipreid_kit.clip.checkpoints.adapters import load_adapters, save_adapters
from clipreid_kit.clip.checkpoints.find_checkpoint import find_checkpoint
from clipreid_kit.clip.checkpoints.hub import (
    from_pretrained,
    load_pretrained,
    push_to_hub,
    save_pretrained,
)
from clipreid_kit.clip.checkpoints.interpolate import interpolate_weights
from clipreid_kit.clip.checkpoints.model_card import ModelCard
from clipreid_kit.clip.checkpoints.onnx_export import export_image_tower
from clipreid_kit.clip.checkpoints.rng_state import random_state, set_random_state
from clipreid_kit.clip.checkpoints.save_load import load_towers, save_towers
from clipreid_kit.clip.checkpoints.tracker_export import TrackerExport, export_for_tracker
from clipreid_kit.clip.checkpoints.training_checkpoints import TrainingCheckpoints
from clipreid_kit.clip.checkpoints.warm_start import read_card, warm_start
from clipreid_kit.clip.importers.backbones import ImportedBackbone, import_reid_backbone
from clipreid_kit.clip.importers.clip_reid import ImportedClipReID, import_clip_reid
from clipreid_kit.clip.importers.report import ImportReport
from clipreid_kit.clip.methods.baseline import ClipBaseline, ClipBaselineOutput
from clipreid_kit.clip.methods.clip_reid import ClipReID, ClipReIDOutput
from clipreid_kit.clip.methods.clip_reid_prompts import ClipReIDPromptStage, PromptStageOutput
from clipreid_kit.clip.methods.identity_branch import IdentityBranch, IdentityBranchOutput
from clipreid_kit.clip.methods.identity_classifier import IdentityClassifier
from clipreid_kit.clip.methods.method_card import build_method
from clipreid_kit.clip.methods.prompt_sg import PromptSG, PromptSGOutput
from clipreid_kit.clip.methods.text_to_person import TextToPerson, TextToPersonOutput
from clipreid_kit.clip.prompts.caption_embeddings import caption_embeddings
from clipreid_kit.clip.prompts.composer import PromptComposer
from clipreid_kit.clip.prompts.learner import IdentityPromptLearner
from clipreid_kit.clip.prompts.templates import PromptEmbeddings
from clipreid_kit.clip.towers.camera_embedding import CameraEmbedding
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.towers.levels import ImageLevels, TowerEmbeddings
from clipreid_kit.clip.towers.load_weights import LoadReport, load_weights
from clipreid_kit.clip.towers.position_embedding import resize_position_embedding
from clipreid_kit.clip.towers.read_weights import read_weights
from clipreid_kit.clip.towers.small_models import small_model_config, small_model_names
from clipreid_kit.clip.tuning.freezing import (
    freeze,
    projection_names,
    set_trainable,
    unfreeze_last_blocks,
)
from clipreid_kit.clip.tuning.gradient_checkpointing import set_gradient_checkpointing
from clipreid_kit.clip.tuning.lora import add_lora, merge_lora
from clipreid_kit.clip.tuning.lr_groups import layerwise_lr_groups

__all__ = [
    "CameraEmbedding",
    "ClipBaseline",
    "ClipBaselineOutput",
    "ClipReID",
    "ClipReIDOutput",
    "ClipReIDPromptStage",
    "ClipTowers",
    "IdentityBranch",
    "IdentityBranchOutput",
    "IdentityClassifier",
    "IdentityPromptLearner",
    "ImageLevels",
    "ImportReport",
    "ImportedBackbone",
    "ImportedClipReID",
    "LoadReport",
    "ModelCard",
    "PromptComposer",
    "PromptEmbeddings",
    "PromptSG",
    "PromptSGOutput",
    "PromptStageOutput",
    "TextToPerson",
    "TextToPersonOutput",
    "TowerEmbeddings",
    "TrackerExport",
    "TrainingCheckpoints",
    "add_lora",
    "build_method",
    "caption_embeddings",
    "export_for_tracker",
    "export_image_tower",
    "find_checkpoint",
    "freeze",
    "from_pretrained",
    "import_clip_reid",
    "import_reid_backbone",
    "interpolate_weights",
    "layerwise_lr_groups",
    "load_adapters",
    "load_pretrained",
    "load_towers",
    "load_weights",
    "merge_lora",
    "projection_names",
    "push_to_hub",
    "random_state",
    "read_card",
    "read_weights",
    "resize_position_embedding",
    "save_adapters",
    "save_pretrained",
    "save_towers",
    "set_gradient_checkpointing",
    "set_random_state",
    "set_trainable",
    "small_model_config",
    "small_model_names",
    "unfreeze_last_blocks",
    "warm_start",
]
