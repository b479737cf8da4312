"""Image and text towers of any open_clip model with ReID geometry: levels, freezing, rates, checkpoints."""

from clipreid_kit.clip.baseline import ClipBaseline, ClipBaselineOutput
from clipreid_kit.clip.camera import CameraEmbedding
from clipreid_kit.clip.caption_texts import caption_embeddings
from clipreid_kit.clip.checkpoint import load_towers, save_towers
from clipreid_kit.clip.checkpointing import set_gradient_checkpointing
from clipreid_kit.clip.clip_reid import ClipReID, ClipReIDOutput
from clipreid_kit.clip.export import export_image_tower
from clipreid_kit.clip.freezing import freeze, projection_names, set_trainable, unfreeze_last_blocks
from clipreid_kit.clip.heads import IdentityClassifier
from clipreid_kit.clip.interpolation import interpolate_weights
from clipreid_kit.clip.levels import ImageLevels, TowerEmbeddings
from clipreid_kit.clip.lora import add_lora, merge_lora
from clipreid_kit.clip.lr_groups import layerwise_lr_groups
from clipreid_kit.clip.position import resize_position_embedding
from clipreid_kit.clip.prompt_composer import PromptComposer
from clipreid_kit.clip.prompt_learner import IdentityPromptLearner
from clipreid_kit.clip.prompt_sg import PromptSG, PromptSGOutput
from clipreid_kit.clip.prompt_stage import ClipReIDPromptStage, PromptStageOutput
from clipreid_kit.clip.random_state import random_state, set_random_state
from clipreid_kit.clip.small import small_model_config, small_model_names
from clipreid_kit.clip.templates import PromptEmbeddings
from clipreid_kit.clip.towers import ClipTowers
from clipreid_kit.clip.training_checkpoints import TrainingCheckpoints
from clipreid_kit.clip.warm_start import read_card, warm_start
from clipreid_kit.clip.weights import LoadReport, load_weights, read_weights

__all__ = [
    "CameraEmbedding",
    "ClipBaseline",
    "ClipBaselineOutput",
    "ClipReID",
    "ClipReIDOutput",
    "ClipReIDPromptStage",
    "ClipTowers",
    "IdentityClassifier",
    "IdentityPromptLearner",
    "ImageLevels",
    "LoadReport",
    "PromptComposer",
    "PromptEmbeddings",
    "PromptSG",
    "PromptSGOutput",
    "PromptStageOutput",
    "TowerEmbeddings",
    "TrainingCheckpoints",
    "add_lora",
    "caption_embeddings",
    "export_image_tower",
    "freeze",
    "interpolate_weights",
    "layerwise_lr_groups",
    "load_towers",
    "load_weights",
    "merge_lora",
    "projection_names",
    "random_state",
    "read_card",
    "read_weights",
    "resize_position_embedding",
    "save_towers",
    "set_gradient_checkpointing",
    "set_random_state",
    "set_trainable",
    "small_model_config",
    "small_model_names",
    "unfreeze_last_blocks",
    "warm_start",
]
