import pytest

from clipreid_kit.data import ImageRecord, captions_of, records_by_caption

EXTRA = {"caption_2": "two", "caption_4": "four", "colour": "red"}


def test_captions_end_at_the_first_missing_number():
    assert captions_of(ImageRecord("a.jpg", 1, caption="one", extra=EXTRA)) == ["one", "two"]
    assert captions_of(ImageRecord("a.jpg", 1, extra=EXTRA)) == []


def test_a_record_for_each_caption_keeps_all_else():
    record = ImageRecord("a.jpg", 1, camera=3, caption="one", split="train", extra=EXTRA)
    bare = ImageRecord("b.jpg", 2)
    rows = records_by_caption([record, bare])

    rest = {"caption_4": "four", "colour": "red"}
    assert rows == [
        ImageRecord("a.jpg", 1, camera=3, caption="one", split="train", extra=rest),
        ImageRecord("a.jpg", 1, camera=3, caption="two", split="train", extra=rest),
        bare,
    ]
    assert records_by_caption([]) == []


@pytest.mark.unhooked
def test_a_path_is_no_record():
    with pytest.raises(ValueError, match="captions_of: expected records as ImageRecord, got str"):
        captions_of("a.jpg")
