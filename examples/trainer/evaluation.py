"""Evaluate embeddings by every protocol, with the library's evaluators."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, product
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from clipreid_kit import (
    CUHK03Protocol,
    InShopProtocol,
    KReciprocalReranker,
    Market1501Protocol,
    SplitResults,
    TextToPersonProtocol,
    evaluate_reid,
    evaluate_retrieval,
)
from clipreid_kit.data import ImageRecord, Occlusion, captions_of, evaluation_ids
from clipreid_kit.reports import Evaluation, Result, occlusion_task
from clipreid_kit.retrieval import Encoder
from examples.settings.base_recipes import Recipe
from examples.settings.benchmarks import SysuMM01
from examples.settings.evaluate import Evaluate
from examples.trainer import cross_modality
from examples.trainer.records import Sides, Tests, records_of_sides
from examples.trainer.tracklets import tracklet_tests

_BY_CAPTIONS = "text_to_person"

Embed = Callable[[Sequence[ImageRecord]], Tensor]
Embeds = tuple[Embed, Embed]  # of queries and of galleries


@dataclass(frozen=True)
class Scoring:
    """Options by which embeddings are compared.

    Attributes:
        options: Distance, camera rule and re-ranking.
        texts: Whether captions are compared with images.
        both_directions: Whether images are also queries for captions.
        seed: Of the draws of a protocol.
        across: Column that a query and its matches differ in, in every protocol; ``None`` where the
            protocol decides.
        fixed_draws: Galleries of SYSU-MM01 that come with the set.
    """

    options: Evaluate
    texts: bool
    both_directions: bool
    seed: int
    across: cross_modality.Column | None = None
    fixed_draws: Any = None

    @property
    def cameras(self) -> Literal[False] | None:
        """``None`` leaves out images of the query's identity and camera where these are known."""
        return None if self.options.cameras else False

    def similarity(self, *, rerank: bool) -> dict[str, Any]:
        """Comparison of a protocol: by a distance, or re-ranked."""
        if not rerank:
            return {"distance": self.options.distance}

        reranker = partial(
            KReciprocalReranker,
            k1=self.options.rerank_k1,
            k2=self.options.rerank_k2,
            lambda_value=self.options.rerank_lambda,
        )
        return {"rerank": reranker}

    def evaluator(self, protocol: str, *, by_camera: bool, rerank: bool) -> Any:  # noqa: ANN401 (a protocol)
        """The evaluator of a protocol with queries and a gallery."""
        similarity = self.similarity(rerank=rerank)
        if protocol != "single_shot":
            if by_camera:
                return Market1501Protocol(junk_ids=(), **similarity)
            return InShopProtocol(**similarity)

        if not by_camera:
            raise ValueError(
                "evaluate.protocols: single_shot needs cameras. Add them to the data, and leave "
                "evaluate.cameras at true."
            )
        return CUHK03Protocol(seed=self.seed, **similarity)


def scoring_of(recipe: Recipe) -> Scoring:
    """Options by which a recipe compares embeddings."""
    both_directions = recipe.stage == "retrieval"
    fixed_draws = None
    if isinstance(recipe.data, SysuMM01) and recipe.data.trial_identities is None:
        fixed_draws = recipe.data.fixed_draws()
    return Scoring(
        recipe.evaluate,
        recipe.compares_texts(),
        both_directions,
        recipe.seed,
        fixed_draws=fixed_draws,
    )


def evaluate(
    encoder: Encoder, tests: Tests, scoring: Scoring, *, occludes: bool = False
) -> Evaluation:
    """Evaluate image to image by every protocol, and between modalities where images have captions.

    With the protocol ``text_to_person`` every caption is a query, and otherwise those that the
    recipe asks for.

    Every image is encoded once, whatever the number of protocols and splits; and once more behind
    each occluder of the recipe. Where the recipe evaluates tracklets, each takes the place of an
    image.

    Args:
        encoder: Encodes images and captions.
        tests: Queries and galleries of every protocol.
        scoring: How embeddings are compared.
        occludes: Whether to add the results under occlusion that the recipe asks for.
    """
    tests, embed = _embedded(encoder, tests, scoring.options)

    results: dict[str, Result] = {}
    for protocol, sides in tests.items():
        if protocol != _BY_CAPTIONS:
            results |= _image_to_image(protocol, sides, embed, scoring)
    if occludes:
        results |= _under_occlusion(encoder, tests, embed, scoring)

    first = next(iter(tests.values()))[0]
    columns = evaluation_ids(*first, cameras=scoring.cameras)
    query, gallery = first[0], first[1] or first[0]

    captions = _captions(query, scoring.options, every=_BY_CAPTIONS in tests)
    texts = None
    if captions and scoring.texts:
        texts = encoder.encode_texts([caption for _, caption in captions])
        identities = [identity for identity, _ in captions]
        results |= _between_modalities(texts, identities, embed(gallery), gallery, scoring)

    return Evaluation(
        results=results,
        query=query,
        gallery=gallery,
        query_embeddings=embed(query),
        gallery_embeddings=embed(gallery),
        text_embeddings=texts,
        captions=captions,
        camera_rule="query_cameras" in columns,
    )


def _captions(
    query: Sequence[ImageRecord], options: Evaluate, *, every: bool
) -> list[tuple[int | str, str]]:
    """Identity and text of each caption to search by."""
    if every:
        return [(record.identity, text) for record in query for text in captions_of(record)]

    captioned = [(record.identity, record.caption) for record in query if record.caption]
    if options.captions == "all":
        return list(dict.fromkeys(captioned))

    first_of = dict(reversed(captioned))
    return list(first_of.items())


def _embedded(encoder: Encoder, tests: Tests, options: Evaluate) -> tuple[Tests, Embed]:
    """The tests, of images or of tracklets, and a lookup of the embeddings of their records."""
    if options.tracklets == "none":
        return tests, _embed_once(encoder, tests)

    arranged = tracklet_tests(tests, options)
    embedding_of = arranged.embed(encoder)

    def embed(records: Sequence[ImageRecord]) -> Tensor:
        return torch.stack([embedding_of[record.path] for record in records])

    return arranged.tests, embed


def _embed_once(encoder: Encoder, tests: Tests) -> Embed:
    """Encode all images of some tests, and return a lookup of the embeddings of records."""
    records = records_of_sides(chain.from_iterable(tests.values()))
    images = {record.path: record for record in records}
    embeddings = encoder.encode_images(list(images.values()))
    rows = {path: row for row, path in enumerate(images)}

    def embed(records: Sequence[ImageRecord]) -> Tensor:
        return embeddings[[rows[record.path] for record in records]]

    return embed


def _under_occlusion(
    encoder: Encoder, tests: Tests, embed: Embed, scoring: Scoring
) -> dict[str, Result]:
    """Results of every protocol for each kind and share of occluders."""
    options = scoring.options
    images = {protocol: sides for protocol, sides in tests.items() if protocol != _BY_CAPTIONS}
    paths: set[str] = set()
    for query, _ in chain.from_iterable(images.values()):
        paths.update(record.path for record in query)

    results: dict[str, Result] = {}
    for kind, share in product(options.occlusion, options.occlusion_shares):
        others = sorted(paths) if kind == "patch" else ()
        occlusion = Occlusion(kind, share, options.occlusion_seed, images=others)
        hidden = _embed_once(encoder.occluded(occlusion), images)
        seen = hidden if options.occlusion_sides == "both" else embed

        for protocol, sides in images.items():
            name = f"{_task(protocol)}.{occlusion_task(kind, share)}"
            results[name] = _of_splits(protocol, sides, (hidden, seen), scoring)
    return results


def _task(protocol: str) -> str:
    """Name of the task of an image-to-image protocol."""
    is_usual = protocol in ("query_gallery", "leave_one_out")
    return "image_to_image" if is_usual else f"image_to_image.{protocol}"


def _image_to_image(
    protocol: str, sides: list[Sides], embed: Embed, scoring: Scoring
) -> dict[str, Result]:
    """Results of one protocol, and of its re-ranking; empty if no identity has two images."""
    query, gallery = sides[0]
    if gallery is None and len({record.identity for record in query}) == len(query):
        return {}

    name = _task(protocol)
    if scoring.across or protocol in cross_modality.PROTOCOLS:
        results = _across_modalities(name, protocol, sides[0], embed, scoring)
        for width in scoring.options.widths:
            first = _first_entries(embed, width)
            narrow = _across_modalities(name, protocol, sides[0], first, scoring)
            results |= {f"{found}.first_{width}": result for found, result in narrow.items()}
        return results

    embeds = embed, embed
    results = {name: _of_splits(protocol, sides, embeds, scoring)}
    for width in scoring.options.widths:
        first = _first_entries(embed, width)
        results[f"{name}.first_{width}"] = _of_splits(protocol, sides, (first, first), scoring)
    if scoring.options.rerank and gallery is not None:
        results[f"{name}.rerank"] = _of_splits(protocol, sides, embeds, scoring, rerank=True)
    return results


def _across_modalities(
    name: str, protocol: str, sides: Sides, embed: Embed, scoring: Scoring
) -> dict[str, Result]:
    """Results of a protocol across modalities or views, and of its re-ranking."""
    column = scoring.across or cross_modality.COLUMNS.get(protocol)
    if column is not None:
        return _across_column(name, column, sides, embed, scoring)

    query, gallery = sides
    options = scoring.similarity(rerank=False)
    options |= {"num_splits": scoring.options.num_splits, "seed": scoring.seed}
    if protocol == "llcm":
        found = cross_modality.llcm(query, embed, options)
        return {f"{name}.{direction}": result for direction, result in found.items()}

    result = cross_modality.sysu_mm01(
        protocol, query, gallery or [], embed, fixed=scoring.fixed_draws, options=options
    )
    return {name: result}


def _across_column(
    name: str, column: cross_modality.Column, sides: Sides, embed: Embed, scoring: Scoring
) -> dict[str, Result]:
    """Results where a query and its matches differ in a column, and those of the re-ranking."""
    query, gallery = sides
    rerank_is_due = scoring.options.rerank and gallery is not None

    results = {}
    for rerank in (False, True) if rerank_is_due else (False,):
        found = cross_modality.across(
            query,
            gallery,
            embed,
            column,
            by_camera=scoring.options.cameras,
            options=scoring.similarity(rerank=rerank) | {"same": scoring.options.same},
        )
        suffix = ".rerank" if rerank else ""
        for direction, result in found.items():
            task = f"{name}.{direction}" if direction else name
            results[task + suffix] = result
    return results


def _first_entries(embed: Embed, width: int) -> Embed:
    """Embeddings cut to their first entries."""

    def embed_narrowly(records: Sequence[ImageRecord]) -> Tensor:
        return _cut_to_width(embed(records), width)

    return embed_narrowly


def _cut_to_width(embeddings: Tensor, width: int) -> Tensor:
    """The first entries of embeddings, which have at least as many."""
    if width > embeddings.shape[1]:
        raise ValueError(
            f"evaluate.widths: the embeddings have a width of {embeddings.shape[1]}; name smaller "
            f"ones than {width}."
        )
    return embeddings[:, :width]


def _of_splits(
    protocol: str, sides: list[Sides], embeds: Embeds, scoring: Scoring, *, rerank: bool = False
) -> Result:
    """The result of one pair of query and gallery, or the results of several."""
    results = [_of_pair(protocol, pair, embeds, scoring, rerank=rerank) for pair in sides]
    return SplitResults(tuple(results), protocol) if len(results) > 1 else results[0]  # type: ignore[arg-type]


def _of_pair(
    protocol: str, pair: Sides, embeds: Embeds, scoring: Scoring, *, rerank: bool
) -> Result:
    query, gallery = pair
    embed_query, embed_gallery = embeds
    columns: dict[str, Any] = evaluation_ids(query, gallery, cameras=scoring.cameras)
    if gallery is None:
        return evaluate_reid(embed_query(query), distance=scoring.options.distance, **columns)

    by_camera = "query_cameras" in columns
    evaluator = scoring.evaluator(protocol, by_camera=by_camera, rerank=rerank)
    result: Result = evaluator.evaluate(embed_query(query), embed_gallery(gallery), **columns)
    return result


def _between_modalities(
    texts: Tensor,
    identities: list[int | str],
    images: Tensor,
    gallery: Sequence[ImageRecord],
    scoring: Scoring,
) -> dict[str, Result]:
    """Results between captions and images: a query matches all of its identity.

    They are computed at the full width, and at those of the recipe.
    """
    text_ids = np.array(identities)
    image_ids = np.array([record.identity for record in gallery])

    embeddings = {"": (texts, images)}
    for width in scoring.options.widths:
        narrow = _cut_to_width(texts, width), _cut_to_width(images, width)
        embeddings[f".first_{width}"] = narrow

    results: dict[str, Result] = {}
    for suffix, (text_rows, image_rows) in embeddings.items():
        results[f"text_to_image{suffix}"] = TextToPersonProtocol().evaluate(
            text_rows, image_rows, text_ids=text_ids, image_ids=image_ids
        )
        if scoring.both_directions:
            results[f"text_to_image.retrieval{suffix}"] = evaluate_retrieval(
                text_rows, image_rows, query_ids=text_ids, gallery_ids=image_ids
            )
            results[f"image_to_text.retrieval{suffix}"] = evaluate_retrieval(
                image_rows, text_rows, query_ids=image_ids, gallery_ids=text_ids
            )
    return results
