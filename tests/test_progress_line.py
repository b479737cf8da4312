import io

import pytest

from clipreid_kit import _progress_line
from clipreid_kit._progress_line import progress_line


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(_progress_line.time, "monotonic", lambda: now[0])
    return now


def test_no_terminal_shows_nothing():
    assert progress_line(io.StringIO()) is None


def test_share_and_time_left(clock):
    terminal = Terminal()
    show = progress_line(terminal)
    show(50, 200)  # an earlier run did these
    clock[0] = 30.0
    show(100, 200)

    assert terminal.getvalue().endswith("...............  50%, 1:00 left")
    show(200, 200)
    assert terminal.getvalue().endswith("\r\033[K")


def test_a_short_computation_shows_nothing(clock):
    terminal = Terminal()
    show = progress_line(terminal)
    for done in (0, 50, 100):
        clock[0] += 0.5
        show(done, 100)
    assert terminal.getvalue() == ""


def test_the_time_left_of_a_second_computation_is_its_own(clock):
    terminal = Terminal()
    show = progress_line(terminal)
    show(0, 2)
    clock[0] = 1000.0
    show(2, 2)

    show(0, 4)
    clock[0] = 1010.0
    show(1, 4)
    assert terminal.getvalue().endswith("25%, 0:30 left")
