"""Templates with named fields, filled before anything is tokenised."""

import string
from collections.abc import Mapping, Sequence

from clipreid_kit._checks import fail
from clipreid_kit.data.records import ImageRecord

_FORMATTER = string.Formatter()


def fill_template(template: str, fields: Mapping[str, object]) -> str:
    """Put values into a template such as ``A photo of a {aspect} {noun}``.

    Use it wherever a text has fields, so that no brace ever reaches the tokenizer. Space is tidied where a value is
    empty.

    Args:
        template: Text with ``{name}`` for each field; ``{{`` and ``}}`` stand for braces.
        fields: A value for each name; further ones are ignored.

    Returns:
        The text.

    Raises:
        ValueError: If the template is no valid one, or names a field that is not given.

    Example:
        >>> fill_template("A photo of a {aspect} {noun}.", {"aspect": "right dorsal", "noun": "hand"})
        'A photo of a right dorsal hand.'
    """
    names = template_fields(template)
    unknown = [name for name in names if name not in fields]
    if unknown:
        got = f"{', '.join(map(repr, unknown))} in {template!r}"
        remedy = f"Known are: {', '.join(sorted(fields)) or 'none'}."
        raise fail("fill_template", "a value for every field of the template", got, remedy)
    values = {name: str(fields[name]) for name in names}
    return " ".join(template.format_map(values).split())


def template_fields(template: str) -> tuple[str, ...]:
    """List the fields of a template.

    Args:
        template: As for :func:`fill_template`.

    Returns:
        Their names in the order of their first use.

    Raises:
        ValueError: If a brace is not closed, or a field has no plain name (``{}``, ``{0}``, ``{a.b}``, ``{a:>9}``).

    Example:
        >>> template_fields("A {aspect} {noun}, camera {camera}")
        ('aspect', 'noun', 'camera')
    """
    try:
        parts = list(_FORMATTER.parse(template))
    except ValueError as error:
        remedy = "Write {{ and }} for braces that shall stay."
        raise fail(
            "fill_template", "every brace to be closed", f"{template!r}: {error}", remedy
        ) from error
    names = []
    for _, name, style, conversion in parts:
        if name is None:
            continue
        if not name.isidentifier() or style or conversion:
            shown = name + (f"!{conversion}" if conversion else "") + (f":{style}" if style else "")
            remedy = "Write a name, such as {noun}."
            raise fail(
                "fill_template", f"fields with plain names in {template!r}", f"{{{shown}}}", remedy
            )
        names.append(name)
    return tuple(dict.fromkeys(names))


def template_texts(
    records: Sequence[ImageRecord], template: str, fields: Mapping[str, object] | None = None
) -> list[str]:
    """Fill a template for every record.

    Use it for prompts that say what is known of an image: its aspect, camera or any further column.

    Args:
        records: Each offers the fields ``identity``, ``camera``, ``view``, ``aspect`` (its view as a person says it,
            see :func:`spoken_aspect`), ``caption``, and its extra columns, as far as it has them.
        template: As for :func:`fill_template`.
        fields: The same for all records, such as ``{"noun": "hand"}``; they go before the records' own.

    Returns:
        One text for each record.

    Raises:
        ValueError: If the template names a field that some record has not, or is no valid one.

    Example:
        >>> record = ImageRecord("a.jpg", identity=1, camera=3, view="dorsal_r")
        >>> template_texts([record], "A {aspect} {noun} seen by camera {camera}.", {"noun": "hand"})
        ['A right dorsal hand seen by camera 3.']
    """
    wanted = template_fields(template)
    given = dict(fields or {})
    texts = []
    for record in records:
        values: dict[str, object] = {**record.extra, **_known(record), **given}
        missing = [name for name in wanted if name not in values]
        if missing:
            got = f"no {', '.join(missing)} for {record.path}"
            remedy = (
                f"Give it in fields, fill the column, or use one of: {', '.join(sorted(values))}."
            )
            raise fail(
                "template_texts", f"the fields of {template!r} for every record", got, remedy
            )
        texts.append(fill_template(template, values))
    return texts


def spoken_aspect(view: str) -> str:
    """Write the name of a view as a person says it.

    Args:
        view: Such as ``dorsal_r`` or ``side``; a last part ``r``, ``l``, ``right`` or ``left`` is the side.

    Returns:
        The side first, then the rest, with spaces.

    Example:
        >>> spoken_aspect("dorsal_r"), spoken_aspect("palmar left"), spoken_aspect("full_body")
        ('right dorsal', 'left palmar', 'full body')
    """
    words = view.replace("_", " ").replace("-", " ").split()
    side = _SIDES.get(words[-1].lower()) if len(words) > 1 else None
    return " ".join(words) if side is None else " ".join([side, *words[:-1]])


_SIDES = {"r": "right", "l": "left", "right": "right", "left": "left"}


def _known(record: ImageRecord) -> dict[str, object]:
    values: dict[str, object] = {"identity": record.identity}
    for name in ("camera", "view", "caption"):
        value = getattr(record, name)
        if value is not None:
            values[name] = value
    if record.view is not None:
        values["aspect"] = spoken_aspect(record.view)
    return values
