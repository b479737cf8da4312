"""Find out who is calling: the user's code, or a library that wraps samplers and schedules.

A sampler cannot see the loader that iterates it, nor a schedule the object that steps it; only the
call stack shows them. It is read to warn, and never to change what a sampler or a schedule does.
"""

import inspect

_LEVELS = 8  # wrappers between a method and the object that calls it


def stacklevel_of_user() -> int:
    """Return the ``stacklevel`` with which a warning shows the line that called this package."""
    frame = inspect.currentframe()
    package = __name__.split(".")[0]

    level = 0
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == package:
        frame = frame.f_back
        level += 1
    return level


def find_caller(package: str, class_name: str) -> object | None:
    """Return the object that is calling the function, if it is of that class.

    Args:
        package: Name of the package that defines the class.
        class_name: Name of the class.

    Returns:
        The nearest such object among the callers; ``None`` if there is none.
    """
    frame = inspect.currentframe()
    for _ in range(_LEVELS):
        frame = None if frame is None else frame.f_back
        if frame is None:
            return None

        # The variables of other frames are left alone: reading them may keep their tensors alive.
        module = frame.f_globals.get("__name__", "")
        if module.split(".")[0] != package:
            continue

        candidate: object = frame.f_locals.get("self")
        if type(candidate).__name__ == class_name:
            return candidate

    return None
