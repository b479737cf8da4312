"""Several captions of one image: kept beside the first, or a record for each."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from clipreid_kit.data.records import ImageRecord, check_records


def further_captions(captions: Sequence[str]) -> dict[str, str]:
    """Entries of ``ImageRecord.extra`` for all captions behind the first."""
    return {f"caption_{number}": text for number, text in enumerate(captions[1:], start=2)}


def captions_of(record: ImageRecord) -> list[str]:
    """List all captions of an image: its ``caption``, then ``caption_2``, ... of its ``extra``.

    Args:
        record: A record, for example of :func:`read_cuhk_pedes`.

    Returns:
        The captions in order, up to the first number that is missing; without a ``caption``, none.

    Raises:
        ValueError: If it is no record.

    Example:
        >>> record = ImageRecord("a.jpg", 1, caption="a man", extra={"caption_2": "a tall man"})
        >>> captions_of(record)
        ['a man', 'a tall man']
    """
    check_records("captions_of", [record])
    if not record.caption:
        return []

    captions = [record.caption]
    while further := record.extra.get(f"caption_{len(captions) + 1}"):
        captions.append(further)
    return captions


def records_by_caption(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    """Make a record of each caption, so that an image occurs as often as it has captions.

    Use it on training images whose captions were written by several people: each pair of an image
    and a caption is then a row. :class:`PKSampler` takes ``dataset.image_numbers`` as its
    ``images``, to keep copies of one image apart.

    Args:
        records: Records of images, with further captions in ``extra``.

    Returns:
        Records in order, each with one caption; ``extra`` keeps what is no caption. A record
        without captions stays as it is; no records give none.

    Raises:
        ValueError: If one is no record.

    Example:
        >>> record = ImageRecord("a.jpg", 1, caption="a man", extra={"caption_2": "a tall man"})
        >>> [row.caption for row in records_by_caption([record])]
        ['a man', 'a tall man']
    """
    rows = []
    for record in records:
        captions = captions_of(record)
        if not captions:
            rows.append(record)
            continue

        names = set(further_captions(captions))
        extra = {name: value for name, value in record.extra.items() if name not in names}
        rows.extend(replace(record, caption=caption, extra=extra) for caption in captions)
    return rows
