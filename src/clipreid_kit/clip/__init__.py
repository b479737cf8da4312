"""Image and text towers of any open_clip model with ReID geometry, and their checkpoints."""

from clipreid_kit.clip.checkpoint import load_towers, save_towers
from clipreid_kit.clip.clip_reid import ClipReID, ClipReIDOutput
from clipreid_kit.clip.heads import IdentityClassifier
from clipreid_kit.clip.position import resize_position_embedding
from clipreid_kit.clip.prompt_composer import PromptComposer
from clipreid_kit.clip.prompt_learner import IdentityPromptLearner
from clipreid_kit.clip.prompt_sg import PromptSG, PromptSGOutput
from clipreid_kit.clip.prompt_stage import ClipReIDPromptStage, PromptStageOutput
from clipreid_kit.clip.small import small_model_config, small_model_names
from clipreid_kit.clip.templates import PromptEmbeddings
from clipreid_kit.clip.towers import ClipTowers, TowerEmbeddings
from clipreid_kit.clip.weights import LoadReport, load_weights, read_weights

__all__ = [
    "ClipReID",
    "ClipReIDOutput",
    "ClipReIDPromptStage",
    "ClipTowers",
    "IdentityClassifier",
    "IdentityPromptLearner",
    "LoadReport",
    "PromptComposer",
    "PromptEmbeddings",
    "PromptSG",
    "PromptSGOutput",
    "PromptStageOutput",
    "TowerEmbeddings",
    "load_towers",
    "load_weights",
    "read_weights",
    "resize_position_embedding",
    "save_towers",
    "small_model_config",
    "small_model_names",
]
