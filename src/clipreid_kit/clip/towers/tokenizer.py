"""Tokenize texts, with an explicit policy for texts that are too long."""

import re
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from jaxtyping import Int
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor

from clipreid_kit._checks import check_choice, fail

TooLong = Literal["error", "cut", "sentence"]

_MAX_SHOWN = 60
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_NUM_CLIPS_MARKS = 3  # start, end and class token, which open_clip's mode "clips" adds


class TextTokenizer:
    """The tokenizer of one model, loaded at its first use.

    :class:`ClipTowers` holds one; use its ``tokenize`` and ``count_tokens``.

    Args:
        text_config: The ``text_cfg`` of an open_clip configuration.
        loaded: The tokenizer of open_clip, if it has been loaded already.

    Raises:
        ValueError: If the tokenizer is not open_clip's, or has another context length.
    """

    def __init__(
        self,
        text_config: Mapping[str, Any],
        loaded: SimpleTokenizer | HFTokenizer | None = None,
    ) -> None:
        self.context_length = int(text_config.get("context_length", 77))
        self._config = dict(text_config)
        self._loaded = loaded
        if loaded is not None:
            _check_tokenizer(loaded, self.context_length)

    def __repr__(self) -> str:
        """Show the context length."""
        return f"TextTokenizer(context_length={self.context_length})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the vocabulary that all towers of a process share: it is 2 MB."""
        state = dict(vars(self))
        if self._loaded is not None and self._loaded is _openai_tokenizer(self.context_length):
            state["_loaded"] = None
        return state

    def __call__(self, texts: Sequence[str], too_long: TooLong = "error") -> Int[Tensor, "n l"]:
        """Convert texts to rows of token ids, padded to the context length.

        Args:
            texts: Any number of texts.
            too_long: Policy for a text of more tokens, as for :meth:`ClipTowers.tokenize`.

        Returns:
            One row for each text, on the CPU.

        Raises:
            ValueError: If the texts are not a sequence of texts, one of them contains a start or
                end mark, or is too long under ``too_long="error"``.
        """
        check_choice("tokenize", "too_long", too_long, ("error", "cut", "sentence"))
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            remedy = "Put a single text into a list."
            raise fail("tokenize", "a sequence of texts", _shown(texts), remedy)

        if too_long == "sentence":
            texts = [self._whole_sentences(text) for text in texts]

        self._report_long_texts(texts, too_long)

        rows = [self._row(text) for text in texts]
        if not rows:
            return torch.zeros(0, self.context_length, dtype=torch.long, device="cpu")
        return torch.stack(rows)

    def inner_ids(self, text: str) -> list[int]:
        """Return the token ids of a piece of text, without start, end and padding."""
        if not isinstance(text, str):
            raise fail("token_ids", "one text", _shown(text))

        tokenizer = self._tokenizer()
        if isinstance(tokenizer, SimpleTokenizer):
            return _ids(tokenizer, "token_ids", text)[1:-1]

        cleaned = tokenizer.clean_fn(text)
        ids = tokenizer.tokenizer(cleaned, add_special_tokens=False).input_ids
        return [int(token) for token in ids]

    def count(self, text: str) -> int:
        """Count the tokens of a text, including start and end."""
        if not isinstance(text, str):
            raise fail("count_tokens", "one text", _shown(text))

        tokenizer = self._tokenizer()
        if isinstance(tokenizer, SimpleTokenizer):
            return len(_ids(tokenizer, "count_tokens", text))

        cleaned = tokenizer.clean_fn(text)
        if tokenizer.tokenizer_mode == "clips":
            ids = tokenizer.tokenizer(cleaned, add_special_tokens=False).input_ids
            return len(ids) + _NUM_CLIPS_MARKS
        return len(tokenizer.tokenizer(cleaned).input_ids)

    def _report_long_texts(self, texts: Sequence[str], too_long: TooLong) -> None:
        """Raise ValueError, or warn, if texts have more tokens than the context."""
        long = [text for text in texts if self.count(text) > self.context_length]
        if not long:
            return

        if too_long == "error":
            raise fail(
                "tokenize",
                f"at most {self.context_length} tokens, start and end included",
                f"{self.count(long[0])} tokens in {_shown(long[0])}",
                'Shorten the text, or pass too_long="cut" or "sentence" to keep its beginning.',
            )

        warnings.warn(
            f"tokenize: {len(long)} of {len(texts)} texts have more than {self.context_length} "
            f"tokens and are cut there, the first: {_shown(long[0])}.",
            stacklevel=4,
        )

    def _whole_sentences(self, text: str) -> str:
        """Keep the leading sentences that fit; the whole text if not even the first one does."""
        if self.count(text) <= self.context_length:
            return text

        fitting = text
        for match in _SENTENCE_END.finditer(text):
            beginning = text[: match.start()]
            if beginning and self.count(beginning) <= self.context_length:
                fitting = beginning
        return fitting

    def _row(self, text: str) -> Tensor:
        tokenizer = self._tokenizer()
        if not isinstance(tokenizer, SimpleTokenizer):
            row: Tensor = tokenizer([text])[0]
            return row

        ids = _ids(tokenizer, "tokenize", text)
        if len(ids) > self.context_length:
            ids = [*ids[: self.context_length - 1], tokenizer.eot_token_id]

        padded = torch.zeros(self.context_length, dtype=torch.long, device="cpu")
        padded[: len(ids)] = torch.tensor(ids, device="cpu")
        return padded

    def _tokenizer(self) -> SimpleTokenizer | HFTokenizer:
        if self._loaded is None:
            self._loaded = _load(self._config, self.context_length)
        return self._loaded


def _check_tokenizer(tokenizer: object, context_length: int) -> None:
    if not isinstance(tokenizer, SimpleTokenizer | HFTokenizer):
        raise fail(
            "ClipTowers",
            "a tokenizer of open_clip",
            type(tokenizer).__name__,
            "Get it with open_clip.get_tokenizer.",
        )
    if tokenizer.context_length != context_length:
        raise fail(
            "ClipTowers",
            f"a tokenizer with a context of {context_length}, as the model has",
            tokenizer.context_length,
        )


def _load(config: Mapping[str, Any], context_length: int) -> SimpleTokenizer | HFTokenizer:
    options = dict(config.get("tokenizer_kwargs") or {})
    name = config.get("hf_tokenizer_name")
    if not name and not options:
        return _openai_tokenizer(context_length)
    if not name:
        return SimpleTokenizer(context_length=context_length, **options)

    mode = config.get("tokenizer_mode")
    try:
        return HFTokenizer(name, context_length=context_length, tokenizer_mode=mode, **options)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else "no reason given"
        raise ValueError(
            f"ClipTowers: The tokenizer {name!r} from Hugging Face could not be loaded "
            f"({type(error).__name__}: {reason}). Install transformers and load it once with a "
            "network connection, or encode images only."
        ) from None


@lru_cache(maxsize=4)
def _openai_tokenizer(context_length: int) -> SimpleTokenizer:
    """Read the vocabulary once for all towers of a process; it takes a tenth of a second."""
    return SimpleTokenizer(context_length=context_length)


def _ids(tokenizer: SimpleTokenizer, owner: str, text: str) -> list[int]:
    """Token ids of a text, with start and end marks around them."""
    inner: list[int] = tokenizer.encode(text)
    if tokenizer.eot_token_id in inner or tokenizer.sot_token_id in inner:
        raise fail(
            owner,
            "a text without start or end marks inside",
            _shown(text),
            "The tokenizer adds them.",
        )
    return [tokenizer.sot_token_id, *inner, tokenizer.eot_token_id]


def _shown(text: object) -> str:
    """Spell a text out for an error message, truncated if it is long."""
    if isinstance(text, str) and len(text) > _MAX_SHOWN:
        text = text[:_MAX_SHOWN] + "..."
    return repr(text)
