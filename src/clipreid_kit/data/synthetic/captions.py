"""Sentences that describe an identity truthfully and not always completely."""

import numpy as np

from clipreid_kit.data.synthetic.attributes import Identity, Mark

_LEFT_OUT = ("", "main", "second", "pattern", "mark")
_LEFT_OUT_ODDS = (0.44, 0.1, 0.14, 0.16, 0.16)
_SENTENCES = (
    "{Head} with {details}.",
    "A photo of {head} with {details}.",
    "This is {head}, with {details}.",
    "The picture shows {head} that has {details}.",
    "Seen here: {head} with {details}.",
    "{Details} can be seen on {head}.",
    "{Head}; look for {details}.",
    "Somebody is looking for {head} with {details}.",
)
_SHORT_SENTENCES = ("{Head}.", "A photo of {head}.", "This is {head}.", "The picture shows {head}.")


def describe(identity: Identity, rng: np.random.Generator) -> str:
    """One sentence about an identity: its kind always, and at most one of the other attributes left out.

    Args:
        identity: What to describe.
        rng: Chooses the sentence, and what it leaves out.

    Returns:
        An English sentence. All that it says is true of the identity; it may fit a near-twin as well.
    """
    left_out = str(rng.choice(_LEFT_OUT, p=_LEFT_OUT_ODDS))
    details = [_surface(identity, left_out)]
    if identity.mark is not None and left_out != "mark":
        details.append(_mark(identity.mark))
    spoken = " and ".join(detail for detail in details if detail)
    sentences = _SENTENCES if spoken else _SHORT_SENTENCES
    head = _head(identity, left_out)
    return sentences[int(rng.integers(len(sentences)))].format(
        head=head, Head=_capital(head), details=spoken, Details=_capital(spoken)
    )


def _head(identity: Identity, left_out: str) -> str:
    words = [] if left_out == "main" else [identity.main_colour]
    if identity.pattern == "plain" and left_out != "pattern":
        words.insert(0, "plain")
    noun = " ".join([*words, identity.kind])
    return f"a pair of {noun}" if identity.kind == "trousers" else _article(noun)


def _surface(identity: Identity, left_out: str) -> str:
    pattern = "trim" if identity.pattern == "plain" else identity.pattern
    if left_out == "second":
        return "" if identity.pattern == "plain" else pattern
    if left_out == "pattern":
        return f"{identity.second_colour} details"
    return f"{identity.second_colour} {pattern}"


def _mark(mark: Mark) -> str:
    if mark.shape == "band":
        return f"{_article(mark.colour)} band across it"
    return f"{_article(mark.colour)} {mark.shape} {mark.symbol}".rstrip() + f" {mark.place}"


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
