"""Assign texts to images: by identity, by colour variant, or by image."""

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

_VARIANT = re.compile(r"(\d+)_")


class PromptTable:
    """Texts for images, keyed by identity, by colour variant of an identity, or by image.

    Use it to give every image a text that is true of it. If an item comes in several colours, one
    text for the item is wrong for most of its images: key it by variant.

    Args:
        texts: The texts by key. With ``key="identity"`` a key is ``str(identity)``; with
            ``key="variant"`` it is ``identity/variant``, with the variant of :func:`variant_of`;
            with ``key="image"`` it is the path of a record, or the end of one from a folder on:
            ``img/a/1.jpg`` matches ``data/img/a/1.jpg`` and ``data.zip::img/a/1.jpg``, wherever the
            data are stored. The longest matching key counts.
        key: ``"identity"``, ``"variant"`` or ``"image"``.

    Attributes:
        texts: The texts by key, a copy.
        key: As given.

    Raises:
        ValueError: If ``key`` is none of the three, or a text is empty.

    Example:
        >>> table = PromptTable({"id_1/01": "a red coat", "id_1/02": "a blue coat"}, key="variant")
        >>> blue = ImageRecord("img/WOMEN/Coats/id_1/02_1_front.jpg", "id_1")
        >>> table.text(blue)
        'a blue coat'
        >>> table.caption([blue])[0].caption
        'a blue coat'
        >>> table
        PromptTable(num_texts=2, key='variant')
    """

    def __init__(self, texts: Mapping[str, str], *, key: Key = "identity") -> None:
        check_choice("PromptTable", "key", key, ("identity", "variant", "image"))

        empty = [name for name, text in texts.items() if not text.strip()]
        if empty:
            raise ValueError(
                f"PromptTable: {len(empty)} of {len(texts)} texts are empty: "
                f"{', '.join(empty[:3])}. Leave keys without a text out."
            )

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
        """Build a table by filling a template for every record.

        Args:
            records: Records whose fields the template may name; see :func:`template_texts`.
            template: A template such as ``A photo of a {aspect} {noun}.``
            fields: The same values for all records, such as ``{"noun": "hand"}``.
            key: Key of the texts.

        Returns:
            A table with a text for every record.

        Raises:
            ValueError: If a field is missing, or two records with the same key get different texts.

        Example:
            >>> records = [ImageRecord("a.jpg", 1, camera=2), ImageRecord("b.jpg", 1, camera=3)]
            >>> PromptTable.from_template(records, "Seen by camera {camera}.", key="image").texts
            {'a.jpg': 'Seen by camera 2.', 'b.jpg': 'Seen by camera 3.'}
        """
        texts = template_texts(records, template, fields)
        return cls(_texts_by_key(records, texts, key), key=key)

    @classmethod
    def from_records(cls, records: Sequence[ImageRecord], *, key: Key = "image") -> "PromptTable":
        """Build a table of the captions that records have.

        Args:
            records: Records; those without a caption are skipped.
            key: Key of the captions.

        Returns:
            The captions by key.

        Raises:
            ValueError: If two records with the same key have different captions.

        Example:
            >>> PromptTable.from_records([ImageRecord("a.jpg", 1, caption="a hat")]).texts
            {'a.jpg': 'a hat'}
        """
        captioned = [record for record in records if record.caption]
        captions = [record.caption or "" for record in captioned]
        return cls(_texts_by_key(captioned, captions, key), key=key)

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        *,
        key: Key = "identity",
        root: str | os.PathLike[str] | None = None,
    ) -> "PromptTable":
        """Read a JSON object of texts by key.

        Args:
            path: The JSON file, such as ``image_prompts_per_identity.json``, or
                ``image_texts.json`` with ``key="image"``.
            key: Key of the texts.
            root: With ``key="image"``, the folder that the keys are relative to, as it was given
                when the records were read; ``None`` leaves the keys unchanged.

        Returns:
            The table.

        Raises:
            ValueError: If the file is missing or has another structure.
        """
        texts = read_texts(path)
        if key == "image" and root is not None:
            texts = {str(Path(root) / name): text for name, text in texts.items()}

        return cls(texts, key=key)

    def write(
        self, path: str | os.PathLike[str], *, relative_to: str | os.PathLike[str] | None = None
    ) -> None:
        """Write a JSON object for :meth:`read`, with sorted keys.

        Args:
            path: Target file; an existing file is replaced.
            relative_to: With ``key="image"``, a folder or archive that holds all images, removed
                from the keys, such as the folder of ``img`` for ``image_texts.json``; ``None``
                leaves the keys unchanged.

        Raises:
            ValueError: If an image lies outside ``relative_to``, or the file cannot be written.
        """
        texts = self.texts
        if relative_to is not None and self.key == "image":
            owner = "PromptTable.write"
            texts = {relative_key(owner, name, relative_to): text for name, text in texts.items()}

        write_texts(texts, path)

    def text(self, record: ImageRecord) -> str:
        """Look up the text of an image.

        Args:
            record: The image.

        Returns:
            Its text.

        Raises:
            ValueError: If the table has no text for it.
        """
        key = self.key_of(record)
        if key not in self.texts:
            raise ValueError(
                f"PromptTable.text: no text for the {self.key} {key!r} ({record.path}). Add one "
                "or leave the record out; filter_identities drops whole identities."
            )

        return self.texts[key]

    def caption(self, records: Sequence[ImageRecord]) -> list[ImageRecord]:
        """Write the texts into the captions of records, for a :class:`ReidDataset`.

        Args:
            records: The images.

        Returns:
            Copies of the records with the texts as captions.

        Raises:
            ValueError: If the table has no text for a record, or is keyed by image and two images
                match the same key.
        """
        if self.key == "image":
            self._check_one_image_a_key(records)

        return [replace(record, caption=self.text(record)) for record in records]

    def token_safe(
        self, max_tokens: int = 77, *, count_tokens: Callable[[str], int] | None = None
    ) -> "PromptTable":
        """Shorten every text with :func:`token_safe_prompt`.

        Args:
            max_tokens: Maximum number of tokens, start and end included.
            count_tokens: Counts the tokens of a text; defaults to CLIP's vocabulary.

        Returns:
            A table with the same keys.

        Raises:
            ValueError: If nothing is left of a text because its first word alone does not fit.
        """
        shortened = {
            key: token_safe_prompt(text, max_tokens, count_tokens=count_tokens)
            for key, text in self.texts.items()
        }
        return PromptTable(shortened, key=self.key)

    def statistics(
        self, max_tokens: int = 77, *, count_tokens: Callable[[str], int] | None = None
    ) -> TokenStatistics:
        """Measure the texts in tokens.

        Args:
            max_tokens: Number of tokens that the text tower reads, start and end included.
            count_tokens: Counts the tokens of a text; defaults to CLIP's vocabulary.

        Returns:
            Their number and lengths; zeros for an empty table.

        Example:
            >>> PromptTable({"1": "a hat", "2": "a red hat"}).statistics(max_tokens=4).num_too_long
            1
        """
        return token_statistics(list(self.texts.values()), max_tokens, count_tokens=count_tokens)

    def key_of(self, record: ImageRecord) -> str:
        """Return the key of an image in this table.

        Args:
            record: The image.

        Returns:
            The key, even if the table has no text for it.

        Raises:
            ValueError: If the table is keyed by variant and the record does not name one.
        """
        key = _full_key(record, self.key)
        if self.key != "image" or key in self.texts:
            return key

        # The longest end of the path that the table knows; a bare file name is not enough.
        steps = key.replace("::", "/").replace(os.sep, "/").split("/")
        for start in range(len(steps) - 1):
            end = "/".join(steps[start:])
            if end in self.texts:
                return end

        return key

    def __len__(self) -> int:
        """Count the texts."""
        return len(self.texts)

    def __contains__(self, record: object) -> bool:
        """Check whether there is a text for an image."""
        return isinstance(record, ImageRecord) and self.key_of(record) in self.texts

    def __repr__(self) -> str:
        return f"PromptTable(num_texts={len(self)}, key={self.key!r})"

    def _check_one_image_a_key(self, records: Sequence[ImageRecord]) -> None:
        path_of: dict[str, str] = {}
        for record in records:
            key = self.key_of(record)
            first = path_of.setdefault(key, record.path)
            if first != record.path:
                raise ValueError(
                    f"PromptTable.caption: {first} and {record.path} both match the key {key!r}. "
                    "Begin the keys at a folder further up."
                )


def variant_of(record: ImageRecord) -> str:
    """Find the colour variant that an image shows.

    Args:
        record: Record with an extra column ``variant``, or a file name that begins with the digits
            of the variant, as in ``02_1_front.jpg``.

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

    name = PurePosixPath(record.path.replace(os.sep, "/")).name
    found = _VARIANT.match(name)
    if found is None:
        expected = "an extra column 'variant' or a name such as 02_1_front.jpg"
        remedy = 'Fill the column, or use key="identity".'
        raise fail("variant_of", expected, record.path, remedy)

    return found[1]


def _full_key(record: ImageRecord, key: Key) -> str:
    if key == "image":
        return record.path
    if key == "variant":
        return f"{record.identity}/{variant_of(record)}"

    return str(record.identity)


def _texts_by_key(records: Sequence[ImageRecord], texts: Sequence[str], key: Key) -> dict[str, str]:
    found: dict[str, str] = {}
    for record, text in zip(records, texts, strict=True):
        name = _full_key(record, key)
        first = found.setdefault(name, text)
        if first != text:
            raise ValueError(
                f"PromptTable: the {key} {name} has two texts, {first!r} and {text!r}. "
                'Key the table by "variant" or "image".'
            )

    return found
