"""Remember the encoder of an index, and find it again."""

import os
from pathlib import Path
from typing import Any

from clipreid_kit.retrieval.encoding.encoder import Encoder
from clipreid_kit.retrieval.engines.gallery_store import StoreFacts


def source_to_remember(encoder: Encoder, store: Path | None) -> dict[str, Any] | None:
    """Return where an encoder came from, with its path also as seen from the index.

    Args:
        encoder: The encoder.
        store: Folder or file of the index; ``None`` on a server.

    Returns:
        The source in JSON's types; ``None`` for a model that was made in memory.
    """
    if encoder.source is None:
        return None

    source = dict(encoder.source)
    if "path" in source and store is not None:
        source["relative"] = os.path.relpath(source["path"], store.absolute())
    return source


def find_encoder(owner: str, name: str, facts: StoreFacts, store: Path | None) -> Encoder:
    """Open the encoder that an index was built with.

    Args:
        owner: Name of the caller.
        name: Name of the index.
        facts: What the index knows of its embeddings.
        store: Folder or file of the index; ``None`` on a server.

    Raises:
        ValueError: If the index does not know it, it is not there any more, or it has changed.
    """
    if facts.encoder is None:
        raise ValueError(
            f"{owner}: the index in {name} does not know its encoder: it was built from "
            "embeddings, or by a model in memory. Pass it: GalleryIndex.open(path, encoder=...)."
        )

    try:
        encoder = Encoder.from_source(facts.encoder, relative_to=(store or Path()).absolute())
    except ValueError as error:
        raise ValueError(
            f"{owner}: cannot open the encoder of the index in {name}. Pass it: "
            f"GalleryIndex.open(path, encoder=...). The reason: {error}"
        ) from error
    check_encoder(owner, name, facts, encoder)
    return encoder


def check_encoder(owner: str, name: str, facts: StoreFacts, encoder: Encoder) -> None:
    """Raise ValueError if an encoder is not that of an index, as far as the index knows."""
    if facts.fingerprint in (None, encoder.fingerprint):
        return
    raise ValueError(
        f"{owner}: the index in {name} was built by another model (fingerprint "
        f"{facts.fingerprint}, and this encoder has {encoder.fingerprint}), so its embeddings "
        "cannot be compared. Use that model, or let this one encode all images again: "
        "index.reembed(encoder)."
    )
