"""Fill templates with named fields, before anything is tokenised."""

import string
from collections.abc import Mapping, Sequence

from clipreid_kit.data.records import ImageRecord

_FORMATTER = string.Formatter()
_SIDES = {"r": "right", "l": "left", "right": "right", "left": "left"}


def fill_template(template: str, fields: Mapping[str, object]) -> str:
    """Insert values into a template such as ``A photo of a {aspect} {noun}``.

    Use it for every text with fields, so that no brace reaches the tokenizer. Extra space, as an
    empty value leaves it, is removed.

    Args:
        template: Text with ``{name}`` for each field; write ``{{`` and ``}}`` for literal braces.
        fields: A value for each name; further names are ignored.

    Returns:
        The filled text.

    Raises:
        ValueError: If the template is invalid, or a field has no value.

    Example:
        >>> fill_template("A photo of a {aspect} {noun}.", {"aspect": "left", "noun": "hand"})
        'A photo of a left hand.'
    """
    names = template_fields(template)

    missing = [repr(name) for name in names if name not in fields]
    if missing:
        known = ", ".join(sorted(fields)) or "none"
        raise ValueError(
            f"fill_template: no value for {', '.join(missing)} of {template!r}. "
            f"Known fields: {known}."
        )

    values = {name: str(fields[name]) for name in names}
    return " ".join(template.format_map(values).split())


def template_fields(template: str) -> tuple[str, ...]:
    """List the fields of a template.

    Args:
        template: As for :func:`fill_template`.

    Returns:
        The names of the fields in the order of their first use.

    Raises:
        ValueError: If a brace is not closed, or a field has no plain name (``{}``, ``{0}``,
            ``{a.b}``, ``{a:>9}``).

    Example:
        >>> template_fields("A {aspect} {noun}, camera {camera}")
        ('aspect', 'noun', 'camera')
    """
    try:
        parts = list(_FORMATTER.parse(template))
    except ValueError as error:
        raise ValueError(
            f"fill_template: {template!r} has an unmatched brace ({error}). "
            "Write {{ and }} for literal braces."
        ) from error

    names: list[str] = []
    for _, name, style, conversion in parts:
        if name is None:
            continue

        if not name.isidentifier() or style or conversion:
            field = name
            if conversion:
                field += f"!{conversion}"
            if style:
                field += f":{style}"
            raise ValueError(
                f"fill_template: the field {{{field}}} of {template!r} is not a plain name. "
                "Write a name, such as {noun}."
            )
        names.append(name)

    return tuple(dict.fromkeys(names))


def template_texts(
    records: Sequence[ImageRecord], template: str, fields: Mapping[str, object] | None = None
) -> list[str]:
    """Fill a template for every record.

    Use it for prompts that mention the known properties of an image: its aspect, camera or any
    further column.

    Args:
        records: Records with the fields ``identity``, ``camera``, ``view``, ``aspect`` (the view in
            words, see :func:`spoken_aspect`), ``caption``, and their extra columns, as far as they
            have them.
        template: As for :func:`fill_template`.
        fields: The same values for all records, such as ``{"noun": "hand"}``; they take precedence
            over the records' own.

    Returns:
        One text for each record.

    Raises:
        ValueError: If the template is invalid, or names a field that a record does not have.

    Example:
        >>> record = ImageRecord("a.jpg", identity=1, camera=3, view="dorsal_r")
        >>> template_texts([record], "A {aspect} {noun} seen by camera {camera}.", {"noun": "hand"})
        ['A right dorsal hand seen by camera 3.']
    """
    names = template_fields(template)
    given = dict(fields or {})

    texts = []
    for record in records:
        values: dict[str, object] = {**record.extra, **_known_fields(record), **given}

        missing = [name for name in names if name not in values]
        if missing:
            raise ValueError(
                f"template_texts: {record.path} has no {', '.join(missing)} for {template!r}. "
                f"Pass it in fields, fill the column, or use one of: {', '.join(sorted(values))}."
            )
        texts.append(fill_template(template, values))

    return texts


def spoken_aspect(view: str) -> str:
    """Write the name of a view in plain words.

    Args:
        view: Name of the view, such as ``dorsal_r`` or ``side``; a last part ``r``, ``l``,
            ``right`` or ``left`` is the side.

    Returns:
        The side first, then the rest, with spaces.

    Example:
        >>> spoken_aspect("dorsal_r"), spoken_aspect("palmar left"), spoken_aspect("full_body")
        ('right dorsal', 'left palmar', 'full body')
    """
    words = view.replace("_", " ").replace("-", " ").split()

    if len(words) > 1 and words[-1].lower() in _SIDES:
        side = _SIDES[words[-1].lower()]
        words = [side, *words[:-1]]

    return " ".join(words)


def _known_fields(record: ImageRecord) -> dict[str, object]:
    """Return the fields that a record has besides its extra columns."""
    values: dict[str, object] = {"identity": record.identity}

    for name in ("camera", "view", "caption", "modality"):
        value = getattr(record, name)
        if value is not None:
            values[name] = value

    if record.view is not None:
        values["aspect"] = spoken_aspect(record.view)

    return values
