"""Long work says what it is and how long it still takes, by the pace that it has on this machine."""

import sys
from collections.abc import Collection, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def waiting(items: Collection[Item], what: str) -> Iterator[Item]:
    """The items one by one. If they take longer than a second, a line says what is done and, as measured until then,
    how long it still takes; afterwards it is gone."""
    from tqdm import tqdm

    bar = "{desc}: {percentage:3.0f}% |{bar:20}| {elapsed} gone, about {remaining} left"
    yield from tqdm(items, desc=what, delay=1.0, leave=False, file=sys.stdout, bar_format=bar)


def time_left(done: float, of: float, seconds: float) -> str:
    """What is left of some work, in words, if it goes on as it went: "about 40 s left". "" before the first second."""
    if not done or seconds < 1:
        return ""
    left = max(0.0, (of - done) * seconds / done)
    return f"about {left:.0f} s left" if left < 90 else f"about {left / 60:.0f} min left"
