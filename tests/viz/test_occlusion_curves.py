import pytest

from clipreid_kit.viz import figure_png, occlusion_figure


def test_points_are_in_percent_and_in_the_order_of_shares():
    figure = occlusion_figure({"bottom": {0.5: 0.25, 0.0: 0.75}, "top": {0.0: 0.75, 0.3: 0.5}})
    axes = figure.axes[0]
    assert [line.get_xdata().tolist() for line in axes.lines] == [[0, 50], [0, 30]]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[75, 25], [75, 50]]
    assert axes.get_xlim() == (0, 50)
    assert {text.get_text() for text in axes.texts} == {"bottom", "top"}
    assert figure_png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "at least one curve, got none"),
        ({"top": {}}, "curve 'top' with at least one share, got none"),
        ({"top": {0.3: 40.0}}, "Pass fractions, not percent"),
        ({"top": {30.0: 0.4}}, "Pass fractions, not percent"),
    ],
)
def test_mistakes_are_explained(curves, message):
    with pytest.raises(ValueError, match=message):
        occlusion_figure(curves)
