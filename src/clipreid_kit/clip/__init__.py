"""Image and text towers of any open_clip model with ReID geometry, and their checkpoints."""

from clipreid_kit.clip.checkpoint import load_towers, save_towers
from clipreid_kit.clip.position import resize_position_embedding
from clipreid_kit.clip.small import small_model_config, small_model_names
from clipreid_kit.clip.towers import ClipTowers, TowerEmbeddings
from clipreid_kit.clip.weights import LoadReport, load_weights, read_weights

__all__ = [
    "ClipTowers",
    "LoadReport",
    "TowerEmbeddings",
    "load_towers",
    "load_weights",
    "read_weights",
    "resize_position_embedding",
    "save_towers",
    "small_model_config",
    "small_model_names",
]
