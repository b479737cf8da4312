"""Sentences that describe an identity truthfully, though not always completely."""

import numpy as np

from clipreid_kit.data.synthetic.identities import Identity, Mark

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
    """Describe an identity in one sentence.

    The sentence always names its kind, and leaves out at most one of its other attributes.

    Args:
        identity: The identity to describe.
        rng: Chooses the sentence and the attribute to leave out.

    Returns:
        An English sentence. Every statement in it is true of the identity, but may also be true of
        a near-twin.
    """
    left_out = str(rng.choice(_LEFT_OUT, p=_LEFT_OUT_ODDS))

    details = []
    surface = _surface(identity, left_out)
    if surface:
        details.append(surface)
    if identity.mark is not None and left_out != "mark":
        details.append(_mark(identity.mark))

    sentences = _SENTENCES if details else _SHORT_SENTENCES
    sentence = sentences[int(rng.integers(len(sentences)))]

    head = _head(identity, left_out)
    spoken = " and ".join(details)
    return sentence.format(
        head=head, Head=_capitalized(head), details=spoken, Details=_capitalized(spoken)
    )


def _head(identity: Identity, left_out: str) -> str:
    """Name the kind, after the main colour and the word ``plain`` if they are mentioned."""
    words = []
    if identity.pattern == "plain" and left_out != "pattern":
        words.append("plain")
    if left_out != "main":
        words.append(identity.main_colour)
    words.append(identity.kind)

    noun = " ".join(words)
    if identity.kind == "trousers":
        return f"a pair of {noun}"

    return _with_article(noun)


def _surface(identity: Identity, left_out: str) -> str:
    """Describe the second colour and the pattern; empty if there is nothing to mention."""
    is_plain = identity.pattern == "plain"

    if left_out == "second":
        return "" if is_plain else identity.pattern
    if left_out == "pattern":
        return f"{identity.second_colour} details"
    if is_plain:
        return f"{identity.second_colour} trim"

    return f"{identity.second_colour} {identity.pattern}"


def _mark(mark: Mark) -> str:
    colour = _with_article(mark.colour)

    if mark.shape == "band":
        return f"{colour} band across it"
    if mark.symbol:
        return f"{colour} {mark.shape} {mark.symbol} {mark.place}"

    return f"{colour} {mark.shape} {mark.place}"


def _with_article(noun: str) -> str:
    article = "an" if noun[0] in "aeiou" else "a"
    return f"{article} {noun}"


def _capitalized(words: str) -> str:
    return words[:1].upper() + words[1:]
