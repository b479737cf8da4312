"""How an index remembers its encoder, and finds it again."""

import os
from pathlib import Path
from typing import Any

from clipreid_kit.retrieval.encoding.encoder import Encoder
from clipreid_kit.retrieval.store.manifest import Manifest


def source_to_remember(encoder: Encoder, store: Path) -> dict[str, Any] | None:
    """Return where an encoder came from, with its path also as seen from the index.

    Returns:
        The source in JSON's types; ``None`` for a model that was made in memory.
    """
    if encoder.source is None:
        return None

    source = dict(encoder.source)
    if "path" in source:
        source["relative"] = os.path.relpath(source["path"], store.absolute())
    return source


def find_encoder(owner: str, store: Path, manifest: Manifest) -> Encoder:
    """Open the encoder that an index was built with.

    Raises:
        ValueError: If the index does not know it, it is not there any more, or it has changed.
    """
    if manifest.encoder is None:
        raise ValueError(
            f"{owner}: the index in {store} does not know its encoder: it was built from "
            "embeddings, or by a model in memory. Pass it: GalleryIndex.open(path, encoder=...)."
        )

    try:
        encoder = Encoder.from_source(manifest.encoder, relative_to=store.absolute())
    except ValueError as error:
        raise ValueError(
            f"{owner}: cannot open the encoder of the index in {store}. Pass it: "
            f"GalleryIndex.open(path, encoder=...). The reason: {error}"
        ) from error
    check_encoder(owner, store, manifest, encoder)
    return encoder


def check_encoder(owner: str, store: Path, manifest: Manifest, encoder: Encoder) -> None:
    """Raise ValueError if an encoder is not that of an index, as far as the index knows."""
    if manifest.fingerprint in (None, encoder.fingerprint):
        return
    raise ValueError(
        f"{owner}: the index in {store} was built by another model (fingerprint "
        f"{manifest.fingerprint}, and this encoder has {encoder.fingerprint}), so its embeddings "
        "cannot be compared. Use that model, or let this one encode all images again: "
        "index.reembed(encoder)."
    )
