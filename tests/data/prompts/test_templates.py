import pytest

from clipreid_kit.data import ImageRecord, fill_template, template_fields, template_texts
from clipreid_kit.data.hands import spoken_aspect


def test_fields_are_filled_and_space_is_tidied():
    template = "A {color} photo of a {aspect} {noun}, {{as is}}."
    assert fill_template(
        template, {"color": "", "aspect": "left palmar", "noun": "hand", "more": 1}
    ) == ("A photo of a left palmar hand, {as is}.")
    assert template_fields(template) == ("color", "aspect", "noun")
    assert template_fields("{a}{b}{a}") == ("a", "b")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("A {noun} {aspect}", r"got 'noun' in .*Known are: aspect"),
        ("A {", "every brace to be closed"),
        ("A }", "every brace to be closed"),
        ("A {}", r"plain names in .*got \{\}"),
        ("A {0}", r"plain names"),
        ("A {aspect.real}", r"plain names"),
        ("A {aspect[0]}", r"plain names"),
        ("A {aspect!r}", r"got \{aspect!r\}"),
        ("A {aspect:>9}", r"got \{aspect:>9\}"),
    ],
)
def test_a_template_that_cannot_be_filled_is_explained(template, problem):
    with pytest.raises(ValueError, match=rf"fill_template: expected .*{problem}"):
        fill_template(template, {"aspect": "side"})


def test_every_record_fills_the_template_with_what_it_has():
    records = [
        ImageRecord(
            "a",
            7,
            camera="hall",
            view="dorsal_l",
            caption="warm",
            extra={"age": "30", "noun": "thing"},
        ),
        ImageRecord(
            "b", 8, camera=2, view="palmar_r", caption="cold", extra={"age": "4", "noun": "thing"}
        ),
    ]
    texts = template_texts(
        records, "{identity} {camera} {view} {aspect} {caption} {age} {noun}", {"noun": "hand"}
    )
    assert texts == [
        "7 hall dorsal_l left dorsal warm 30 hand",
        "8 2 palmar_r right palmar cold 4 hand",
    ]


def test_a_field_that_one_record_lacks_is_named():
    records = [ImageRecord("a", 1, camera=1), ImageRecord("b", 1)]
    with pytest.raises(
        ValueError, match=r"template_texts: .*got no camera for b\. Give it in fields.*identity"
    ):
        template_texts(records, "{camera}")


@pytest.mark.parametrize(
    ("view", "spoken"),
    [("r", "r"), ("front", "front"), ("dorsal_R", "right dorsal"), ("wing-left", "left wing")],
)
def test_aspects_are_spoken(view, spoken):
    assert spoken_aspect(view) == spoken
