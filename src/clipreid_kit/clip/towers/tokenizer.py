"""Texts to token ids, with a stated policy for texts that are too long."""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Int
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor

from clipreid_kit._checks import check_choice, fail

TooLong = Literal["error", "cut", "sentence"]

_SHOWN = 60
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")


class TextTokenizer:
    """The tokenizer of one model, made when it is first needed.

    :class:`ClipTowers` holds one; use its ``tokenize`` and ``count_tokens``.

    Args:
        text_config: The ``text_cfg`` of an open_clip configuration.
    """

    def __init__(self, text_config: Mapping[str, Any]) -> None:
        self.context_length = int(text_config.get("context_length", 77))
        self._config = dict(text_config)
        self._loaded: SimpleTokenizer | HFTokenizer | None = None

    def __call__(self, texts: Sequence[str], too_long: TooLong = "error") -> Int[Tensor, "n l"]:
        """Turn texts into rows of token ids, padded to the context length."""
        owner = "tokenize"
        check_choice(owner, "too_long", too_long, ("error", "cut", "sentence"))
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise fail(
                owner, "a sequence of texts", _shown(texts), "Put a single text into a list."
            )
        if too_long == "sentence":
            texts = [self._whole_sentences(text) for text in texts]
        long = [text for text in texts if self.count(text) > self.context_length]
        if long and too_long == "error":
            raise fail(
                owner,
                f"at most {self.context_length} tokens, start and end included",
                f"{self.count(long[0])} tokens in {_shown(long[0])}",
                'Shorten the text, or pass too_long="cut" or "sentence" to keep its beginning.',
            )
        if long:
            warnings.warn(
                f"{owner}: {len(long)} of {len(texts)} texts have more than {self.context_length} tokens and are cut "
                f"there, the first: {_shown(long[0])}.",
                stacklevel=3,
            )
        rows = [self._row(owner, text) for text in texts]
        return torch.stack(rows) if rows else torch.zeros(0, self.context_length, dtype=torch.long)

    def inside(self, text: str) -> list[int]:
        """Give the ids of a piece of text, without start, end and padding."""
        if not isinstance(text, str):
            raise fail("token_ids", "one text", _shown(text))
        tokenizer = self._tokenizer()
        if isinstance(tokenizer, SimpleTokenizer):
            return _ids(tokenizer, "token_ids", text)[1:-1]
        found = tokenizer.tokenizer(tokenizer.clean_fn(text), add_special_tokens=False).input_ids
        return [int(token) for token in found]

    def count(self, text: str) -> int:
        """Count the tokens of a text, start and end included."""
        if not isinstance(text, str):
            raise fail("count_tokens", "one text", _shown(text))
        tokenizer = self._tokenizer()
        if isinstance(tokenizer, SimpleTokenizer):
            return len(_ids(tokenizer, "count_tokens", text))
        cleaned = tokenizer.clean_fn(text)
        if tokenizer.tokenizer_mode == "clips":  # start, end and class token are added outside
            return len(tokenizer.tokenizer(cleaned, add_special_tokens=False).input_ids) + 3
        return len(tokenizer.tokenizer(cleaned).input_ids)

    def _whole_sentences(self, text: str) -> str:
        """Keep as many sentences from the beginning as fit; a first one that does not is left to be cut."""
        if self.count(text) <= self.context_length:
            return text
        ends = [match.start() for match in _SENTENCE_END.finditer(text)]
        fitting = [end for end in ends if end > 0 and self.count(text[:end]) <= self.context_length]
        return text[: fitting[-1]] if fitting else text

    def _row(self, owner: str, text: str) -> Tensor:
        tokenizer = self._tokenizer()
        if not isinstance(tokenizer, SimpleTokenizer):
            row: Tensor = tokenizer([text])[0]
            return row
        ids = _ids(tokenizer, owner, text)
        if len(ids) > self.context_length:
            ids = [*ids[: self.context_length - 1], tokenizer.eot_token_id]
        padded = torch.zeros(self.context_length, dtype=torch.long)
        padded[: len(ids)] = torch.tensor(ids)
        return padded

    def _tokenizer(self) -> SimpleTokenizer | HFTokenizer:
        if self._loaded is None:
            self._loaded = _build(self._config, self.context_length)
        return self._loaded


def _build(config: Mapping[str, Any], context_length: int) -> SimpleTokenizer | HFTokenizer:
    options = dict(config.get("tokenizer_kwargs") or {})
    name = config.get("hf_tokenizer_name")
    if not name:
        return SimpleTokenizer(context_length=context_length, **options)
    mode = config.get("tokenizer_mode")
    try:
        return HFTokenizer(name, context_length=context_length, tokenizer_mode=mode, **options)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise fail(
            "ClipTowers",
            f"the tokenizer {name!r} from Hugging Face",
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}",
            "Install transformers and load it once with a network connection, or encode images only.",
        ) from None


def _ids(tokenizer: SimpleTokenizer, owner: str, text: str) -> list[int]:
    inside: list[int] = tokenizer.encode(text)
    if tokenizer.eot_token_id in inside or tokenizer.sot_token_id in inside:
        raise fail(
            owner, "a text without start or end marks inside", _shown(text), "They are added here."
        )
    return [tokenizer.sot_token_id, *inside, tokenizer.eot_token_id]


def _shown(text: object) -> str:
    return repr(text if not isinstance(text, str) or len(text) <= _SHOWN else text[:_SHOWN] + "...")
