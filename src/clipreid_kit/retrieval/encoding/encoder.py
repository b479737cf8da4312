"""Encode images and texts with any model: trained, pretrained, or of your own."""

import copy
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from clipreid_kit._checks import check_choice, check_integer
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.clip import ClipTowers, PromptSG
from clipreid_kit.clip.checkpoints.weights_fingerprint import weights_fingerprint
from clipreid_kit.data.category_index import CategoryIndex
from clipreid_kit.data.evaluation.encode_images import encode_images
from clipreid_kit.data.images.image_spec import Fit, ImageSpec
from clipreid_kit.data.images.occlusion import Occlusion
from clipreid_kit.data.images.transforms import eval_transform
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.distances import l2_normalize
from clipreid_kit.modules import TestTimeAugmentation
from clipreid_kit.retrieval.encoding.embedding_models import (
    Prompt,
    Tokenizer,
    TooLong,
    check_texts,
    embedding_model,
)
from clipreid_kit.retrieval.encoding.encoded_images import EncodedImages, SkippedImage
from clipreid_kit.retrieval.encoding.image_batches import Unreadable, image_batches
from clipreid_kit.retrieval.encoding.image_inputs import ImageInput, listed_inputs, name_of
from clipreid_kit.retrieval.encoding.open_model import (
    OpenedModel,
    open_checkpoint,
    open_name,
    spec_of,
)

OnError = Literal["raise", "skip"]
Precision = Literal["float32", "bfloat16", "float16"]

_OWNER = "Encoder"
_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@fixed_options(not_kept=("tokenizer", "too_long", "device"))
class Encoder:
    """Encode images and texts as a model was trained to: one way from a saved model to embeddings.

    Use it for a gallery, a query, an evaluation or a file of features. :meth:`open` takes a
    training run, a checkpoint, or the name of an open_clip model; the constructor takes any module
    in memory. The image size, normalisation and resizing, the numbers of the cameras, the level of
    the descriptor and the prompt are those of the training.

    Args:
        model: :class:`ClipTowers`; a method such as :class:`ClipReID`; an open_clip model; or any
            module that maps images (N, 3, H, W) to embeddings (N, D), or to an object that holds
            them as ``embedding``.
        transform: How an image becomes a tensor: an :class:`ImageSpec`, or a callable such as
            open_clip's ``preprocess``. ``None`` for towers and methods: that of the towers, with
            images stretched to their size.
        tokenizer: From texts to tokens, for a module with ``encode_text`` that is not of this
            library, such as ``open_clip.get_tokenizer(name)``.
        categories: Numbers of the cameras or views that the towers were trained with.
        prompt: Of :class:`PromptSG`: ``"composed"`` from each image, or ``"simplified"``.
        flip: Average the embeddings of an image and its mirror image.
        rotations: Angles in degrees; average the embeddings of an image turned by each.
        too_long: What happens to texts that are too long; see :meth:`ClipTowers.tokenize`.
        normalize: Whether rows have length 1.
        batch_size: Images encoded at once.
        workers: Processes that load images.
        device: Device to move the model to. ``None`` leaves it where it is.
        precision: Precision of the model's arithmetic; embeddings are float32 in any case.
        progress: Whether to show a progress bar. ``None`` shows it in a terminal.
        source: Where the model came from, in JSON's types, kept by an index.

    Raises:
        ValueError: If there is no transform for a module, or an option is unknown.

    Example:
        >>> import numpy as np
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32))
        >>> encoder = Encoder(towers)
        >>> images = [np.zeros((50, 20, 3), dtype=np.uint8), Image.new("RGB", (20, 50), "red")]
        >>> encoder.encode_images(images).shape, encoder.encode_texts("a red coat").shape
        (torch.Size([2, 128]), torch.Size([1, 128]))
        >>> Encoder(towers, flip=True).fingerprint == encoder.fingerprint
        False
    """

    transform: Final[ImageSpec | Callable[[Image.Image], Tensor]]
    categories: Final[tuple[CategoryIndex, ...]]
    prompt: Final[Prompt]
    flip: Final[bool]
    rotations: Final[tuple[float, ...]]

    def __init__(
        self,
        model: nn.Module,
        transform: ImageSpec | Callable[[Image.Image], Tensor] | None = None,
        *,
        tokenizer: Tokenizer | None = None,
        categories: Sequence[CategoryIndex] = (),
        prompt: Prompt = "composed",
        flip: bool = False,
        rotations: Sequence[float] = (0.0,),
        too_long: TooLong = "sentence",
        normalize: bool = True,
        batch_size: int = 64,
        workers: int = 0,
        device: torch.device | str | None = None,
        precision: Precision = "float32",
        progress: bool | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> None:
        check_choice(_OWNER, "prompt", prompt, ("composed", "simplified"))
        check_choice(_OWNER, "precision", precision, ("float32", *_AUTOCAST))
        check_integer(_OWNER, "batch_size", batch_size, 1)
        check_integer(_OWNER, "workers", workers, 0)
        if len(rotations) == 0:
            raise ValueError(f"{_OWNER}: rotations is empty; (0.0,) is the image as it is.")

        self._model = embedding_model(model, tokenizer, prompt, too_long)
        self.transform = _transform_of(model, transform)
        self.categories = tuple(categories)
        self.prompt: Prompt = prompt
        self.flip = flip
        self.rotations = tuple(rotations)
        self.normalize = normalize
        self.batch_size = batch_size
        self.workers = workers
        self.precision: Precision = precision
        self.progress = progress
        self.source = None if source is None else dict(source)
        self._occlusion: Occlusion | None = None
        self._fingerprint: str | None = None
        if device is not None:
            model.to(device)

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str],
        *,
        checkpoint: str = "best",
        towers_only: bool = False,
        towers: ClipTowers | None = None,
        prompt: Prompt | None = None,
        batch_size: int = 64,
        workers: int = 0,
        device: torch.device | str | None = None,
        precision: Precision = "float32",
        progress: bool | None = None,
    ) -> "Encoder":
        """Open a saved model.

        Args:
            source: A training run, one of its checkpoints, a folder of :func:`save_towers`, or
                ``NAME:TAG`` of open_clip, such as ``ViT-B-16:openai``; of timm or torchvision, as
                ``timm/NAME:TAG``. ``NAME:random`` has random weights.
            checkpoint: Of a run: ``"best"``, ``"last"``, or a name such as ``"epoch-0003"``.
            towers_only: Use the towers of a method without the rest of it.
            towers: Towers that a run kept frozen, if its checkpoint cannot say which.
            prompt: Of :class:`PromptSG`. ``None`` for that of the run.
            batch_size: As for the class.
            workers: As for the class.
            device: As for the class; ``None`` takes a GPU if there is one.
            precision: As for the class.
            progress: As for the class.

        Raises:
            ValueError: If there is no such model, the checkpoint is damaged, or its method cannot
                be built from its card. A method is never encoded by less than all of it, unless
                ``towers_only`` asks for that.

        Example:
            >>> Encoder.open("reid-tiny-vit:random").encode_texts(["a cup"]).shape
            torch.Size([1, 128])
        """
        path = Path(source)
        name, _, tag = os.fspath(source).rpartition(":")
        if name and not path.exists():
            if towers_only or checkpoint != "best":
                raise ValueError(f"Encoder.open: {source} has no checkpoints and is towers alone.")
            opened = open_name(name, tag, {})
        else:
            opened = open_checkpoint(path, checkpoint, towers_only=towers_only, towers=towers)

        return cls._of_opened(
            opened,
            prompt=prompt,
            batch_size=batch_size,
            workers=workers,
            device=device,
            precision=precision,
            progress=progress,
        )

    @classmethod
    def from_open_clip(
        cls,
        name: str,
        pretrained: str | None,
        *,
        image_size: tuple[int, int] | None = None,
        fit: Fit = "stretch",
        batch_size: int = 64,
        workers: int = 0,
        device: torch.device | str | None = None,
        precision: Precision = "float32",
        progress: bool | None = None,
    ) -> "Encoder":
        """Build an encoder from a model of open_clip.

        Args:
            name: Name of the model.
            pretrained: Its tag, or a file; ``None`` for random weights.
            image_size: (height, width); ``None`` for the native size.
            fit: How images get that size: ``"stretch"`` shows all of a person, ``"crop"`` is what
                most of these models were trained with.
            batch_size: As for the class.
            workers: As for the class.
            device: As for the class; ``None`` takes a GPU if there is one.
            precision: As for the class.
            progress: As for the class.

        Raises:
            ValueError: If there is no such model.

        Example:
            >>> encoder = Encoder.from_open_clip("reid-tiny-vit", None, image_size=(64, 32))
            >>> encoder.source["name"], encoder.transform.image_size
            ('reid-tiny-vit', (64, 32))
        """
        options: dict[str, Any] = {}
        if image_size is not None:
            options["image_size"] = list(image_size)
        if fit != "stretch":
            options["fit"] = fit
        return cls._of_opened(
            open_name(name, pretrained, options),
            batch_size=batch_size,
            workers=workers,
            device=device,
            precision=precision,
            progress=progress,
        )

    @classmethod
    def from_source(
        cls, source: Mapping[str, Any], *, relative_to: Path | None = None
    ) -> "Encoder":
        """Open the model that an index remembers.

        Args:
            source: The attribute ``source`` of an encoder, perhaps written to JSON and read again.
            relative_to: A folder; a run that was moved together with it is found there.

        Raises:
            ValueError: If the model is not there any more, or the source is damaged.
        """
        try:
            opened = _open_source(source, relative_to)
            prompt = source.get("prompt")
        except (KeyError, TypeError, AttributeError):
            raise ValueError(f"Encoder.from_source: {source} is no source of an encoder.") from None
        return cls._of_opened(opened, prompt=prompt)

    @classmethod
    def _of_opened(
        cls,
        opened: OpenedModel,
        *,
        prompt: Prompt | None = None,
        batch_size: int = 64,
        workers: int = 0,
        device: torch.device | str | None = None,
        precision: Precision = "float32",
        progress: bool | None = None,
    ) -> "Encoder":
        encoding, source = opened.encoding, dict(opened.source)

        if prompt is not None and not isinstance(opened.model, PromptSG):
            kind = type(opened.model).__name__
            raise ValueError(f"Encoder.open: {kind} has no prompt; prompt= is of PromptSG.")
        if prompt is not None:
            source["prompt"] = prompt
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"

        return cls(
            opened.model,
            opened.spec,
            categories=opened.categories,
            prompt=prompt or encoding["prompt"],
            flip=encoding["flip"],
            rotations=encoding["rotations"],
            too_long=encoding["too_long"],
            batch_size=batch_size,
            workers=workers,
            device=device,
            precision=precision,
            progress=progress,
            source=source,
        )

    def __repr__(self) -> str:
        """Show the model and its fingerprint."""
        return f"Encoder({type(self.model).__name__}, fingerprint={self.fingerprint!r})"

    @property
    def model(self) -> nn.Module:
        """The module that encodes."""
        return self._model.module

    @property
    def fingerprint(self) -> str:
        """Names the weights and all that decides about embeddings, in 32 hexadecimal digits.

        Equal for a model in memory and the same one saved and opened, on any device; the batch
        size and the precision have no part in it. It is computed once, when it is first read.
        """
        if self._fingerprint is None:
            facts = {
                "weights": weights_fingerprint(self._model.tensors()),
                "model": self._model.description(),
                "transform": _describe_transform(self.transform),
                "categories": {index.field: list(index.known) for index in self.categories},
                "flip": self.flip,
                "rotations": list(self.rotations),
            }
            if self._occlusion is not None:
                facts["occlusion"] = repr(self._occlusion)
            text = json.dumps(facts, sort_keys=True)
            self._fingerprint = hashlib.sha256(text.encode()).hexdigest()[:32]
        return self._fingerprint

    @property
    def has_text(self) -> bool:
        """Whether texts can be encoded and compared with images."""
        return self._model.text_obstacle() is None

    def occluded(self, occlusion: Occlusion) -> "Encoder":
        """Return an encoder of the same model that sees images behind occluders.

        Use it to test a model under occlusion: encode the queries with it, and the gallery with the
        encoder itself.

        Args:
            occlusion: What hides a part of every image that is read, before it is turned or
                resized.

        Returns:
            A second encoder, which shares the model. It has no ``source``: an index of occluded
            images cannot be opened with an encoder that sees them whole.

        Example:
            >>> from clipreid_kit.data import Occlusion
            >>> encoder = Encoder(ClipTowers.from_open_clip("reid-tiny-vit"))
            >>> image = Image.new("RGB", (32, 64), "red")
            >>> hidden = encoder.occluded(Occlusion("bottom", 0.5)).encode_images(image)
            >>> torch.equal(hidden, encoder.encode_images(image))
            False
        """
        encoder = copy.copy(self)
        encoder._occlusion = occlusion  # noqa: SLF001 (of this class)
        encoder._fingerprint = None  # noqa: SLF001
        encoder.source = None
        return encoder

    def encode_images(
        self, images: ImageInput | Iterable[ImageInput] | DataLoader[Any]
    ) -> Float[Tensor, "n d"]:
        """Encode images.

        Args:
            images: One or several: paths (also ``archive.zip::member``), records, PIL images,
                uint8 arrays (H, W, 3) or (H, W), uint8 tensors (3, H, W). Or a ``DataLoader`` of
                images that are transformed already, such as that of a :class:`ReidDataset`.

        Returns:
            (N, D) in float32 on the CPU, of length 1 unless ``normalize`` is false. No images are
            an error, as D is not known without one.

        Raises:
            ValueError: If there is no image, or one cannot be read; see :meth:`encode_records` for
                sets with damaged images.
        """
        if isinstance(images, DataLoader):
            return self._encode_loader(images)

        embeddings, unreadable = self._encode(listed_inputs(images))
        if unreadable:
            raise ValueError(unreadable[0].reason)
        return embeddings

    def encode_records(
        self, records: Sequence[ImageRecord], *, on_error: OnError = "raise"
    ) -> EncodedImages:
        """Encode the images of records.

        Args:
            records: The records.
            on_error: ``"raise"`` stops at an image that cannot be read; ``"skip"`` leaves it out
                and names it in the result.

        Raises:
            ValueError: If an image cannot be read, or none can.
        """
        check_choice(_OWNER, "on_error", on_error, ("raise", "skip"))
        embeddings, unreadable = self._encode(list(records), stop=on_error == "raise")
        if unreadable and on_error == "raise":
            raise ValueError(unreadable[0].reason)

        left_out = {item.row for item in unreadable}
        rows = [row for row in range(len(records)) if row not in left_out]
        kept = [records[row] for row in rows]
        skipped = [
            SkippedImage(name_of(records[item.row], item.row), item.reason) for item in unreadable
        ]
        return EncodedImages(embeddings, kept, rows, skipped)

    @torch.no_grad()
    def encode_texts(self, texts: str | Sequence[str]) -> Float[Tensor, "n d"]:
        """Encode texts, to be compared with images.

        Args:
            texts: One or several.

        Returns:
            (N, D) in float32 on the CPU, of length 1 unless ``normalize`` is false.

        Raises:
            ValueError: If there is no text, or the model has no text tower whose embeddings can be
                compared with those of its images.
        """
        listed = [texts] if isinstance(texts, str) else list(texts)
        check_texts(listed)
        if not listed:
            raise ValueError(f"{_OWNER}.encode_texts: there are no texts. Pass at least one.")

        obstacle = self._model.text_obstacle()
        if obstacle is not None:
            raise ValueError(
                f"{_OWNER}.encode_texts: texts cannot be compared with these images: {obstacle}. "
                "Search by image, or use a model with a text tower."
            )

        tokens = self._model.tokenize(listed)
        with _evaluation(self.model), self._autocast():
            parts = [
                self._model.embed_texts(part).float().cpu()
                for part in torch.split(tokens, self.batch_size)
            ]
        embeddings = torch.cat(parts)
        return l2_normalize(embeddings) if self.normalize else embeddings

    @torch.no_grad()
    def _encode(
        self, images: Sequence[ImageInput], *, stop: bool = True
    ) -> tuple[Tensor, list[Unreadable]]:
        """Encode images; return the embeddings of those that can be read, and the others.

        Args:
            images: The images.
            stop: Whether to return at the first image that cannot be read.
        """
        if not images:
            raise ValueError(f"{_OWNER}: there are no images. Pass at least one.")

        disable = None if self.progress is None else not self.progress
        total = len(images) * len(self.rotations)
        with (
            _evaluation(self.model),
            self._autocast(),
            tqdm(total=total, desc="encode", unit="images", leave=False, disable=disable) as bar,
        ):
            views: list[Tensor] = []
            unreadable: list[Unreadable] = []
            for angle in self.rotations:
                view, unreadable = self._view(images, angle, bar.update, stop=stop)
                if unreadable and stop:
                    return torch.empty(0, 0, device="cpu"), unreadable
                views.append(view)

        embeddings = self._joined(views)
        _check_finite(embeddings, images)
        return embeddings, unreadable

    def _view(
        self,
        images: Sequence[ImageInput],
        angle: float,
        progress: Callable[[int], object],
        *,
        stop: bool,
    ) -> tuple[Tensor, list[Unreadable]]:
        """Encode images turned by an angle."""
        numbers = self._category_numbers(images)
        once = self._model.start()
        parts: list[Tensor] = []
        unreadable: list[Unreadable] = []

        batches = image_batches(
            images,
            self._tensor_transform(),
            angle=angle,
            fill=self.transform.fill if isinstance(self.transform, ImageSpec) else 0,
            batch_size=self.batch_size,
            workers=self.workers,
            occlusion=self._occlusion,
        )
        for batch in batches:
            unreadable += batch.unreadable
            if unreadable and stop:
                break
            if batch.images is not None:
                own = {name: column[batch.rows] for name, column in numbers.items()}
                parts.append(self._embed(batch.images, {**own, **once}))
            progress(len(batch.rows) + len(batch.unreadable))

        if not parts and not stop:
            raise ValueError(
                f"{_OWNER}: none of {len(images)} images can be read; the first: "
                f"{unreadable[0].reason}"
            )
        return torch.cat(parts) if parts else torch.empty(0, 0, device="cpu"), unreadable

    def _embed(self, images: Tensor, options: Mapping[str, Tensor]) -> Tensor:
        """Embed a batch, in float32 on the CPU."""
        images = images.to(self._device(), non_blocking=True)
        encode: Callable[[Tensor], Tensor] = partial(self._model.embed_images, options=options)
        if self.flip:
            encode = TestTimeAugmentation(encode)

        embeddings = encode(images)
        if embeddings.ndim != 2 or len(embeddings) != len(images):
            raise ValueError(
                f"{_OWNER}: the model returned shape {tuple(embeddings.shape)} for {len(images)} "
                "images. It has to return embeddings (N, D), one row for each image."
            )
        return embeddings.float().cpu()

    @torch.no_grad()
    def _encode_loader(self, loader: DataLoader[Any]) -> Tensor:
        """Encode batches of a loader, whose images are transformed already."""
        with _evaluation(self.model), self._autocast():
            embed = partial(self._embed, options=self._model.start())
            return self._joined([encode_images(embed, loader, normalize=False)])

    def _joined(self, views: Sequence[Tensor]) -> Tensor:
        """Average the views of images, and scale rows to length 1."""
        if len(views) > 1:
            mean = torch.stack([l2_normalize(view) for view in views]).mean(dim=0)
            return l2_normalize(mean) if self.normalize else mean

        is_unit = self._model.is_unit or self.flip
        return l2_normalize(views[0]) if self.normalize and not is_unit else views[0]

    def _category_numbers(self, images: Sequence[ImageInput]) -> dict[str, Tensor]:
        """Return the numbers of the images' cameras and views; -1 where they are unknown."""
        columns = {}
        for index in self.categories:
            unknown = ImageRecord("", 0)
            records = [image if isinstance(image, ImageRecord) else unknown for image in images]
            columns[f"{index.field}s"] = index.of(records)
        return columns

    def _tensor_transform(self) -> Callable[[Image.Image], Tensor]:
        if isinstance(self.transform, ImageSpec):
            return eval_transform(self.transform)
        return self.transform

    def _device(self) -> torch.device:
        first = next(self.model.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def _autocast(self) -> Any:  # noqa: ANN401 (a context manager)
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self._device().type, dtype=_AUTOCAST[self.precision])


def _open_source(source: Mapping[str, Any], relative_to: Path | None) -> OpenedModel:
    """Open the model of a source."""
    if source["kind"] == "name":
        options = {name: source[name] for name in ("image_size", "fit") if name in source}
        return open_name(source["name"], source["pretrained"], options)
    if source["kind"] != "checkpoint":
        raise KeyError("kind")

    path = Path(source["path"])
    if not path.exists() and relative_to is not None and "relative" in source:
        path = relative_to / source["relative"]
    only = bool(source.get("towers_only"))
    return open_checkpoint(path, "best", towers_only=only, towers=None)


def _transform_of(
    model: nn.Module, transform: ImageSpec | Callable[[Image.Image], Tensor] | None
) -> ImageSpec | Callable[[Image.Image], Tensor]:
    """Return the transform of a model; that of its towers if none is given."""
    if transform is not None:
        return transform

    towers = model if isinstance(model, ClipTowers) else getattr(model, "towers", None)
    if not isinstance(towers, ClipTowers):
        raise ValueError(
            f"{_OWNER}: pass a transform for {type(model).__name__}: an ImageSpec, or a function "
            "from a PIL image to a tensor, as the model was trained with."
        )
    return spec_of(towers)


def _describe_transform(transform: ImageSpec | Callable[[Image.Image], Tensor]) -> object:
    """Describe a transform by what decides about its result, equally in every process."""
    if isinstance(transform, ImageSpec):
        values = transform.as_dict()
        del values["train_interpolation"]
        return values

    text = repr(transform)
    if " at 0x" in text:
        name = getattr(transform, "__qualname__", type(transform).__qualname__)
        return f"{transform.__module__}.{name}"
    return text


def _check_finite(embeddings: Tensor, images: Sequence[ImageInput]) -> None:
    """Raise ValueError if an embedding holds NaN or infinity."""
    broken = (~embeddings.isfinite().all(dim=1)).nonzero().flatten()
    if len(broken):
        row = int(broken[0])
        raise ValueError(
            f"{_OWNER}: {len(broken)} embeddings hold NaN or infinity, the first that of "
            f"{name_of(images[row], row)}. Check the weights and the precision."
        )


@contextmanager
def _evaluation(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode, then each of its parts back into its own mode."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
