"""Whether prompts and images go together, and the identities for which they do."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from clipreid_kit._checks import check_integer
from clipreid_kit.data.prompts.table import PromptTable
from clipreid_kit.data.records import ImageRecord


@dataclass(frozen=True, slots=True)
class PromptReport:
    """What :func:`analyse_prompts` finds; identities are in sorted order.

    Attributes:
        num_images: Images that were looked at.
        num_identities: Identities that they show.
        single_image: Identities with one image only.
        no_prompt: Identities with an image that has no prompt.
        several_prompts: Identities whose images have prompts that differ.
        unused: Keys of the table that no image has.
    """

    num_images: int
    num_identities: int
    single_image: tuple[str, ...]
    no_prompt: tuple[str, ...]
    several_prompts: tuple[str, ...]
    unused: tuple[str, ...]

    def lines(self, examples: int = 10) -> list[str]:
        """Write the report for people.

        Args:
            examples: Most names to give for each finding.

        Returns:
            A line for each number.
        """
        found = [f"{self.num_images} images of {self.num_identities} identities"]
        for title, names in (
            ("identities with one image", self.single_image),
            ("identities with an image that has no prompt", self.no_prompt),
            ("identities with several prompts", self.several_prompts),
            ("prompts that no image uses", self.unused),
        ):
            shown = ", ".join(names[:examples]) + (", ..." if len(names) > examples else "")
            found.append(f"{len(names)} {title}" + (f": {shown}" if names and examples else ""))
        return found


def analyse_prompts(
    records: Sequence[ImageRecord], table: PromptTable, *, split: str | None = None
) -> PromptReport:
    """Look whether every image has a prompt, and every identity a pair; nothing is changed.

    Args:
        records: The images.
        table: Their prompts.
        split: Look at this split alone, such as ``train``; ``None`` for all.

    Returns:
        What was found.

    Example:
        >>> records = [ImageRecord("1.jpg", "id_1"), ImageRecord("2.jpg", "id_1"), ImageRecord("3.jpg", "id_2")]
        >>> report = analyse_prompts(records, PromptTable({"id_1": "a coat", "id_9": "a hat"}))
        >>> report.single_image, report.no_prompt, report.unused
        (('id_2',), ('id_2',), ('id_9',))
    """
    looked_at = [record for record in records if split is None or record.split == split]
    images = Counter(str(record.identity) for record in looked_at)
    prompts: defaultdict[str, set[str]] = defaultdict(set)
    bare: set[str] = set()
    for record in looked_at:
        if record in table:
            prompts[str(record.identity)].add(table.text(record))
        else:
            bare.add(str(record.identity))
    used = {table.key_of(record) for record in looked_at}
    return PromptReport(
        num_images=len(looked_at),
        num_identities=len(images),
        single_image=tuple(sorted(name for name, count in images.items() if count == 1)),
        no_prompt=tuple(sorted(bare)),
        several_prompts=tuple(sorted(name for name, texts in prompts.items() if len(texts) > 1)),
        unused=tuple(sorted(set(table.texts) - used)),
    )


def filter_identities(
    records: Sequence[ImageRecord],
    table: PromptTable,
    *,
    min_images: int = 2,
    split: str | None = None,
) -> tuple[list[ImageRecord], PromptTable]:
    """Keep the identities that have images enough, each of them with a prompt.

    Args:
        records: The images.
        table: Their prompts.
        min_images: Fewest images of an identity, >= 1.
        split: Count the images of this split alone, such as ``train``: identities that have some there, but too
            few, go; those of other splits stay. ``None`` counts all images.

    Returns:
        The records of those identities, in their order, and the prompts that they use.

    Raises:
        ValueError: If ``min_images < 1``.

    Example:
        >>> records = [ImageRecord("1.jpg", "id_1"), ImageRecord("2.jpg", "id_1"), ImageRecord("3.jpg", "id_2")]
        >>> kept, prompts = filter_identities(records, PromptTable({"id_1": "a coat", "id_2": "a hat"}))
        >>> [record.path for record in kept], prompts.texts
        (['1.jpg', '2.jpg'], {'id_1': 'a coat'})
    """
    check_integer("filter_identities", "min_images", min_images, 1)
    counts = Counter(
        record.identity for record in records if split is None or record.split == split
    )
    dropped = {identity for identity, count in counts.items() if count < min_images}
    dropped |= {record.identity for record in records if record not in table}
    kept = [record for record in records if record.identity not in dropped]
    used = {table.key_of(record) for record in kept}
    texts = {name: text for name, text in table.texts.items() if name in used}
    return kept, PromptTable(texts, key=table.key)
