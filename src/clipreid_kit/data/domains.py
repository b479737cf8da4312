"""Several data sets as domains of one list: joined, balanced, and each left out in turn."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data.records import ImageRecord, check_records

_COLUMN = "domain"  # of ImageRecord.extra
_TEST_SPLITS = ("query", "gallery", "test")
_TRAINING_SPLITS = ("train", "val", "val_query", "val_gallery")


def join_domains(sources: Mapping[str, Sequence[ImageRecord]]) -> list[ImageRecord]:
    """Join the records of several data sets, whose identities and cameras stay apart.

    Use it before :func:`leave_one_domain_out` and :class:`DomainPKSampler`. Person 7 of one data
    set is another person than person 7 of the next; their identities become ``market/7`` and
    ``duke/7``, and their cameras likewise. :func:`write_table` keeps the column ``domain``.

    Args:
        sources: The records of each data set, by the name of the domain.

    Returns:
        All records in order, with ``domain`` in ``extra``; splits stay as they are.

    Raises:
        ValueError: If there is no domain, one has no name or no records, or a record belongs to
            another domain already.

    Example:
        >>> market = [ImageRecord("m/a.jpg", 7, camera=1, split="train")]
        >>> duke = [ImageRecord("d/a.jpg", 7, camera=1, split="train")]
        >>> joined = join_domains({"market": market, "duke": duke})
        >>> [(record.identity, record.camera) for record in joined]
        [('market/7', 'market/1'), ('duke/7', 'duke/1')]
        >>> domain_names(joined)
        ['market', 'duke']
    """
    owner = "join_domains"
    if not sources:
        raise ValueError(f"{owner}: there are no domains. Pass a name and records for each.")

    joined = []
    for name, records in sources.items():
        if not name or not records:
            raise fail(owner, "a name and records for each domain", f"{len(records)} for {name!r}")

        check_records(owner, records)
        joined += [_in_domain(record, name) for record in records]
    return joined


def domain_names(records: Sequence[ImageRecord]) -> list[str]:
    """Return the domain of each record, as it is in its column ``domain``.

    Args:
        records: Records of :func:`join_domains`, or of a table with a column ``domain``.

    Returns:
        A name for each record; none for no records.

    Raises:
        ValueError: If a record has no domain.
    """
    check_records("domain_names", records)
    names = [record.extra.get(_COLUMN, "") for record in records]
    if not all(names):
        first = records[names.index("")].path
        raise ValueError(
            f"domain_names: {names.count('')} of {len(records)} records have no domain ({first}, "
            "...). Join data sets with join_domains, or add a column domain to the table."
        )
    return names


def domain_numbers(records: Sequence[ImageRecord]) -> Int[Tensor, " n"]:
    """Number the domain of each record from 0, in the order of the domains' names.

    Use it for :class:`DomainPKSampler`; the names are ``sorted(set(domain_names(records)))``.

    Args:
        records: As for :func:`domain_names`.

    Returns:
        (N,) int64.

    Raises:
        ValueError: If a record has no domain.

    Example:
        >>> source = [ImageRecord("a.jpg", 1)]
        >>> domain_numbers(join_domains({"market": source, "duke": source}))
        tensor([1, 0])
    """
    names = domain_names(records)
    number_of = {name: number for number, name in enumerate(sorted(set(names)))}
    return torch.tensor([number_of[name] for name in names], dtype=torch.int64, device="cpu")


def leave_one_domain_out(
    records: Sequence[ImageRecord], domain: str, *, min_identities: int = 2
) -> list[ImageRecord]:
    """Select what trains and what tests if one domain is left out of training.

    This is the protocol of domain generalisation: the training and validation images of all other
    domains train, and the test images of the domain that is left out test. Nothing of the latter is
    trained on or validated by, and test images of the others are left out.

    Args:
        records: Records with domains and splits. A domain whose images have no splits trains with
            all of them, or tests with all of them, as the split ``test``.
        domain: Name of the domain that is left out.
        min_identities: Least number of identities that have two images or more, of each training
            domain and of the test; at least 1.

    Returns:
        The selected records in order.

    Raises:
        ValueError: If there is no such domain or no other one, or a domain has too few identities
            with two images.

    Example:
        >>> def pair(name, split):
        ...     return [ImageRecord(f"{name}{row}.jpg", row // 2, split=split) for row in range(4)]
        >>> sources = {name: pair(name, "train") + pair(name, "test") for name in ("a", "b", "c")}
        >>> chosen = leave_one_domain_out(join_domains(sources), "c")
        >>> Counter((record.extra["domain"], record.split) for record in chosen)
        Counter({('a', 'train'): 4, ('b', 'train'): 4, ('c', 'test'): 4})
    """
    owner = "leave_one_domain_out"
    check_integer(owner, "min_identities", min_identities, 1)
    names = domain_names(records)
    known = sorted(set(names))
    if domain not in known or len(known) < 2:
        raise fail(owner, "one of at least two domains", f"{domain!r} of {', '.join(known)}")

    chosen = []
    for record, name in zip(records, names, strict=True):
        default = "test" if name == domain else "train"
        wanted = _TEST_SPLITS if name == domain else _TRAINING_SPLITS
        split = record.split or default
        if split in wanted:
            chosen.append(replace(record, split=split))

    for name in known:
        _check_enough(owner, chosen, name, min_identities, trains=name != domain)
    return chosen


def _in_domain(record: ImageRecord, name: str) -> ImageRecord:
    """A record of a domain, with an identity and a camera that no other domain has."""
    if record.extra.get(_COLUMN, name) != name:
        raise fail(
            "join_domains", f"records of {name}", f"{record.path} of {record.extra[_COLUMN]!r}"
        )

    camera = None if record.camera is None else f"{name}/{record.camera}"
    return replace(
        record,
        identity=f"{name}/{record.identity}",
        camera=camera,
        extra={**record.extra, _COLUMN: name},
    )


def _check_enough(
    owner: str, chosen: Sequence[ImageRecord], name: str, least: int, *, trains: bool
) -> None:
    """Raise ValueError if too few identities of a domain have two images to compare."""
    own = [record for record in chosen if record.extra[_COLUMN] == name]
    used = [record for record in own if not trains or record.split == "train"]
    counts = Counter(record.identity for record in used)
    comparable = sum(count > 1 for count in counts.values())
    if comparable < least:
        use = "train on" if trains else "test with"
        raise ValueError(
            f"{owner}: {name} has {comparable} identities with two images or more to {use}, and "
            f"needs {least}. Leave the domain out, or add images to its splits."
        )
