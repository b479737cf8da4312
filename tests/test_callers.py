from functools import partial
from types import SimpleNamespace

import pytest

from clipreid_kit._callers import find_caller, stacklevel_of_user


def class_in(module):
    """A class whose method calls a function, as if a package had defined it."""
    code = "class Caller:\n    def call(self, function):\n        return function()\n"
    namespace = {"__name__": module}
    exec(code, namespace)
    return namespace["Caller"]


def find():
    return find_caller("peer", "Caller")


def test_the_object_that_calls_is_found():
    caller = class_in("peer.data.loader")()
    assert caller.call(find) is caller


def test_through_wrappers_of_the_function():
    caller = class_in("peer")()
    assert caller.call(lambda: (find(),)) == (caller,)


def test_not_from_another_package_or_of_another_class():
    assert class_in("peers.data")().call(find) is None
    assert class_in("peer")().call(lambda: find_caller("peer", "Loader")) is None
    assert find() is None


def test_a_far_caller_is_not_looked_for():
    def deeper(levels):
        return find() if levels == 0 else deeper(levels - 1)

    caller = class_in("peer")()
    assert caller.call(lambda: deeper(2)) is caller
    assert caller.call(lambda: deeper(20)) is None


def test_the_variables_of_other_modules_are_not_read(monkeypatch):
    class Variables(dict):
        def get(self, *_):
            raise AssertionError("read")

    own = SimpleNamespace(f_globals={"__name__": "mine"}, f_locals=Variables(), f_back=None)
    first = SimpleNamespace(f_back=own)
    monkeypatch.setattr("clipreid_kit._callers.inspect.currentframe", lambda: first)
    assert find() is None


@pytest.mark.call_stack
def test_a_warning_shows_the_first_line_outside_the_package():
    inner = class_in("clipreid_kit.samplers")()
    outer = class_in("clipreid_kit")()
    assert stacklevel_of_user() == 1  # this line
    assert inner.call(stacklevel_of_user) == 2
    assert outer.call(partial(inner.call, stacklevel_of_user)) == 3
    assert class_in("peer")().call(stacklevel_of_user) == 1
