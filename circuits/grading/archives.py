"""Names and contents of notebooks as classes hand them in: files and zip files, however they were called.

A zip file is a stranger's: of each member no more is unpacked than it may hold, and what is wrong with it
is said in a line.
"""

import re
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import PurePath, PurePosixPath
from typing import IO

from circuits.chapters import Chapter
from circuits.console import plain

MAX_NOTEBOOK = 16 * 1024**2  # bytes

# Browsers that save what they were sent add an ending.
_NOTEBOOK = re.compile(r"\.ipynb(\.txt|\.json)?\Z", re.IGNORECASE)


class NotUnpacked(Exception):
    """Why a zip file, or a member of it, is left out; it follows the name."""


def is_notebook(name: str) -> bool:
    return _NOTEBOOK.search(name) is not None


def is_zip(name: str) -> bool:
    return name.lower().endswith(".zip")


def is_kept_by_a_program(path: PurePath) -> bool:
    """Whether it is no one's work: what Jupyter, macOS and editors keep beside it (`.ipynb_checkpoints`,
    `__MACOSX/._bigrams.ipynb`)."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def is_named_for(name: str, chapter: Chapter) -> bool:
    """Whether a notebook's name is a form of the chapter's: `Bigrams (1).ipynb`, `my bigrams-Copy1.ipynb`."""
    return _letters(chapter.notebook_name) in _letters(name)


def _letters(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())


def members(file: IO[bytes], most: int) -> Iterator[tuple[zipfile.ZipFile, zipfile.ZipInfo]]:
    """The files of a zip file, each with the archive to unpack it from. Raises NotUnpacked."""
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # a zip file can be wrong in many ways
        raise NotUnpacked(f"cannot be unpacked ({_said(error)})") from None
    with archive:
        found = archive.infolist()
        if len(found) > most:
            raise NotUnpacked(f"holds {len(found):,} files, more than {most:,}")
        for member in found:
            if not member.is_dir():
                yield archive, member


def path_of(member: zipfile.ZipInfo) -> PurePosixPath:
    """Where a member belongs. Raises NotUnpacked for what leads elsewhere or does not print."""
    name = member.filename
    if not member.flag_bits & 0x800:  # said to be in DOS' own letters, but macOS writes UTF-8
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not is_shown_as_it_is(name):
        raise NotUnpacked("has a path that leads elsewhere, or a name that does not print")
    return path


def is_shown_as_it_is(name: str) -> bool:
    return plain(name, lines=False) == name


def unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    """What a member holds. Raises NotUnpacked."""
    try:
        with archive.open(member) as opened:  # unpacks no more than is read
            content = opened.read(most + 1)
    except Exception as error:
        raise NotUnpacked(f"cannot be unpacked ({_said(error)})") from None
    if len(content) > most:
        raise NotUnpacked("is too large")
    return content


def _said(error: Exception) -> str:
    return plain(error, lines=False)[:100] or type(error).__name__
