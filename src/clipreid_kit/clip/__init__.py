"""CLIP towers at ReID geometry, and their prompts, methods, tuning and checkpoints.

A public name is imported when it is first used: open_clip, torchvision and timm take seconds.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from clipreid_kit.clip.relevance.attention_relevance import attention_relevance
    from clipreid_kit.clip.relevance.attention_rollout import attention_rollout
    from clipreid_kit.clip.relevance.grad_cam import grad_cam
    from clipreid_kit.clip.relevance.similarity_map import similarity_map
    from clipreid_kit.clip.relevance.word_relevance import WordRelevance, word_relevance
    from clipreid_kit.clip.towers.camera_embedding import CameraEmbedding
    from clipreid_kit.clip.towers.clip_towers import ClipTowers
    from clipreid_kit.clip.towers.levels import ImageLevels, TowerEmbeddings
    from clipreid_kit.clip.towers.load_weights import LoadReport, load_weights
    from clipreid_kit.clip.towers.patch_masking import PatchMasking
    from clipreid_kit.clip.towers.position_embedding import resize_position_embedding
    from clipreid_kit.clip.towers.read_weights import read_weights
    from clipreid_kit.clip.towers.small_models import small_model_config, small_model_names
    from clipreid_kit.clip.tuning.freezing import (
        freeze,
        projection_names,
        set_trainable,
        unfreeze_last_blocks,
    )
    from clipreid_kit.clip.tuning.frozen_prefix import FrozenPrefix, PrefixCache
    from clipreid_kit.clip.tuning.gradient_checkpointing import set_gradient_checkpointing
    from clipreid_kit.clip.tuning.lora import add_lora, merge_lora
    from clipreid_kit.clip.tuning.lr_groups import layerwise_lr_groups
    from clipreid_kit.clip.tuning.mask_patches import mask_patches

__all__ = [
    "CameraEmbedding",
    "ClipBaseline",
    "ClipBaselineOutput",
    "ClipReID",
    "ClipReIDOutput",
    "ClipReIDPromptStage",
    "ClipTowers",
    "FrozenPrefix",
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
    "PatchMasking",
    "PrefixCache",
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
    "WordRelevance",
    "add_lora",
    "attention_relevance",
    "attention_rollout",
    "build_method",
    "caption_embeddings",
    "export_for_tracker",
    "export_image_tower",
    "find_checkpoint",
    "freeze",
    "from_pretrained",
    "grad_cam",
    "import_clip_reid",
    "import_reid_backbone",
    "interpolate_weights",
    "layerwise_lr_groups",
    "load_adapters",
    "load_pretrained",
    "load_towers",
    "load_weights",
    "mask_patches",
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
    "similarity_map",
    "small_model_config",
    "small_model_names",
    "unfreeze_last_blocks",
    "warm_start",
    "word_relevance",
]

# The module of each public name.
_HOMES = {
    "checkpoints.adapters": ("load_adapters", "save_adapters"),
    "checkpoints.find_checkpoint": ("find_checkpoint",),
    "checkpoints.hub": ("from_pretrained", "load_pretrained", "push_to_hub", "save_pretrained"),
    "checkpoints.interpolate": ("interpolate_weights",),
    "checkpoints.model_card": ("ModelCard",),
    "checkpoints.onnx_export": ("export_image_tower",),
    "checkpoints.rng_state": ("random_state", "set_random_state"),
    "checkpoints.save_load": ("load_towers", "save_towers"),
    "checkpoints.tracker_export": ("TrackerExport", "export_for_tracker"),
    "checkpoints.training_checkpoints": ("TrainingCheckpoints",),
    "checkpoints.warm_start": ("read_card", "warm_start"),
    "importers.backbones": ("ImportedBackbone", "import_reid_backbone"),
    "importers.clip_reid": ("ImportedClipReID", "import_clip_reid"),
    "importers.report": ("ImportReport",),
    "methods.baseline": ("ClipBaseline", "ClipBaselineOutput"),
    "methods.clip_reid": ("ClipReID", "ClipReIDOutput"),
    "methods.clip_reid_prompts": ("ClipReIDPromptStage", "PromptStageOutput"),
    "methods.identity_branch": ("IdentityBranch", "IdentityBranchOutput"),
    "methods.identity_classifier": ("IdentityClassifier",),
    "methods.method_card": ("build_method",),
    "methods.prompt_sg": ("PromptSG", "PromptSGOutput"),
    "methods.text_to_person": ("TextToPerson", "TextToPersonOutput"),
    "prompts.caption_embeddings": ("caption_embeddings",),
    "prompts.composer": ("PromptComposer",),
    "prompts.learner": ("IdentityPromptLearner",),
    "prompts.templates": ("PromptEmbeddings",),
    "relevance.attention_relevance": ("attention_relevance",),
    "relevance.attention_rollout": ("attention_rollout",),
    "relevance.grad_cam": ("grad_cam",),
    "relevance.similarity_map": ("similarity_map",),
    "relevance.word_relevance": ("WordRelevance", "word_relevance"),
    "towers.camera_embedding": ("CameraEmbedding",),
    "towers.clip_towers": ("ClipTowers",),
    "towers.levels": ("ImageLevels", "TowerEmbeddings"),
    "towers.load_weights": ("LoadReport", "load_weights"),
    "towers.patch_masking": ("PatchMasking",),
    "towers.position_embedding": ("resize_position_embedding",),
    "towers.read_weights": ("read_weights",),
    "towers.small_models": ("small_model_config", "small_model_names"),
    "tuning.freezing": ("freeze", "projection_names", "set_trainable", "unfreeze_last_blocks"),
    "tuning.frozen_prefix": ("FrozenPrefix", "PrefixCache"),
    "tuning.gradient_checkpointing": ("set_gradient_checkpointing",),
    "tuning.lora": ("add_lora", "merge_lora"),
    "tuning.lr_groups": ("layerwise_lr_groups",),
    "tuning.mask_patches": ("mask_patches",),
}

if not TYPE_CHECKING:  # checkers of types know the names from above

    def __getattr__(name: str) -> object:
        """Import the module of a public name, and return the name."""
        for home, names in _HOMES.items():
            if name in names:
                value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
                globals()[name] = value
                return value

        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
