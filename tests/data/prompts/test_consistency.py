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


def test_what_is_missing_is_found():
    report = analyse_prompts(_RECORDS, _BY_ITEM)
    assert (report.num_images, report.num_identities) == (7, 4)
    assert report.single_image == ("y",)
    assert report.no_prompt == ("bare",)
    assert report.several_prompts == ()
    assert report.unused == ("away",)
    assert report.lines()[1:] == [
        "1 identities with one image: y",
        "1 identities with an image that has no prompt: bare",
        "0 identities with several prompts",
        "1 prompts that no image uses: away",
    ]
    assert report.lines(0)[1] == "1 identities with one image"


def test_several_prompts_of_one_identity_are_found():
    assert analyse_prompts(_RECORDS, _BY_VARIANT).several_prompts == ("x",)


def test_a_split_is_looked_at_alone():
    report = analyse_prompts(_RECORDS, _BY_ITEM, split="query")
    assert (report.num_images, report.single_image, report.unused) == (
        1,
        ("z",),
        ("away", "x", "y"),
    )


def test_identities_with_images_and_prompts_stay():
    kept, prompts = filter_identities(_RECORDS, _BY_ITEM)
    assert [record.path for record in kept] == ["01_a", "02_b", "01_d", "01_e"]
    assert prompts.texts == {"x": "X", "z": "Z"}
    kept, prompts = filter_identities(_RECORDS, _BY_VARIANT, min_images=1)
    assert kept == _RECORDS
    assert prompts.key == "variant"
    assert filter_identities(_RECORDS, _BY_ITEM, split="query")[1].texts == {"x": "X", "y": "Y"}
    assert filter_identities([], _BY_ITEM)[0] == []
    with pytest.raises(
        ValueError, match="filter_identities: expected min_images as a whole number >= 1"
    ):
        filter_identities(_RECORDS, _BY_ITEM, min_images=0)
