"""Tables of marks as CSV, in which a spreadsheet finds no formula, whatever a student is called."""

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path

from circuits.console import plain
from utils.files import write_file

# What begins a formula, also in full width, where a cell begins: at the start, or after what some spreadsheets
# take to end a cell.
_FORMULA = re.compile(r"""(^|[,;|"])(\s*)([=+\-@\uff1d\uff0b\uff0d\uff20])""")


def write_table(file: Path, rows: Iterable[list]) -> None:
    """Write rows of texts and numbers. Raises OSError."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    write_file(file, text.getvalue().encode("utf-8", "replace"))


def _cell(value: object) -> object:
    return _FORMULA.sub(r"\1\2'\3", plain(value, lines=False)) if isinstance(value, str) else value
