import pytest

from clipreid_kit.data import ImageRecord, fill_template, template_fields, template_texts
from clipreid_kit.data.hands import spoken_aspect

_TEMPLATE = "A {color} photo of a {aspect} {noun}, {{as is}}."


def test_fields_are_filled_and_extra_space_is_removed():
    values = {"color": "", "aspect": "left palmar", "noun": "hand", "more": 1}

    assert fill_template(_TEMPLATE, values) == "A photo of a left palmar hand, {as is}."


def test_fields_are_listed_once_in_order():
    assert template_fields(_TEMPLATE) == ("color", "aspect", "noun")
    assert template_fields("{a}{b}{a}") == ("a", "b")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("A {noun} {aspect}", "no value for 'noun' of .*Known fields: aspect"),
        ("A {", "has an unmatched brace"),
        ("A }", "has an unmatched brace"),
        ("A {}", r"the field {} of .* is not a plain name"),
        ("A {0}", r"the field \{0\} of .* is not a plain name"),
        ("A {aspect.real}", "is not a plain name"),
        ("A {aspect[0]}", "is not a plain name"),
        ("A {aspect!r}", r"the field {aspect!r} of"),
        ("A {aspect:>9}", r"the field {aspect:>9} of"),
    ],
)
def test_a_template_that_cannot_be_filled_is_explained(template, problem):
    with pytest.raises(ValueError, match=f"fill_template: .*{problem}"):
        fill_template(template, {"aspect": "side"})


def test_every_record_fills_the_template_with_its_own_fields():
    template = "{identity} {camera} {view} {aspect} {caption} {age}"
    first = ImageRecord("a", 7, camera="hall", view="dorsal_l", caption="warm", extra={"age": "30"})
    second = ImageRecord("b", 8, camera=2, view="palmar_r", caption="cold", extra={"age": "4"})

    assert template_texts([first, second], template) == [
        "7 hall dorsal_l left dorsal warm 30",
        "8 2 palmar_r right palmar cold 4",
    ]


def test_given_fields_take_precedence_over_those_of_the_record():
    record = ImageRecord("a", 7, extra={"noun": "thing"})

    assert template_texts([record], "A {noun}", {"noun": "hand"}) == ["A hand"]


def test_a_field_that_one_record_lacks_is_named():
    records = [ImageRecord("a", 1, camera=1), ImageRecord("b", 1)]

    text = "template_texts: b has no camera for .*Pass it in fields.*identity"
    with pytest.raises(ValueError, match=text):
        template_texts(records, "{camera}")


@pytest.mark.parametrize(
    ("view", "spoken"),
    [("r", "r"), ("front", "front"), ("dorsal_R", "right dorsal"), ("wing-left", "left wing")],
)
def test_aspects_are_written_in_plain_words(view, spoken):
    assert spoken_aspect(view) == spoken
