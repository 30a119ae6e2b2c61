"""Long work says how long it takes, by the pace that it has here; what is quick says nothing."""

import time

from utils.waiting import time_left, waiting


def test_what_is_quick_says_nothing(capsys):
    assert list(waiting(range(5), "Counting")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")


def test_what_takes_longer_says_what_it_is_and_how_long_it_still_takes(capsys):
    for _ in waiting(range(8), "Sleeping"):
        time.sleep(0.2)
    out, err = capsys.readouterr()
    assert err == "" and "Sleeping: " in out and "left" in out
    assert out.endswith("\r"), "the line is gone at the end"


def test_time_left_follows_the_pace():
    assert time_left(10, 40, 20.0) == "about 60 s left"
    assert time_left(10, 1000, 20.0) == "about 33 min left"
    assert time_left(40, 40, 20.0) == "about 0 s left"
    assert time_left(0, 40, 20.0) == time_left(3, 40, 0.5) == ""
