"""What reaches a terminal: text, whatever a stranger wrote, on any console."""

import io
import sys
from typing import Any, TextIO

# Python prints no other blank than one; Persian and Indic words need the joiners, Japanese names the wide blank.
_SHOWN = "\u00a0\u3000\u200c\u200d"


def plain(text: Any, lines: bool = True) -> str:
    """Text that a terminal takes for nothing more: what does not print is shown as its escape, `\\x1b`.
    Ends of lines and tabs stay, unless one line is wanted."""
    keep = _SHOWN + "\n\t" * lines
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in str(text))


class Plain(io.TextIOBase):
    """A stream that writes to another, plainly."""

    def __init__(self, to: TextIO):
        self.to = to

    def write(self, text: str) -> int:
        self.to.write(plain(text))
        return len(text)

    def flush(self) -> None:
        self.to.flush()


def take_any_console() -> None:
    """A console that is not UTF-8 is shown the escape of what it lacks, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
