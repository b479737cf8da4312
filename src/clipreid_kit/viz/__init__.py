"""Figures of results: ranked lists, CMC curves, training curves and reliability diagrams.

Needs matplotlib (``pip install clipreid_kit[viz]``), which is imported when a figure is drawn. No
figure touches ``pyplot`` or the caller's ``rcParams``.
"""

from clipreid_kit.viz.cmc_curves import cmc_figure
from clipreid_kit.viz.image_pixels import ImageLike
from clipreid_kit.viz.occlusion_curves import occlusion_figure
from clipreid_kit.viz.ranked_lists import ranked_list_figure
from clipreid_kit.viz.reliability_diagram import reliability_figure
from clipreid_kit.viz.themes import Theme
from clipreid_kit.viz.training_curves import training_figure
from clipreid_kit.viz.write_figures import figure_png, image_png, save_figure

__all__ = [
    "ImageLike",
    "Theme",
    "cmc_figure",
    "figure_png",
    "image_png",
    "occlusion_figure",
    "ranked_list_figure",
    "reliability_figure",
    "save_figure",
    "training_figure",
]
