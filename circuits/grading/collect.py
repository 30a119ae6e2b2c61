"""Collecting what a learning platform gives for download: `nbgrader zip_collect` uses it.

Unpacking has bounds: of an archive only notebooks are taken, each no larger than one may be. A zip bomb,
a link or a path that leads elsewhere costs a warning, not the disk. Whose a notebook is stands in its path,
as Canvas and Moodle write it or as people do.
"""

import io
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO

from nbgrader.plugins import ExtractorPlugin, FileNameCollectorPlugin

from circuits.chapters import Chapter
from circuits.console import plain
from circuits.grading import archives, submissions
from circuits.grading.archives import MAX_NOTEBOOK, NotUnpacked

MAX_ARCHIVE = 4 * 1024**3  # bytes that come out of one archive
MAX_MEMBERS = 100_000
MAX_NESTED = 64 * 1024**2  # bytes of a zip in a zip: platforms pack one for each student


class BoundedExtractor(ExtractorPlugin):
    """Copies notebooks, and unpacks the notebooks of zip files, of zip files in zip files too."""

    def extract(self, archive_path: str, extracted_path: str) -> None:
        for place, _, names in os.walk(archive_path):
            for name in sorted(names):
                file = Path(place, name)
                at = file.relative_to(archive_path)
                if archives.is_kept_by_a_program(at):
                    continue
                to = Path(extracted_path) / at
                if file.is_symlink() or not file.is_file():
                    self._skip(file, "is a link or no ordinary file")
                elif not archives.is_shown_as_it_is(str(at)):
                    self._skip(file, "has a name that harms terminals: rename it")
                elif archives.is_notebook(name):
                    if file.stat().st_size > MAX_NOTEBOOK:
                        self._skip(file, "is too large for a notebook")
                    else:
                        self._write(to, file.read_bytes())
                elif archives.is_zip(name):
                    self._unpack(file, to.with_suffix(""))
                else:
                    self._skip(file, "is neither a notebook nor a zip file")

    def _unpack(self, file: Path, to: Path) -> None:
        left = MAX_ARCHIVE
        with file.open("rb") as opened:
            for name, content in self._notebooks(opened, str(file)):
                left -= len(content)
                if left < 0:
                    self._skip(file, f"holds more than {MAX_ARCHIVE >> 30} GB: the rest was left out")
                    return
                self._write(to / name, content)

    def _notebooks(self, file: IO[bytes], shown: str, nested: bool = False) -> Iterator[tuple[str, bytes]]:
        """Path and content of the notebooks in a zip file. What is wrong with one member, or one
        inner zip file, costs that one."""
        try:
            for archive, member in archives.members(file, MAX_MEMBERS):
                try:
                    yield from self._notebooks_of(archive, member, shown, nested)
                except NotUnpacked as problem:
                    self._skip(member.filename, f"in {shown} {problem}")
        except NotUnpacked as problem:
            self._skip(shown, str(problem))

    def _notebooks_of(self, archive, member, shown: str, nested: bool) -> Iterator[tuple[str, bytes]]:
        path = archives.path_of(member)
        if archives.is_kept_by_a_program(path):
            return
        if archives.is_notebook(path.name):
            yield str(path), archives.unpacked(archive, member, MAX_NOTEBOOK)
        elif archives.is_zip(path.name) and not nested:
            inner = io.BytesIO(archives.unpacked(archive, member, MAX_NESTED))
            for name, content in self._notebooks(inner, f"{shown}/{path}", nested=True):
                yield str(path.with_suffix("") / name), content

    def _write(self, file: Path, content: bytes) -> None:
        if file.suffix != ".ipynb":  # `.IPYNB`, or `.ipynb.txt`: nbgrader passes them by
            file = file.with_name(f"{file.name}.ipynb")
        if file.exists() and file.read_bytes() != content:  # in a zip file and in a folder called like it
            self._skip(file, "is there twice: take one out of the download, or rename it")
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def _skip(self, what: str | Path, why: str) -> None:
        self.log.warning("Skipped: %s %s", plain(what, lines=False), plain(why, lines=False))


# Whose it is --------------------------------------------------------------------------------

# What Moodle puts before a file's name, or calls the folder: `Anna Lee_101_assignsubmission_file_`. The number is
# another in every assignment; a team's may lack it.
_MOODLE = re.compile(r"(?P<name>[^/]+?)(?:_(?P<number>\d+))?_assignsubmission_file(?:_(?P<file>.*))?\Z")
# Canvas: `leeanna_12345_67890_bigrams-1.ipynb`, `leeanna_LATE_12345_67890_bigrams.ipynb`, and without names
# `anon_x7Yz2_67890_bigrams.ipynb`. The first number is the student's, in every assignment; the second the file's.
_CANVAS = re.compile(r"(?P<name>[^\W\d_][^/\s]*?)_(?:LATE_|late_)?(?P<number>\d{2,})_\d{2,}_(?P<file>.+)\Z")
_CANVAS_ANONYMOUS = re.compile(r"(?:LATE_)?(?P<name>anon)_(?P<number>[^\W_]{5})_\d+_(?P<file>.+)\Z")


@dataclass(frozen=True)
class _Whose:
    """Whose a notebook is, by its path, and what the student called it."""

    name: str
    file: str
    number: str | None = None
    stays: bool = False  # whether the number is the student's in every assignment


def whose(path: PurePosixPath, chapter: Chapter) -> _Whose | None:
    """Whose a notebook is, by its path in a download. None: it does not say."""
    for i, part in enumerate(path.parts):
        for pattern in (_MOODLE, _CANVAS_ANONYMOUS, _CANVAS):
            match = pattern.match(part)
            if match and not archives.is_named_for(match["name"], chapter):
                file = "/".join(filter(None, (match["file"], *path.parts[i + 1:])))
                return _Whose(match["name"], file, match["number"], stays=pattern is not _MOODLE)
    if len(path.parts) > 1:
        return _Whose(path.parts[0], "/".join(path.parts[1:]))
    number, *words = map(re.escape, chapter.name.split("_"))
    named = rf"(?:{number}[-_ .])?{'[-_ .]?'.join(words)}"
    match = re.match(rf"(?P<name>.*?[^-_ .])[-_ .]+(?P<file>{named}.*)\Z", path.name, re.IGNORECASE)
    if match and not re.match(named, path.name, re.IGNORECASE):
        return _Whose(match["name"], match["file"])
    return None


class StudentsByPath(FileNameCollectorPlugin):
    """Tells whose a notebook is from where it stands in a download; by a pattern of the instructor's own
    (`named_regexp`), if there is one."""

    def collect(self, submitted_file: str) -> dict[str, str] | None:
        if self.named_regexp:
            found = super().collect(submitted_file)
        else:
            found = self._found.get(Path(submitted_file))
        if not found:
            self.log.warning(
                "Skipped: %s does not say whose it is; put it into a folder called after the student",
                submitted_file,
            )
            return None
        try:
            submissions.check_student(found["student_id"])
        except submissions.Refused as refusal:
            self.log.warning("Skipped: %s of %r: %s", submitted_file, found["student_id"], refusal)
            return None
        return found

    @cached_property
    def _found(self) -> dict[Path, dict[str, str]]:
        """Student, and path in the student's folder, of every notebook that was unpacked, as nbgrader wants it."""
        extracted = Path(self.parent._format_collect_path(self.parent.extracted_directory))
        chapter = Chapter(self.parent.coursedir.assignment_id, Path(self.parent.coursedir.root))
        paths = {file: PurePosixPath(file.relative_to(extracted)) for file in sorted(extracted.rglob("*.ipynb"))}
        known = {file: by for file, path in paths.items() if (by := whose(path, chapter))}
        numbers = defaultdict(set)
        for by in known.values():
            numbers[submissions.as_typed(by.name)].add(by.number)
        by_student = defaultdict(list)
        for file, by in known.items():
            student = submissions.as_typed(by.name)
            if by.number and (by.stays or len(numbers[student]) > 1):  # two of the same name
                student = f"{student}_{by.number}"
            by_student[student].append((file, PurePosixPath(by.file).name, by.file, str(paths[file])))
        found = {}
        for student, files in by_student.items():
            _, *ways = zip(*files, strict=True)  # as short as tells one from the other
            names = next(way for way in ways if len({*way}) == len(way))
            found |= {of[0]: {"student_id": student, "file_id": n} for of, n in zip(files, names, strict=True)}
        return found
