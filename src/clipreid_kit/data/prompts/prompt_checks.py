"""Check that prompts and images fit together, and keep the identities for which they do."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from clipreid_kit._checks import check_integer
from clipreid_kit.data.prompts.prompt_table import PromptTable
from clipreid_kit.data.records import ImageRecord


@dataclass(frozen=True, slots=True)
class PromptReport:
    """The result of :func:`analyse_prompts`; identities are in sorted order.

    Attributes:
        num_images: Number of images.
        num_identities: Number of identities that they show.
        single_image: Identities with only one image.
        no_prompt: Identities with an image that has no prompt.
        several_prompts: Identities whose images have different prompts.
        unused: Keys of the table that belong to no image.
    """

    num_images: int
    num_identities: int
    single_image: tuple[str, ...]
    no_prompt: tuple[str, ...]
    several_prompts: tuple[str, ...]
    unused: tuple[str, ...]

    def lines(self, examples: int = 10) -> list[str]:
        """Format the report as text.

        Args:
            examples: Maximum number of names in each line.

        Returns:
            One line for each finding.
        """
        return [
            f"{self.num_images} images of {self.num_identities} identities",
            _finding("identities with one image", self.single_image, examples),
            _finding("identities with an image that has no prompt", self.no_prompt, examples),
            _finding("identities with several prompts", self.several_prompts, examples),
            _finding("prompts that no image uses", self.unused, examples),
        ]


def _finding(title: str, names: tuple[str, ...], examples: int) -> str:
    line = f"{len(names)} {title}"
    if not names or not examples:
        return line

    shown = ", ".join(names[:examples])
    if len(names) > examples:
        shown += ", ..."

    return f"{line}: {shown}"


def analyse_prompts(
    records: Sequence[ImageRecord], table: PromptTable, *, split: str | None = None
) -> PromptReport:
    """Check whether every image has a prompt and every identity a pair of images.

    Use it before training; it changes nothing.

    Args:
        records: The images.
        table: Their prompts.
        split: Check only this split, such as ``train``; ``None`` checks all images.

    Returns:
        The findings.

    Example:
        >>> identities = {"1.jpg": "id_1", "2.jpg": "id_1", "3.jpg": "id_2"}
        >>> records = [ImageRecord(path, identity) for path, identity in identities.items()]
        >>> report = analyse_prompts(records, PromptTable({"id_1": "a coat", "id_9": "a hat"}))
        >>> report.single_image, report.no_prompt, report.unused
        (('id_2',), ('id_2',), ('id_9',))
    """
    checked = [record for record in records if split is None or record.split == split]
    num_images = Counter(str(record.identity) for record in checked)

    prompts: defaultdict[str, set[str]] = defaultdict(set)
    no_prompt: set[str] = set()
    used: set[str] = set()
    for record in checked:
        used.add(table.key_of(record))
        if record in table:
            prompts[str(record.identity)].add(table.text(record))
        else:
            no_prompt.add(str(record.identity))

    single_image = [identity for identity, count in num_images.items() if count == 1]
    several_prompts = [identity for identity, texts in prompts.items() if len(texts) > 1]

    return PromptReport(
        num_images=len(checked),
        num_identities=len(num_images),
        single_image=tuple(sorted(single_image)),
        no_prompt=tuple(sorted(no_prompt)),
        several_prompts=tuple(sorted(several_prompts)),
        unused=tuple(sorted(set(table.texts) - used)),
    )


def filter_identities(
    records: Sequence[ImageRecord],
    table: PromptTable,
    *,
    min_images: int = 2,
    split: str | None = None,
) -> tuple[list[ImageRecord], PromptTable]:
    """Keep the identities that have enough images, each of them with a prompt.

    Args:
        records: The images.
        table: Their prompts.
        min_images: Minimum number of images of an identity, >= 1.
        split: Count only the images of this split, such as ``train``: identities that have some
            images in it but fewer than ``min_images`` are dropped, and identities without any are
            kept. ``None`` counts all images.

    Returns:
        The records of the kept identities, in their order, and the prompts that they use.

    Raises:
        ValueError: If ``min_images < 1``.

    Example:
        >>> identities = {"1.jpg": "id_1", "2.jpg": "id_1", "3.jpg": "id_2"}
        >>> records = [ImageRecord(path, identity) for path, identity in identities.items()]
        >>> table = PromptTable({"id_1": "a coat", "id_2": "a hat"})
        >>> kept, prompts = filter_identities(records, table)
        >>> [record.path for record in kept], prompts.texts
        (['1.jpg', '2.jpg'], {'id_1': 'a coat'})
    """
    check_integer("filter_identities", "min_images", min_images, 1)

    counted = [record for record in records if split is None or record.split == split]
    num_images = Counter(record.identity for record in counted)

    dropped = set()
    for record in records:
        count = num_images.get(record.identity, min_images)  # those not counted are kept
        if count < min_images or record not in table:
            dropped.add(record.identity)
    kept = [record for record in records if record.identity not in dropped]

    used = {table.key_of(record) for record in kept}
    texts = {key: text for key, text in table.texts.items() if key in used}
    return kept, PromptTable(texts, key=table.key)
