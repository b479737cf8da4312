"""From descriptions of garments to prompts: plain ones, and structured ones that fit a text tower."""

import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data.prompts.json_files import read_json
from clipreid_kit.data.prompts.table import variant_of
from clipreid_kit.data.prompts.token_safe import (
    count_clip_tokens,
    order_of_information,
    token_safe_prompt,
)
from clipreid_kit.data.records import ImageRecord


@dataclass(frozen=True, slots=True)
class ItemDescription:
    """What a shop says of an item.

    Attributes:
        item: The identity.
        color: Its colour; empty where unknown.
        lines: The description, a line or paragraph each.
        variant: The colour variant that this is about, such as ``02``; ``None`` for the item as a whole.
    """

    item: str
    color: str
    lines: tuple[str, ...]
    variant: str | None = None


def read_descriptions(path: str | os.PathLike[str]) -> list[ItemDescription]:
    """Read a JSON list of ``{"item": text, "color": text, "description": [text, ...]}``.

    Args:
        path: Such as ``list_description_inshop.json`` of DeepFashion. Entries may have a ``variant``.

    Returns:
        One description for each entry, in the order of the file.

    Raises:
        ValueError: If the file is missing, is no JSON, or an entry has another shape (with its number, from 1).

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "list.json")
        ...     _ = file.write_text('[{"item": "id_1", "color": "Red", "description": ["A coat."]}]')
        ...     read_descriptions(file)
        [ItemDescription(item='id_1', color='Red', lines=('A coat.',), variant=None)]
    """
    owner = "read_descriptions"
    entries = read_json(owner, path)
    if not isinstance(entries, list):
        raise fail(owner, f"a JSON list in {path}", type(entries).__name__)
    return [
        _description(owner, path, number, entry) for number, entry in enumerate(entries, start=1)
    ]


def prompts_from_descriptions(
    descriptions: Iterable[ItemDescription], items: Iterable[str] = ()
) -> dict[str, str]:
    """Join each description into one prompt, ``A clothing item in {color}. {lines}``.

    Nothing is shortened: most of these prompts are longer than a text tower reads. :func:`structured_prompts` makes
    prompts that fit.

    Args:
        descriptions: Of items or variants. Where two have one key, the later one counts.
        items: Identities that need a prompt; those without a description get ``A photo of {item}`` with spaces for
            underscores.

    Returns:
        Prompts by item, or by ``item/variant`` for descriptions of a variant, in sorted order.

    Example:
        >>> coat = ItemDescription("id_1", "Red", ("A coat. ", "", "Lined."))
        >>> prompts_from_descriptions([coat], items=["id_2"])
        {'id_1': 'A clothing item in Red. A coat. Lined.', 'id_2': 'A photo of id 2'}
    """
    prompts = {}
    for description in descriptions:
        lines = (line.strip() for line in description.lines)
        prompts[_key(description)] = " ".join(
            [_lead(description.color, ""), *(line for line in lines if line)]
        )
    described = {key.partition("/")[0] for key in prompts}
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
    """Write prompts that fit a text tower: colour and category first, then whole sentences, the telling ones first.

    Use them for training. The first sentence of a description usually says most, and is kept.

    Args:
        descriptions: Of items or variants. Where two have one key, the later one counts.
        records: Images of the items; the category comes from their paths (``.../WOMEN/Dresses/<item>/...``), the
            variants from their names. None leaves the category out.
        by_variant: Write a prompt for every variant of the records' items. The description of an item tells the
            colour of one variant and not of which: where an item has several, and no description of its own for a
            variant, the colour is left out. ``False`` writes one for each item, with its colour.
        max_tokens: Most tokens, start and end included, >= 16.
        count_tokens: Tokens of a text, such as ``ClipTowers.count_tokens``; ``None`` counts by CLIP's vocabulary.

    Returns:
        Prompts by item, or by ``item/variant``, in sorted order. Items without a description have none. None is
        longer than ``max_tokens``.

    Raises:
        ValueError: If ``max_tokens < 16``, or a variant cannot be told from a record.

    Example:
        >>> dress = ItemDescription("id_1", "Cream", ("Hand wash.", "A knit dress with a scoop neck."))
        >>> records = [ImageRecord(f"img/WOMEN/Dresses/id_1/0{n}_1_front.jpg", "id_1") for n in (1, 2)]
        >>> structured_prompts([dress], records)
        {'id_1': "A clothing item in cream, women's dresses. A knit dress with a scoop neck. Hand wash."}
        >>> structured_prompts([dress], records, by_variant=True, max_tokens=18)["id_1/02"]
        "A clothing item, women's dresses. A knit dress with a scoop neck."
    """
    check_integer("structured_prompts", "max_tokens", max_tokens, 16)
    count = count_tokens or count_clip_tokens
    categories = {str(record.identity): category_of(record) for record in reversed(records)}
    known = {_key(description): description for description in descriptions}
    colours: dict[str, tuple[str, ItemDescription]] = {}
    if by_variant:
        variants: dict[str, set[str]] = {}
        for record in records:
            variants.setdefault(str(record.identity), set()).add(variant_of(record))
        for item, found in variants.items():
            for variant in found:
                own, general = known.get(f"{item}/{variant}"), known.get(item)
                if own is not None:
                    colours[f"{item}/{variant}"] = (own.color, own)
                elif general is not None:
                    colours[f"{item}/{variant}"] = (
                        general.color if len(found) == 1 else "",
                        general,
                    )
    else:
        colours = {key: (description.color, description) for key, description in known.items()}
    prompts = {}
    for key, (colour, description) in sorted(colours.items()):
        lead = token_safe_prompt(
            _lead(colour.lower(), categories.get(description.item, "")),
            max_tokens,
            count_tokens=count,
        )
        room = max_tokens - count(lead) + 2
        body = token_safe_prompt(
            "\n".join(description.lines), room, count_tokens=count, order=order_of_information
        )
        prompt = f"{lead} {body}".strip()
        prompts[key] = prompt if count(prompt) <= max_tokens else lead
    return prompts


def category_of(record: ImageRecord) -> str:
    """Say the category of an item as a person does, from the folders of its image.

    Args:
        record: With an extra column ``category`` (and ``sex``, as :func:`read_inshop` gives), or a path such as
            ``img/WOMEN/Blouses_Shirts/id_1/01_1_front.jpg``.

    Returns:
        Such as ``women's blouses and shirts``; empty if neither is there.

    Example:
        >>> category_of(ImageRecord("img/MEN/Jackets_Vests/id_1/01_1_front.jpg", "id_1"))
        "men's jackets and vests"
    """
    if record.extra.get("category"):
        return f"{_SEXES.get(record.extra.get('sex', ''), '')} {_spoken(record.extra['category'])}".strip()
    parts = PurePosixPath(record.path.replace(os.sep, "/")).parts
    for sex, category in itertools.pairwise(parts[:-1]):
        if sex in _SEXES:
            return f"{_SEXES[sex]} {_spoken(category)}"
    return ""


_SEXES = {"MEN": "men's", "WOMEN": "women's"}
_TWO_WORDS = frozenset({"graphic"})  # Graphic_Tees is one kind, Tees_Tanks are two


def _spoken(category: str) -> str:
    words = re.split(r"[_\s]+", category.strip().lower())
    return (" " if words[0] in _TWO_WORDS else " and ").join(words)


def _lead(colour: str, category: str) -> str:
    start = f"A clothing item in {colour.strip()}" if colour.strip() else "A clothing item"
    return f"{start}, {category}." if category else f"{start}."


def _key(description: ItemDescription) -> str:
    return (
        description.item
        if description.variant is None
        else f"{description.item}/{description.variant}"
    )


def _description(
    owner: str, path: str | os.PathLike[str], number: int, entry: object
) -> ItemDescription:
    expected = '{"item": text, "color": text, "description": [text, ...]}'
    if not isinstance(entry, Mapping):
        raise fail(owner, f"{expected} as entry {number} of {path}", type(entry).__name__)
    item, colour, lines = entry.get("item"), entry.get("color", ""), entry.get("description", [])
    variant = entry.get("variant")
    lines = [lines] if isinstance(lines, str) else lines
    texts = isinstance(lines, list) and all(isinstance(line, str) for line in lines)
    if not (
        isinstance(item, str)
        and item
        and isinstance(colour, str)
        and texts
        and isinstance(variant, str | None)
    ):
        raise fail(owner, f"{expected} as entry {number} of {path}", repr(dict(entry))[:80])
    return ItemDescription(item, colour, tuple(lines), variant)
