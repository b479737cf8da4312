"""One interface of an encoder to towers, trained methods and other modules."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, cast, runtime_checkable

from torch import Tensor, nn

from clipreid_kit.clip import ClipBaseline, ClipReID, ClipTowers, PromptSG, TextToPerson
from clipreid_kit.clip.methods.method_card import descriptor_tensors

Prompt = Literal["composed", "simplified"]
TooLong = Literal["error", "cut", "sentence"]
Tokenizer = Callable[[list[str]], Tensor]

_OWNER = "Encoder"


@runtime_checkable
class EmbeddingModel(Protocol):
    """A model that embeds images, and perhaps texts.

    Attributes:
        module: The module that runs.
        is_unit: Whether its image embeddings have length 1 already.
    """

    module: nn.Module
    is_unit: bool

    def start(self) -> Mapping[str, Tensor]:
        """Return what is computed once for all images, as options of :meth:`embed_images`."""
        ...

    def embed_images(self, images: Tensor, options: Mapping[str, Tensor]) -> Tensor:
        """Return an embedding of each image."""
        ...

    def embed_texts(self, tokens: Tensor) -> Tensor:
        """Return an embedding of each text."""
        ...

    def tokenize(self, texts: list[str]) -> Tensor:
        """Return the tokens of some texts."""
        ...

    def text_obstacle(self) -> str | None:
        """Return why texts cannot be compared with image embeddings; ``None`` if they can."""
        ...

    def description(self) -> dict[str, Any]:
        """Return what beside the weights decides about embeddings, in JSON's types."""
        ...

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the tensors that decide about embeddings, by name."""
        ...


def embedding_model(
    model: nn.Module, tokenizer: Tokenizer | None, prompt: Prompt, too_long: TooLong
) -> EmbeddingModel:
    """Return the view of a model that an encoder works with."""
    towers = getattr(model, "towers", None)
    if isinstance(model, ClipTowers):
        return _Towers(model, too_long)
    if isinstance(towers, ClipTowers):
        return _Method(model, towers, prompt, too_long)
    return _Module(model, tokenizer)


class _Towers:
    """Towers as they are: the projected embeddings of images and texts."""

    is_unit = False

    def __init__(self, towers: ClipTowers, too_long: TooLong) -> None:
        self.module: nn.Module = towers
        self._towers = towers
        self._too_long = too_long

    def start(self) -> Mapping[str, Tensor]:
        return {}

    def embed_images(self, images: Tensor, options: Mapping[str, Tensor]) -> Tensor:
        cameras, views = options.get("cameras"), options.get("views")
        return self._towers.encode_image(images, cameras=cameras, views=views)

    def embed_texts(self, tokens: Tensor) -> Tensor:
        return self._towers.encode_text(tokens)

    def tokenize(self, texts: list[str]) -> Tensor:
        return self._towers.tokenize(texts, too_long=self._too_long)

    def text_obstacle(self) -> str | None:
        return _without_text(self._towers)

    def description(self) -> dict[str, Any]:
        return {"kind": "ClipTowers"}

    def tensors(self) -> Mapping[str, Tensor]:
        return self._towers.state_dict()


class _Method:
    """A trained method: its descriptor, and its own texts or else those of its towers."""

    is_unit = True

    def __init__(
        self, method: nn.Module, towers: ClipTowers, prompt: Prompt, too_long: TooLong
    ) -> None:
        self.module = method
        self._towers = towers
        self._prompt = prompt
        self._too_long = too_long

    def start(self) -> Mapping[str, Tensor]:
        """Encode PromptSG's simplified sentence, which is the same for all images."""
        if isinstance(self.module, PromptSG) and self._prompt == "simplified":
            return {"text": self.module.composer.encode_plain(self._towers)[:1]}
        return {}

    def embed_images(self, images: Tensor, options: Mapping[str, Tensor]) -> Tensor:
        # The forward that accelerate puts in its place computes in the precision of training.
        forward: Any = getattr(self.module, "_original_forward", self.module)
        return cast("Tensor", forward(images, **options).embedding)

    def embed_texts(self, tokens: Tensor) -> Tensor:
        if isinstance(self.module, TextToPerson):
            return self.module.encode_text(tokens)
        return self._towers.encode_text(tokens)

    def tokenize(self, texts: list[str]) -> Tensor:
        return self._towers.tokenize(texts, too_long=self._too_long)

    def text_obstacle(self) -> str | None:
        method = self.module
        if isinstance(method, ClipReID) and method.levels == "both":
            return "the descriptor of ClipReID joins two levels, and texts have one"
        if isinstance(method, PromptSG):
            return "the descriptor of PromptSG is not in the space of its texts"
        if isinstance(method, ClipReID) and method.descriptor == "post_neck":
            return "the descriptor after the neck is not in the space of the texts"

        branch = method.identity_branch if isinstance(method, ClipBaseline) else None
        is_reduced = branch is not None and branch.out_dim != self._towers.embed_dim
        if is_reduced and getattr(method, "descriptor", None) == "post_neck":
            return "the descriptor after the neck has another width than texts"
        return _without_text(self._towers)

    def description(self) -> dict[str, Any]:
        describe = getattr(self.module, "method_card", None)
        card = {"kind": _class_name(self.module)} if describe is None else dict(describe())
        if isinstance(self.module, PromptSG):
            card["prompt_of_test"] = self._prompt
        return card

    def tensors(self) -> Mapping[str, Tensor]:
        return descriptor_tensors(self.module.state_dict())


class _Module:
    """Any module: an open_clip model, or one that returns embeddings of images."""

    is_unit = False

    def __init__(self, module: nn.Module, tokenizer: Tokenizer | None) -> None:
        self.module = module
        self._tokenizer = tokenizer

    def start(self) -> Mapping[str, Tensor]:
        return {}

    def embed_images(self, images: Tensor, options: Mapping[str, Tensor]) -> Tensor:
        encode: Any = getattr(self.module, "encode_image", self.module)
        output: object = encode(images, **options)
        embeddings = output if isinstance(output, Tensor) else getattr(output, "embedding", None)
        if not isinstance(embeddings, Tensor):
            raise ValueError(
                f"{_OWNER}: the model returned a {type(output).__name__} without a tensor "
                "`embedding`. Wrap it in a module that returns embeddings (N, D)."
            )
        return embeddings

    def embed_texts(self, tokens: Tensor) -> Tensor:
        encode: Any = self.module.encode_text
        device = next(self.module.parameters()).device
        return cast("Tensor", encode(tokens.to(device)))

    def tokenize(self, texts: list[str]) -> Tensor:
        if self._tokenizer is None:
            raise ValueError(f"{_OWNER}: texts need a tokenizer. Pass tokenizer=.")
        return self._tokenizer(texts)

    def text_obstacle(self) -> str | None:
        if not hasattr(self.module, "encode_text"):
            return f"{type(self.module).__name__} has no text tower (no `encode_text`)"
        if self._tokenizer is None:
            return "no tokenizer was passed with the model (tokenizer=)"
        return None

    def description(self) -> dict[str, Any]:
        return {"kind": _class_name(self.module)}

    def tensors(self) -> Mapping[str, Tensor]:
        return self.module.state_dict()


def _without_text(towers: ClipTowers) -> str | None:
    """Return that towers are an image tower alone; ``None`` if they have a text tower."""
    return None if towers.has_text else f"{towers.name} is an image tower without a text tower"


def _class_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def check_texts(texts: Sequence[object]) -> None:
    """Raise ValueError if one of some texts is no text."""
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"{_OWNER}: text {row} is a {type(text).__name__}, not a string.")
