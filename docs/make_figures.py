"""Draw the ranked lists of the home page: ``python docs/make_figures.py runs/quickstart``.

The run is one of ``make quickstart``; the figure shows its test identities.
"""

import json
import sys
from pathlib import Path

import torch

from clipreid_kit.clip import ClipTowers, load_towers
from clipreid_kit.data import ImageRecord, eval_transform, load_image, read_csv, records_of
from clipreid_kit.distances import cosine_similarity
from clipreid_kit.viz import ranked_list_figure

TARGET = Path(__file__).parent / "images" / "ranked_lists.png"
IMAGE_QUERIES = (12, 164, 388)
TEXT_QUERIES = (82,)
NUM_SHOWN = 7


def main(run: Path) -> None:
    """Rank the gallery of a finished run for a few images and sentences."""
    checkpoints = run / "checkpoints"
    best = json.loads((checkpoints / "index.json").read_text(encoding="utf-8"))["best"]
    towers = load_towers(checkpoints / best).eval()

    records = read_csv(run / "data" / "records.csv")
    query, gallery = records_of(records, "query"), records_of(records, "gallery")

    image_queries = [query[row] for row in IMAGE_QUERIES]
    text_queries = [query[row] for row in TEXT_QUERIES]

    with torch.no_grad():
        gallery_embeddings = encode(towers, gallery)
        tokens = towers.tokenize([record.caption or "" for record in text_queries])
        queries = torch.cat([encode(towers, image_queries), towers.encode_text(tokens)])

    similarities = cosine_similarity(queries, gallery_embeddings)

    found, matches = [], []
    for record, row, is_text in zip(
        [*image_queries, *text_queries],
        similarities,
        [False] * len(image_queries) + [True] * len(text_queries),
        strict=True,
    ):
        order = row.argsort(descending=True).tolist()
        ranked = [gallery[place] for place in order]
        if not is_text:
            ranked = [other for other in ranked if not is_own_camera(record, other)]

        found.append([load_image(other.path) for other in ranked[:NUM_SHOWN]])
        matches.append([other.identity == record.identity for other in ranked[:NUM_SHOWN]])

    shown = [load_image(record.path) for record in image_queries]
    sentences = [record.caption or "" for record in text_queries]
    figure = ranked_list_figure([*shown, *sentences], found, matches, max_columns=NUM_SHOWN)
    figure.savefig(TARGET, dpi=100)


def encode(towers: ClipTowers, records: list[ImageRecord]) -> torch.Tensor:
    """Embed the images of records."""
    transform = eval_transform(towers.image_size)
    batches = [
        torch.stack([transform(load_image(record.path)) for record in records[start : start + 64]])
        for start in range(0, len(records), 64)
    ]
    return torch.cat([towers.encode_image(images) for images in batches])


def is_own_camera(query: ImageRecord, other: ImageRecord) -> bool:
    """Whether the camera rule leaves a gallery image out of a query's ranking."""
    return other.identity == query.identity and other.camera == query.camera


if __name__ == "__main__":
    main(Path(sys.argv[1]))
