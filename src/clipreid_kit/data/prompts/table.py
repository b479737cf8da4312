"""Which text goes with which image: by identity, by colour variant, or by image."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

from clipreid_kit._checks import check_choice, fail
from clipreid_kit.data.prompts.json_files import read_texts, relative_key, write_texts
from clipreid_kit.data.prompts.templates import template_texts
from clipreid_kit.data.prompts.token_safe import token_safe_prompt
from clipreid_kit.data.prompts.token_statistics import TokenStatistics, token_statistics
from clipreid_kit.data.records import ImageRecord

Key = Literal["identity", "variant", "image"]


class PromptTable:
    """Texts for images, keyed by identity, by colour variant of an identity, or by image.

    Use it to give every image the text that is true of it. Where an item comes in several colours, one text for the
    item is wrong for most of its images: key it by variant.

    Args:
        texts: The texts by key: ``str(identity)``; ``identity/variant`` with the variant as :func:`variant_of` finds
            it; or the image's path as in its record, or the end of it from a folder on: ``img/a/1.jpg`` goes with
            ``data/img/a/1.jpg`` and ``data.zip::img/a/1.jpg``, wherever the data lie. The longest key counts.
        key: What the texts are keyed by.

    Attributes:
        texts: The texts by key, a copy.
        key: What they are keyed by.

    Raises:
        ValueError: If ``key`` is none of the three, or a text is empty.

    Example:
        >>> table = PromptTable({"id_1/01": "a red coat", "id_1/02": "a blue coat"}, key="variant")
        >>> blue = ImageRecord("img/WOMEN/Coats/id_1/02_1_front.jpg", "id_1")
        >>> table.text(blue), len(table)
        ('a blue coat', 2)
        >>> table.caption([blue])[0].caption
        'a blue coat'
    """

    def __init__(self, texts: Mapping[str, str], *, key: Key = "identity") -> None:
        check_choice("PromptTable", "key", key, ("identity", "variant", "image"))
        empty = [name for name, text in texts.items() if not text.strip()]
        if empty:
            got = f"{len(empty)} empty ones: {', '.join(empty[:3])}"
            raise fail("PromptTable", "a text for every key", got, "Leave keys without a text out.")
        self.texts = dict(texts)
        self.key: Key = key

    @classmethod
    def from_template(
        cls,
        records: Sequence[ImageRecord],
        template: str,
        *,
        fields: Mapping[str, object] | None = None,
        key: Key = "identity",
    ) -> "PromptTable":
        """Make a table by filling a template for every record.

        Args:
            records: Whose fields the template may name; see :func:`template_texts`.
            template: Such as ``A photo of a {aspect} {noun}.``
            fields: The same for all records, such as ``{"noun": "hand"}``.
            key: What to key the texts by.

        Returns:
            A table with a text for every record.

        Raises:
            ValueError: If a field is missing, or two records of one key get texts that differ.

        Example:
            >>> records = [ImageRecord("a.jpg", 1, camera=2), ImageRecord("b.jpg", 1, camera=3)]
            >>> PromptTable.from_template(records, "Seen by camera {camera}.", key="image").texts
            {'a.jpg': 'Seen by camera 2.', 'b.jpg': 'Seen by camera 3.'}
        """
        return cls(_collect(records, template_texts(records, template, fields), key), key=key)

    @classmethod
    def from_records(cls, records: Sequence[ImageRecord], *, key: Key = "image") -> "PromptTable":
        """Make a table of the captions that records have.

        Args:
            records: Those without a caption are passed over.
            key: What to key the captions by.

        Returns:
            The captions by key.

        Raises:
            ValueError: If two records of one key have captions that differ.

        Example:
            >>> PromptTable.from_records([ImageRecord("a.jpg", 1, caption="a hat")]).texts
            {'a.jpg': 'a hat'}
        """
        captioned = [record for record in records if record.caption]
        return cls(
            _collect(captioned, [record.caption or "" for record in captioned], key), key=key
        )

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        *,
        key: Key = "identity",
        root: str | os.PathLike[str] | None = None,
    ) -> "PromptTable":
        """Read a JSON object from key to text.

        Args:
            path: Such as ``image_prompts_per_identity.json``, or ``image_texts.json`` with ``key="image"``.
            key: What the texts are keyed by.
            root: Folder that the keys begin at, with ``key="image"``, as it was given when the records were read.

        Returns:
            The table.

        Raises:
            ValueError: If the file is missing or has another shape.
        """
        texts = read_texts(path)
        if key == "image" and root is not None:
            texts = {str(Path(root) / name): text for name, text in texts.items()}
        return cls(texts, key=key)

    def write(
        self, path: str | os.PathLike[str], *, relative_to: str | os.PathLike[str] | None = None
    ) -> None:
        """Write a JSON object that :meth:`read` reads, by sorted keys.

        Args:
            path: Where to; an existing file is replaced.
            relative_to: With ``key="image"``, a folder or archive that holds all images, left out of the keys, such
                as the one that holds ``img`` for ``image_texts.json``; ``None`` writes the keys as they are.

        Raises:
            ValueError: If an image lies outside ``relative_to``, or the file cannot be written.
        """
        texts = self.texts
        if relative_to is not None and self.key == "image":
            texts = {
                relative_key("PromptTable.write", name, relative_to): text
                for name, text in texts.items()
            }
        write_texts(texts, path)

    def text(self, record: ImageRecord) -> str:
        """Give the text of an image.

        Args:
            record: The image.

        Returns:
            Its text.

        Raises:
            ValueError: If the table has none for it.
        """
        name = self.key_of(record)
        if name not in self.texts:
            got = f"none for {name!r} ({record.path})"
            remedy = (
                "Add it, or leave the record out; filter_identities does so for whole identities."
            )
            raise fail("PromptTable.text", f"a text by {self.key}", got, remedy)
        return self.texts[name]

    def caption(self, records: Sequence[ImageRecord]) -> list[ImageRecord]:
        """Put the texts into the records, for a :class:`ReidDataset`.

        Args:
            records: The images.

        Returns:
            Copies of the records with the texts as captions.

        Raises:
            ValueError: If the table has no text for one of them, or two images have one key where it is keyed by
                image.
        """
        if self.key == "image":
            paths: dict[str, str] = {}
            for record in records:
                name = self.key_of(record)
                if paths.setdefault(name, record.path) != record.path:
                    got = f"{paths[name]} and {record.path} for {name!r}"
                    raise fail(
                        "PromptTable.caption",
                        "one image for each key",
                        got,
                        "Begin the keys further up.",
                    )
        return [replace(record, caption=self.text(record)) for record in records]

    def token_safe(
        self, max_tokens: int = 77, *, count_tokens: Callable[[str], int] | None = None
    ) -> "PromptTable":
        """Shorten every text with :func:`token_safe_prompt`.

        Args:
            max_tokens: Most tokens, start and end included.
            count_tokens: Tokens of a text; ``None`` counts by CLIP's vocabulary.

        Returns:
            A table of the same keys.

        Raises:
            ValueError: If nothing of a text is left, because its first word alone does not fit.
        """
        short = {
            name: token_safe_prompt(text, max_tokens, count_tokens=count_tokens)
            for name, text in self.texts.items()
        }
        return PromptTable(short, key=self.key)

    def statistics(
        self, max_tokens: int = 77, *, count_tokens: Callable[[str], int] | None = None
    ) -> TokenStatistics:
        """Measure the texts in tokens.

        Args:
            max_tokens: What the text tower reads, start and end included.
            count_tokens: Tokens of a text; ``None`` counts by CLIP's vocabulary.

        Returns:
            Their number and lengths; zeros for an empty table.

        Example:
            >>> PromptTable({"1": "a hat", "2": "a red hat"}).statistics(max_tokens=4)
            TokenStatistics(num_texts=2, shortest=4, median=4.5, mean=4.5, longest=5, max_tokens=4, num_too_long=1)
        """
        return token_statistics(list(self.texts.values()), max_tokens, count_tokens=count_tokens)

    def key_of(self, record: ImageRecord) -> str:
        """Give the key that an image has in this table.

        Args:
            record: The image.

        Returns:
            The key, whether the table has a text for it or not.

        Raises:
            ValueError: If the table is keyed by variant and the record tells none.
        """
        name = _key_of(record, self.key)
        if self.key != "image" or name in self.texts:
            return name
        steps = name.replace("::", "/").replace(os.sep, "/").split("/")
        ends = ("/".join(steps[start:]) for start in range(len(steps) - 1))
        return next((end for end in ends if end in self.texts), name)

    def __len__(self) -> int:
        """Count the texts."""
        return len(self.texts)

    def __contains__(self, record: object) -> bool:
        """Whether there is a text for an image."""
        return isinstance(record, ImageRecord) and self.key_of(record) in self.texts


def variant_of(record: ImageRecord) -> str:
    """Find the colour variant that an image shows.

    Args:
        record: With an extra column ``variant``, or a file name that begins with its digits, as in
            ``02_1_front.jpg``.

    Returns:
        The variant, such as ``02``.

    Raises:
        ValueError: If there is neither.

    Example:
        >>> variant_of(ImageRecord("img/MEN/Denim/id_00000080/01_7_additional.jpg", "id_00000080"))
        '01'
    """
    if record.extra.get("variant"):
        return record.extra["variant"]
    found = _VARIANT.match(PurePosixPath(record.path.replace(os.sep, "/")).name)
    if found is None:
        remedy = 'Fill the column, or use key="identity".'
        raise fail(
            "variant_of",
            "an extra column 'variant' or a name such as 02_1_front.jpg",
            record.path,
            remedy,
        )
    return found[1]


def _key_of(record: ImageRecord, key: Key) -> str:
    if key == "image":
        return record.path
    return str(record.identity) if key == "identity" else f"{record.identity}/{variant_of(record)}"


_VARIANT = re.compile(r"(\d+)_")


def _collect(records: Sequence[ImageRecord], texts: Sequence[str], key: Key) -> dict[str, str]:
    found: dict[str, str] = {}
    for record, text in zip(records, texts, strict=True):
        name = _key_of(record, key)
        if found.setdefault(name, text) != text:
            got = f"{found[name]!r} and {text!r} for {name}"
            raise fail(
                "PromptTable",
                f"one text for each {key}",
                got,
                'Key the table by "variant" or "image".',
            )
    return found
