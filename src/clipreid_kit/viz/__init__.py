"""Figures of results: ranked lists, curves, similarities, camera pairs, relevance and maps.

Needs matplotlib (``pip install clipreid_kit[viz]``), which is imported when a figure is drawn. No
figure touches ``pyplot`` or the caller's ``rcParams``.
"""

from clipreid_kit.viz.camera_pairs import CameraPairRates, camera_pair_figure, camera_pair_rates
from clipreid_kit.viz.cmc_curves import cmc_figure
from clipreid_kit.viz.embedding_map import embedding_map_figure, embedding_positions
from clipreid_kit.viz.image_pixels import ImageLike
from clipreid_kit.viz.occlusion_curves import occlusion_figure
from clipreid_kit.viz.pair_similarities import (
    SimilarityHistogram,
    similarity_histogram,
    similarity_histogram_figure,
)
from clipreid_kit.viz.ranked_lists import ranked_list_figure
from clipreid_kit.viz.relevance_maps import relevance_figure, word_relevance_figure
from clipreid_kit.viz.reliability_diagram import reliability_figure
from clipreid_kit.viz.themes import Theme
from clipreid_kit.viz.training_curves import training_figure
from clipreid_kit.viz.write_figures import figure_png, image_png, save_figure

__all__ = [
    "CameraPairRates",
    "ImageLike",
    "SimilarityHistogram",
    "Theme",
    "camera_pair_figure",
    "camera_pair_rates",
    "cmc_figure",
    "embedding_map_figure",
    "embedding_positions",
    "figure_png",
    "image_png",
    "occlusion_figure",
    "ranked_list_figure",
    "relevance_figure",
    "reliability_figure",
    "save_figure",
    "similarity_histogram",
    "similarity_histogram_figure",
    "training_figure",
    "word_relevance_figure",
]
