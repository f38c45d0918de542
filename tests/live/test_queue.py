import threading

import pytest

from vlm4vla.errors import UserError
from vlm4vla.live.queue import Queue


def test_visitors_are_let_in_in_order() -> None:
    line = Queue(places=2, longest=5)
    first, second, third, fourth = (line.join(name) for name in "abcd")
    assert [turn.wait(0) for turn in (first, second, third, fourth)] == [0, 0, 1, 2]
    second.leave()
    assert [turn.wait(0) for turn in (first, third, fourth)] == [0, 0, 1]
    fourth.leave()
    first.leave()
    third.leave()
    assert line.join("e").wait(0) == 0


def test_a_visitor_never_has_two_places() -> None:
    line = Queue(places=2, longest=5)
    old = line.join("a")
    new = line.join("a")
    assert old.end == "replaced"
    assert new.wait(0) == 1
    other = line.join("b")
    assert other.wait(0) == 0
    old.leave()
    assert new.wait(0) == 0


def test_joining_again_means_waiting_again() -> None:
    line = Queue(places=1, longest=5)
    inside = line.join("a")
    old, other = line.join("b"), line.join("c")
    new = line.join("b")
    assert old.over()
    assert old.wait(0) == 0
    assert [other.wait(0), new.wait(0)] == [1, 2]
    inside.leave()
    assert [other.wait(0), new.wait(0)] == [0, 1]


def test_a_full_line_refuses_the_next_and_forgets_those_who_left() -> None:
    line = Queue(places=1, longest=1)
    line.join("a")
    waiting = line.join("b")
    with pytest.raises(UserError, match="waiting already"):
        line.join("c")
    waiting.leave()
    assert line.join("c").wait(0) == 1


def test_stop_ends_the_turn_and_wakes_who_waits() -> None:
    line = Queue(places=1, longest=5)
    inside, waiting = line.join("a"), line.join("b")
    places: list[int] = []
    thread = threading.Thread(target=lambda: places.append(waiting.wait(60)))
    thread.start()
    line.stop("b")
    thread.join(30)
    assert places == [0]
    assert waiting.end == "stopped"
    assert not inside.over()


def test_what_needs_no_turn_replaces_one_like_another_turn() -> None:
    line = Queue(places=1, longest=5)
    inside, waiting, other = line.join("a"), line.join("b"), line.join("c")
    line.replace("a")
    line.replace("b")
    assert (inside.end, waiting.end, other.end) == ("replaced", "replaced", "")
    assert (waiting.wait(0), other.wait(0)) == (0, 1)
    inside.leave()
    assert other.wait(0) == 0


def test_a_series_that_is_replaced_does_not_replace_what_has_its_turn() -> None:
    line = Queue(places=1, longest=5)
    series = line.series("a")
    line.join("a", series=series).leave()
    newer = line.join("a")
    assert line.join("a", series=series).end == "replaced"
    assert (newer.end, newer.wait(0)) == ("", 0)


def test_stopping_somebody_else_or_nobody_changes_nothing() -> None:
    line = Queue(places=1, longest=5)
    inside = line.join("a")
    line.stop("z")
    assert not inside.over()
