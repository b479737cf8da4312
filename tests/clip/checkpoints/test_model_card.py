import pytest
import yaml
from tiny_towers import tiny_towers
from torch import nn

from clipreid_kit.clip import ClipBaseline, ModelCard
from clipreid_kit.metrics import ConfidenceInterval

FACTS = {
    "title": "Shoes",
    "licence": "cc-by-nc-4.0",
    "data": "900 shoes: our own photographs",
    "protocol": "800 queries of 200 other shoes",
    "figures": {"mAP": ConfidenceInterval(0.71, 0.684, 0.74), "Rank-1": 0.9},
}


@pytest.fixture(scope="module")
def towers():
    return tiny_towers(image_size=(64, 32))


def test_the_card_states_data_protocol_figures_images_and_licence(towers):
    card = ModelCard(
        **FACTS,
        base_model="openai/clip-vit-base-patch16",
        image_spec={"interpolation": "bicubic"},
        limitations="No faces.",
    )
    text = card.render(ClipBaseline(towers, 5))

    _, head, body = text.split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["license"] == "cc-by-nc-4.0"
    assert metadata["library_name"] == "clipreid_kit"
    assert metadata["base_model"] == "openai/clip-vit-base-patch16"
    for line in (
        "# Shoes",
        "900 shoes: our own photographs",
        "800 queries of 200 other shoes",
        "| mAP | 71.0 | 68.4 to 74.0 |",
        "| Rank-1 | 90.0 |  |",
        "- size (height x width): 64 x 32 pixels",
        "- mean: 0.481455, 0.457827, 0.408211",
        "- interpolation: bicubic",
        "No faces.",
        "`ClipBaseline` with `reid-tiny-vit`",
    ):
        assert line in body


def test_sections_without_content_are_left_out(towers):
    text = ModelCard(**FACTS | {"figures": {}}).render(towers)
    assert "Limitations" not in text
    assert "| measure |" not in text
    assert "base_model" not in text


@pytest.mark.parametrize("name", ["title", "licence", "data", "protocol"])
def test_nothing_may_be_left_unsaid(name):
    with pytest.raises(ValueError, match=f"ModelCard: {name} is empty"):
        ModelCard(**FACTS | {name: " "})


@pytest.mark.parametrize("figure", [71.0, -0.1, ConfidenceInterval(0.7, 0.8, 0.9), float("nan")])
def test_figures_are_fractions_inside_their_intervals(figure):
    with pytest.raises(ValueError, match="mAP as a fraction inside its interval"):
        ModelCard(**FACTS | {"figures": {"mAP": figure}})


def test_a_module_without_towers_has_no_card():
    with pytest.raises(ValueError, match="towers, or a method that holds them, got Linear"):
        ModelCard(**FACTS).render(nn.Linear(2, 2))
