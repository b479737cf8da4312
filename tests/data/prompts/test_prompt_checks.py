import pytest

from clipreid_kit.data import ImageRecord, PromptTable, analyse_prompts, filter_identities

_RECORDS = [
    ImageRecord("01_a", "x", split="train"),
    ImageRecord("02_b", "x", split="train"),
    ImageRecord("01_c", "y", split="train"),
    ImageRecord("01_d", "z", split="query"),
    ImageRecord("01_e", "z", split="gallery"),
    ImageRecord("01_f", "bare", split="train"),
    ImageRecord("01_g", "bare", split="train"),
]
_BY_ITEM = PromptTable({"x": "X", "y": "Y", "z": "Z", "away": "W"})
_BY_VARIANT = PromptTable(
    {"x/01": "X1", "x/02": "X2", "y/01": "Y", "z/01": "Z", "bare/01": "B"}, key="variant"
)


def test_single_images_and_missing_prompts_are_found():
    report = analyse_prompts(_RECORDS, _BY_ITEM)

    assert (report.num_images, report.num_identities) == (7, 4)
    assert report.single_image == ("y",)
    assert report.no_prompt == ("bare",)
    assert report.several_prompts == ()
    assert report.unused == ("away",)


def test_a_report_has_a_line_for_each_finding():
    report = analyse_prompts(_RECORDS, _BY_ITEM)

    assert report.lines() == [
        "7 images of 4 identities",
        "1 identities with one image: y",
        "1 identities with an image that has no prompt: bare",
        "0 identities with several prompts",
        "1 prompts that no image uses: away",
    ]


def test_a_report_names_only_a_few_examples():
    report = analyse_prompts([], PromptTable({"a": "A", "b": "B", "c": "C"}))

    assert report.lines()[-1] == "3 prompts that no image uses: a, b, c"
    assert report.lines(2)[-1] == "3 prompts that no image uses: a, b, ..."
    assert report.lines(0)[-1] == "3 prompts that no image uses"


def test_several_prompts_of_one_identity_are_found():
    assert analyse_prompts(_RECORDS, _BY_VARIANT).several_prompts == ("x",)


def test_one_split_may_be_checked_alone():
    report = analyse_prompts(_RECORDS, _BY_ITEM, split="query")

    assert report.num_images == 1
    assert report.single_image == ("z",)
    assert report.unused == ("away", "x", "y")


def test_identities_with_enough_images_and_prompts_are_kept():
    kept, prompts = filter_identities(_RECORDS, _BY_ITEM)

    assert [record.path for record in kept] == ["01_a", "02_b", "01_d", "01_e"]
    assert prompts.texts == {"x": "X", "z": "Z"}


def test_filtering_keeps_the_key_of_the_table():
    kept, prompts = filter_identities(_RECORDS, _BY_VARIANT, min_images=1)

    assert kept == _RECORDS
    assert prompts.key == "variant"


def test_identities_without_images_in_the_split_are_kept():
    _, prompts = filter_identities(_RECORDS, _BY_ITEM, split="query")

    assert prompts.texts == {"x": "X", "y": "Y"}


def test_no_records_leave_no_records():
    assert filter_identities([], _BY_ITEM)[0] == []


def test_a_minimum_of_no_images_is_refused():
    text = "filter_identities: expected min_images as a whole number >= 1"

    with pytest.raises(ValueError, match=text):
        filter_identities(_RECORDS, _BY_ITEM, min_images=0)
