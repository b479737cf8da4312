"""Learned prompts of identities: the first stage of CLIP-ReID, for any object and any tower."""

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import (
    check_at_least,
    check_embeddings,
    check_integer,
    check_label_range,
    check_labels,
    check_seed,
    describe,
    fail,
)
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.clip.prompts.templates import Fields, PromptEmbeddings, PromptTemplates
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers
from clipreid_kit.distances import l2_normalize

_OWNER = "IdentityPromptLearner"


@fixed_options(
    not_kept=(
        "template",
        "fields",
        "num_tokens",
        "num_shared_tokens",
        "num_camera_tokens",
        "num_modality_tokens",
        "first_words",
        "std",
        "seed",
    )
)
class IdentityPromptLearner(nn.Module):
    r"""Learned words that describe an identity, inside a sentence; holds these words alone.

    Use it to learn a text for each identity, with :class:`ClipReIDPromptStage` or a training loop
    of yours. The prompt of CLIP-ReID, "A photo of a [X]_1 [X]_2 [X]_3 [X]_4 person.", has
    ``num_tokens=4``. The learned words are, in this order: those that all identities share, those
    of the camera, those of the modality, those of the identity.

    Args:
        towers: The model whose tokenizer and word width to use. It is not kept, and is not part of
            the state dict.
        num_identities: Number of identities, at least 1; they are labelled from 0.
        template: A sentence with ``{tokens}`` exactly once, as a word of its own, in place of the
            learned words. With several sentences the text embedding of an identity is the mean over
            all of them.
        fields: Words for other placeholders of the templates, such as ``{"noun": "hand"}``.
        num_tokens: Number of learned words of each identity, at least 0; 4 in CLIP-ReID.
        num_shared_tokens: Number of learned words that all identities share, at least 0 (CoOp).
        num_cameras: Number of cameras with their own learned words; 0 for none.
        num_camera_tokens: Number of learned words of each camera, at least 1; only with cameras.
        num_modalities: Number of modalities with their own learned words, such as visible and
            infrared, or of views, such as aerial and ground; 0 for none.
        num_modality_tokens: Number of learned words of each modality, at least 1; only with
            modalities.
        instance_dim: Width of an image embedding that shifts all learned words through a small
            network (CoCoOp). ``None`` for no such network.
        first_words: Phrase of exactly ``num_tokens`` tokens that the words of every identity start
            from, with noise of ``std`` added (CoOp's initialisation by a phrase). ``None`` for
            noise alone.
        std: Standard deviation of the initial learned words, at least 0; 0.02 is that of the words
            of CLIP before training.
        seed: Seed of the initial learned words, at least 0; the global generator is neither read
            nor changed.

    Attributes:
        identity_words: Learned words (C, M, W); a parameter, or ``None``.
        shared_words: Learned words (S, W); a parameter, or ``None``.
        camera_words: Learned words (cameras, K, W); a parameter, or ``None``.
        modality_words: Learned words (modalities, K, W); a parameter, or ``None``.

    Raises:
        ValueError: If a template has no or several places for learned words, a placeholder has no
            field, or a sentence has more tokens than the context length; if a number is out of its
            range, or there are no words to learn.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit").eval()
        >>> template = "A photo of a {tokens} {noun}."
        >>> prompts = IdentityPromptLearner(towers, 10, template, fields={"noun": "hand"})
        >>> prompts.encode(towers, torch.tensor([3, 3, 7])).shape
        torch.Size([3, 128])
        >>> prompts.encode_all(towers).shape  # a text for each identity, for the second stage
        torch.Size([10, 128])

    Note:
        The state dict holds learned words only. The template is an argument: pass the same one when
        you load them.

    References:
        Li, Sun and Li, CLIP-ReID, AAAI 2023, section 3.2. Zhou et al., CoOp, IJCV 2022; CoCoOp,
        CVPR 2022.
    """

    num_identities: Final[int]
    num_cameras: Final[int]
    num_modalities: Final[int]
    instance_dim: Final[int | None]

    def __init__(
        self,
        towers: ClipTowers,
        num_identities: int,
        template: str | Sequence[str] = "A photo of a {tokens} person.",
        *,
        fields: Fields | None = None,
        num_tokens: int = 4,
        num_shared_tokens: int = 0,
        num_cameras: int = 0,
        num_camera_tokens: int = 1,
        num_modalities: int = 0,
        num_modality_tokens: int = 1,
        instance_dim: int | None = None,
        first_words: str | None = None,
        std: float = 0.02,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_towers(_OWNER, towers)
        check_integer(_OWNER, "num_identities", num_identities, 1)
        check_integer(_OWNER, "num_tokens", num_tokens, 0)
        check_integer(_OWNER, "num_shared_tokens", num_shared_tokens, 0)
        check_integer(_OWNER, "num_cameras", num_cameras, 0)
        check_integer(_OWNER, "num_camera_tokens", num_camera_tokens, 1)
        check_integer(_OWNER, "num_modalities", num_modalities, 0)
        check_integer(_OWNER, "num_modality_tokens", num_modality_tokens, 1)
        check_at_least(_OWNER, "std", std, 0)
        check_seed(_OWNER, seed)
        if instance_dim is not None:
            check_integer(_OWNER, "instance_dim", instance_dim, 1)

        num_words = num_tokens + num_shared_tokens
        if num_cameras:
            num_words += num_camera_tokens
        if num_modalities:
            num_words += num_modality_tokens
        self.templates = PromptTemplates(_OWNER, towers, template, fields, num_words)
        self.num_identities = num_identities
        self.num_cameras = num_cameras
        self.num_modalities = num_modalities
        self.instance_dim = instance_dim

        # Initialised in this order, which fixes the words of a seed.
        generator = torch.Generator().manual_seed(seed)
        width = towers.text_width

        def words(*shape: int) -> nn.Parameter:
            drawn = torch.randn(*shape, width, generator=generator, device="cpu") * std
            return nn.Parameter(drawn.to(torch.get_default_device()))

        self.identity_words = words(num_identities, num_tokens) if num_tokens else None
        if first_words is not None:
            _add_phrase(towers, first_words, num_tokens, self.identity_words)
        self.shared_words = words(num_shared_tokens) if num_shared_tokens else None
        self.camera_words = words(num_cameras, num_camera_tokens) if num_cameras else None
        self.modality_words = None
        if num_modalities:
            self.modality_words = words(num_modalities, num_modality_tokens)
        self.instance_net = None
        if instance_dim is not None:
            self.instance_net = _instance_net(instance_dim, width, std, generator)

    def forward(
        self,
        towers: ClipTowers,
        labels: Integer[Tensor, " n"],
        *,
        cameras: Integer[Tensor, " n"] | None = None,
        modalities: Integer[Tensor, " n"] | None = None,
        instances: Float[Tensor, "n d"] | None = None,
        template: int = 0,
    ) -> PromptEmbeddings:
        """Embed the prompt of each row, for one of the templates.

        Args:
            towers: The model that embeds the words of the template.
            labels: Identity of each row. Values out of range are an error if the labels are on the
                CPU.
            cameras: Camera of each row. ``None`` uses the mean of all cameras' words.
            modalities: Modality of each row; ``None`` likewise.
            instances: Image embedding of each row, normalised here. ``None`` for no shift.
            template: Number of the template.

        Returns:
            Arguments of ``towers.encode_text_embeddings``: call it with ``*prompts``.

        Raises:
            ValueError: If shapes disagree, a number is out of its range, or cameras, modalities or
                instances are passed to a module that was built without them.
        """
        words = self._words(labels, cameras, modalities, instances)
        prompts: PromptEmbeddings = self.templates(towers, words, template)
        return prompts

    def encode(
        self,
        towers: ClipTowers,
        labels: Integer[Tensor, " n"],
        *,
        cameras: Integer[Tensor, " n"] | None = None,
        modalities: Integer[Tensor, " n"] | None = None,
        instances: Float[Tensor, "n d"] | None = None,
    ) -> Float[Tensor, "n e"]:
        """Encode the texts of identities: the mean over the templates, each distinct row once.

        Args:
            towers: The model. Gradient also reaches its parameters: freeze it to train the words
                only.
            labels: Identity of each row. Labels on the CPU avoid a wait for the device.
            cameras: Camera of each row, or ``None``.
            modalities: Modality of each row, or ``None``.
            instances: Image embedding of each row, or ``None``; with them every row is encoded.

        Returns:
            A text embedding for each label, not normalised; no rows for no labels.

        Raises:
            ValueError: As :meth:`forward` does.
        """
        check_labels(_OWNER, "labels", labels, labels.shape[0])
        if labels.shape[0] == 0:
            no_texts = towers.logit_scale.new_zeros(0, towers.embed_dim)
            return next(self.parameters()).sum() * 0 + no_texts

        # A compiled graph cannot find the distinct labels, and encodes every row.
        if instances is not None or torch.compiler.is_compiling():
            return self._encode(towers, labels, cameras, modalities, instances)

        # Columns of the numbers that choose the words of a row: (N, 1), (N, 2) or (N, 3).
        columns = [labels]
        for name, column in (("cameras", cameras), ("modalities", modalities)):
            if column is not None:
                check_labels(_OWNER, name, column, labels.shape[0])
                columns.append(column.to(labels))

        table = torch.stack(columns, dim=1)
        distinct_rows, distinct_of_row = torch.unique(table, dim=0, return_inverse=True)

        distinct_columns = iter(distinct_rows.unbind(dim=1))
        texts = self._encode(
            towers,
            labels=next(distinct_columns),
            cameras=None if cameras is None else next(distinct_columns),
            modalities=None if modalities is None else next(distinct_columns),
            instances=None,
        )
        return texts.index_select(0, distinct_of_row.to(texts.device))

    @torch.no_grad()
    def encode_all(self, towers: ClipTowers, *, block_size: int = 256) -> Float[Tensor, "c e"]:
        """Encode the texts of all identities, without gradient, for CLIP-ReID's second stage.

        Args:
            towers: The model.
            block_size: Number of identities encoded at once, at least 1.

        Returns:
            A text embedding for each identity, not normalised, with the mean of all cameras' and of
            all modalities' words, and without the shift by an image.

        Raises:
            ValueError: If ``block_size`` is below 1.
        """
        check_integer(_OWNER, "block_size", block_size, 1)
        labels = torch.arange(self.num_identities, device="cpu")
        blocks = torch.split(labels, block_size)
        return torch.cat([self._encode(towers, block, None, None, None) for block in blocks])

    def extra_repr(self) -> str:
        """Return the sizes, for ``print(module)``."""
        return (
            f"num_identities={self.num_identities}, num_cameras={self.num_cameras}, "
            f"num_modalities={self.num_modalities}, instance_dim={self.instance_dim}"
        )

    def _encode(
        self,
        towers: ClipTowers,
        labels: Tensor,
        cameras: Tensor | None,
        modalities: Tensor | None,
        instances: Tensor | None,
    ) -> Tensor:
        """Text embeddings of all rows, the mean over the templates."""
        words = self._words(labels, cameras, modalities, instances)
        texts = []
        for template in range(len(self.templates.texts)):
            prompts = self.templates(towers, words, template)
            texts.append(towers.encode_text_embeddings(*prompts))
        return texts[0] if len(texts) == 1 else torch.stack(texts).mean(dim=0)

    def _words(
        self,
        labels: Tensor,
        cameras: Tensor | None,
        modalities: Tensor | None,
        instances: Tensor | None,
    ) -> Tensor:
        """Learned words of each row (N, M, W)."""
        num_rows = labels.shape[0]
        check_labels(_OWNER, "labels", labels, num_rows)
        check_label_range(_OWNER, labels, self.num_identities)

        parts = []
        if self.shared_words is not None:
            parts.append(self.shared_words.expand(num_rows, -1, -1))
        parts += _words_of("camera", "cameras", self.camera_words, cameras, num_rows)
        parts += _words_of("modality", "modalities", self.modality_words, modalities, num_rows)
        if self.identity_words is not None:
            parts.append(_rows_of(self.identity_words, labels))

        words = torch.cat(parts, dim=1)
        if instances is None:
            return words
        return words + self._shift(instances, words)[:, None]

    def _shift(self, instances: Tensor, words: Tensor) -> Tensor:
        """Shift of all words of a row (N, W), computed from its image."""
        check_embeddings(_OWNER, "instances", instances)
        if self.instance_net is None:
            raise ValueError(
                f"{_OWNER}: there is no network for instances; leave them out, or pass "
                "instance_dim to the constructor."
            )
        if instances.shape != (words.shape[0], self.instance_dim):
            expected = f"instances ({words.shape[0]}, {self.instance_dim})"
            raise fail(_OWNER, expected, describe(instances))

        unit = l2_normalize(instances.to(words.device))
        shift: Tensor = self.instance_net(unit.to(words.dtype))
        return shift.to(words.dtype)


def _add_phrase(
    towers: ClipTowers, phrase: str, num_tokens: int, words: nn.Parameter | None
) -> None:
    """Add the word embeddings of a phrase to the words of every identity."""
    ids = towers.token_ids(phrase)
    if words is None or len(ids) != num_tokens:
        raise ValueError(
            f"{_OWNER}: first_words {phrase!r} has {len(ids)} tokens, and num_tokens is "
            f"{num_tokens}; they have to be equal."
        )
    with torch.no_grad():
        words.add_(towers.embed_tokens(torch.tensor([ids], device="cpu"))[0].to(words))


def _words_of(
    kind: str, name: str, words: Tensor | None, numbers: Tensor | None, num_rows: int
) -> list[Tensor]:
    """Words of each row's camera or modality: their mean without numbers; none without words."""
    if words is None:
        if numbers is not None:
            raise ValueError(
                f"{_OWNER}: there are no {kind} words; leave out {name}, or pass num_{name} "
                "to the constructor."
            )
        return []

    if numbers is None:
        return [words.mean(dim=0).expand(num_rows, -1, -1)]

    check_labels(_OWNER, name, numbers, num_rows)
    check_label_range(_OWNER, numbers, len(words), f"Number the {name} from 0.", name=name)
    return [_rows_of(words, numbers)]


def _rows_of(words: Tensor, numbers: Tensor) -> Tensor:
    """Words of these identities, cameras or modalities."""
    rows = F.embedding(numbers.to(words.device).long(), words.flatten(1))
    return rows.view(-1, *words.shape[1:])


def _instance_net(in_dim: int, width: int, std: float, generator: torch.Generator) -> nn.Module:
    """Two linear layers, initialised from a generator."""
    hidden_dim = max(8, in_dim // 16)

    # On the meta device no initial values are drawn from the global generator.
    first = nn.Linear(in_dim, hidden_dim, device="meta").to_empty(device="cpu")
    second = nn.Linear(hidden_dim, width, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        for layer, scale in ((first, 1.0), (second, std / hidden_dim**0.5)):
            layer.weight.normal_(generator=generator).mul_(scale)
            layer.bias.zero_()

    return nn.Sequential(first, nn.ReLU(), second).to(torch.get_default_device())
