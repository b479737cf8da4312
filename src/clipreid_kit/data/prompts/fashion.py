"""Write prompts from descriptions of garments: plain ones, and ones that fit a text tower."""

import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data.prompts.json_files import read_json
from clipreid_kit.data.prompts.prompt_table import variant_of
from clipreid_kit.data.prompts.token_safe import (
    CountTokens,
    count_clip_tokens,
    order_of_information,
    token_safe_prompt,
)
from clipreid_kit.data.records import ImageRecord

_LEAD = "A clothing item"
_SEXES = {"MEN": "men's", "WOMEN": "women's"}
_COMPOUND = frozenset({"graphic"})  # Graphic_Tees is one kind of garment, Tees_Tanks are two


@dataclass(frozen=True, slots=True)
class ItemDescription:
    """A shop's description of an item.

    Attributes:
        item: The identity.
        color: Its colour; empty if unknown.
        lines: The description, one line or paragraph each.
        variant: The colour variant that is described, such as ``02``; ``None`` for the whole item.
    """

    item: str
    color: str
    lines: tuple[str, ...]
    variant: str | None = None


def read_descriptions(path: str | os.PathLike[str]) -> list[ItemDescription]:
    """Read a JSON list of ``{"item": text, "color": text, "description": [text, ...]}``.

    Args:
        path: The JSON file, such as ``list_description_inshop.json`` of DeepFashion. Entries may
            have a ``variant``.

    Returns:
        One description for each entry, in the order of the file.

    Raises:
        ValueError: If the file is missing or not JSON, or an entry has another structure (the error
            names its number, from 1).

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "list.json")
        ...     entry = '{"item": "id_1", "color": "Red", "description": ["A coat."]}'
        ...     _ = file.write_text(f"[{entry}]")
        ...     read_descriptions(file)
        [ItemDescription(item='id_1', color='Red', lines=('A coat.',), variant=None)]
    """
    owner = "read_descriptions"
    entries = read_json(owner, path)
    if not isinstance(entries, list):
        raise fail(owner, f"a JSON list in {path}", type(entries).__name__)

    descriptions = []
    for number, entry in enumerate(entries, start=1):
        description = _parse_description(entry)
        if description is None:
            expected = '{"item": text, "color": text, "description": [text, ...]}'
            raise fail(owner, f"{expected} as entry {number} of {path}", repr(entry)[:80])
        descriptions.append(description)

    return descriptions


def prompts_from_descriptions(
    descriptions: Iterable[ItemDescription], items: Iterable[str] = ()
) -> dict[str, str]:
    """Join each description into one prompt, ``A clothing item in {color}. {lines}``.

    Nothing is shortened: most of these prompts are longer than a text tower reads.
    :func:`structured_prompts` writes prompts that fit.

    Args:
        descriptions: Descriptions of items or variants. If two have the same key, the later one
            counts.
        items: Identities that need a prompt; those without a description get ``A photo of {item}``
            with spaces for underscores.

    Returns:
        Prompts by item, or by ``item/variant`` for descriptions of a variant, in sorted order.

    Example:
        >>> coat = ItemDescription("id_1", "Red", ("A coat. ", "", "Lined."))
        >>> prompts_from_descriptions([coat], items=["id_2"])
        {'id_1': 'A clothing item in Red. A coat. Lined.', 'id_2': 'A photo of id 2'}
    """
    prompts: dict[str, str] = {}
    described: set[str] = set()

    for description in descriptions:
        lines = [line.strip() for line in description.lines if line.strip()]
        lead = _lead(description.color, category="")
        key = _key_of(description)
        prompts[key] = " ".join([lead, *lines])
        described.add(key.partition("/")[0])

    for item in items:
        if item not in described:
            prompts[item] = f"A photo of {item.replace('_', ' ')}"

    return dict(sorted(prompts.items()))


def structured_prompts(
    descriptions: Iterable[ItemDescription],
    records: Sequence[ImageRecord] = (),
    *,
    by_variant: bool = False,
    max_tokens: int = 77,
    count_tokens: Callable[[str], int] | None = None,
) -> dict[str, str]:
    """Write prompts that fit a text tower: colour, category, then the most informative sentences.

    Use them for training. The first sentence of a description usually says most, and is kept.

    Args:
        descriptions: Descriptions of items or variants. If two have the same key, the later one
            counts.
        records: Images of the items; their paths name the category
            (``.../WOMEN/Dresses/<item>/...``), their file names the variants. Without records, no
            category is mentioned.
        by_variant: Write a prompt for every variant of the records' items. The description of an
            item names the colour of one variant without saying which: for an item with several
            variants and no description of the variant itself, the colour is left out. ``False``
            writes one prompt for each item, with its colour.
        max_tokens: Maximum number of tokens, start and end included, >= 16.
        count_tokens: Counts the tokens of a text, such as ``ClipTowers.count_tokens``; defaults to
            CLIP's vocabulary.

    Returns:
        Prompts by item, or by ``item/variant``, in sorted order, each within ``max_tokens``. Items
        without a description have none.

    Raises:
        ValueError: If ``max_tokens < 16``, or a record does not name its variant.

    Example:
        >>> dress = ItemDescription("id_1", "Cream", ("Hand wash.", "A knit dress."))
        >>> folder = "img/WOMEN/Dresses/id_1"
        >>> records = [ImageRecord(f"{folder}/0{n}_1_front.jpg", "id_1") for n in (1, 2)]
        >>> structured_prompts([dress], records)
        {'id_1': "A clothing item in cream, women's dresses. A knit dress. Hand wash."}
        >>> structured_prompts([dress], records, by_variant=True, max_tokens=16)["id_1/02"]
        "A clothing item, women's dresses. A knit dress."
    """
    check_integer("structured_prompts", "max_tokens", max_tokens, 16)
    count = count_tokens or count_clip_tokens

    # The first record of an item names its category.
    categories = {str(record.identity): category_of(record) for record in reversed(records)}

    described = {_key_of(description): description for description in descriptions}
    if by_variant:
        coloured = _coloured_variants(described, records)
    else:
        coloured = {key: (one.color, one) for key, one in described.items()}

    prompts = {}
    for key, (colour, description) in sorted(coloured.items()):
        lead = _lead(colour.lower(), categories.get(description.item, ""))
        prompts[key] = _fit(lead, description.lines, max_tokens, count)

    return prompts


def category_of(record: ImageRecord) -> str:
    """Write the category of an item in plain words, from the folders of its image.

    Args:
        record: Record with an extra column ``category`` (and ``sex``, as :func:`read_inshop` sets
            it), or a path such as ``img/WOMEN/Blouses_Shirts/id_1/01_1_front.jpg``.

    Returns:
        The category, such as ``women's blouses and shirts``; empty if neither is there.

    Example:
        >>> category_of(ImageRecord("img/MEN/Jackets_Vests/id_1/01_1_front.jpg", "id_1"))
        "men's jackets and vests"
    """
    if record.extra.get("category"):
        sex = _SEXES.get(record.extra.get("sex", ""), "")
        return f"{sex} {_spoken_category(record.extra['category'])}".strip()

    folders = PurePosixPath(record.path.replace(os.sep, "/")).parts[:-1]
    for sex, category in itertools.pairwise(folders):
        if sex in _SEXES:
            return f"{_SEXES[sex]} {_spoken_category(category)}"

    return ""


def _key_of(description: ItemDescription) -> str:
    """Return ``item``, or ``item/variant`` for the description of a variant."""
    if description.variant is None:
        return description.item

    return f"{description.item}/{description.variant}"


def _coloured_variants(
    described: Mapping[str, ItemDescription], records: Sequence[ImageRecord]
) -> dict[str, tuple[str, ItemDescription]]:
    """Find the colour and the description of every variant of the records' items."""
    variants: dict[str, set[str]] = {}
    for record in records:
        variants.setdefault(str(record.identity), set()).add(variant_of(record))

    coloured: dict[str, tuple[str, ItemDescription]] = {}
    for item, found in variants.items():
        for variant in found:
            key = f"{item}/{variant}"
            if key in described:
                coloured[key] = (described[key].color, described[key])
            elif item in described:
                colour = described[item].color if len(found) == 1 else ""
                coloured[key] = (colour, described[item])

    return coloured


def _fit(lead: str, lines: Sequence[str], max_tokens: int, count: CountTokens) -> str:
    """Add the most informative sentences that fit after the lead."""
    fitted = token_safe_prompt(lead, max_tokens, count_tokens=count)
    if not fitted.startswith(_LEAD):
        # A long colour with a full stop in it crowds out the first sentence: keep only that one.
        fitted = token_safe_prompt(lead, max_tokens, count_tokens=count, order=_first_only)

    # Both parts are counted with start and end, which the whole has once.
    remaining = max_tokens - count(fitted) + 2
    text = "\n".join(lines)
    body = token_safe_prompt(text, remaining, count_tokens=count, order=order_of_information)

    prompt = f"{fitted} {body}".strip()
    return prompt if count(prompt) <= max_tokens else fitted


def _first_only(sentences: Sequence[str]) -> list[int]:
    return list(range(len(sentences)))[:1]


def _spoken_category(category: str) -> str:
    words = re.split(r"[_\s]+", category.strip().lower())
    separator = " " if words[0] in _COMPOUND else " and "
    return separator.join(words)


def _lead(colour: str, category: str) -> str:
    lead = _LEAD
    if colour.strip():
        lead += f" in {colour.strip()}"
    if category:
        lead += f", {category}"

    return f"{lead}."


def _parse_description(entry: object) -> ItemDescription | None:
    """Read one entry of a JSON list; ``None`` if it has another structure."""
    if not isinstance(entry, Mapping):
        return None

    item = entry.get("item")
    if not isinstance(item, str) or not item:
        return None

    lines = entry.get("description", [])
    if isinstance(lines, str):
        lines = [lines]
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        return None

    colour, variant = entry.get("color", ""), entry.get("variant")
    if not isinstance(colour, str) or not isinstance(variant, str | None):
        return None

    return ItemDescription(item, colour, tuple(lines), variant)
