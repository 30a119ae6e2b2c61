"""Unpacking what a learning platform gives for download, with bounds: `nbgrader zip_collect` uses it.

Of an archive only notebooks are taken, each no larger than one may be. A zip bomb, a link or a path
that leads elsewhere costs a warning, not the disk.
"""

import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nbgrader.plugins import ExtractorPlugin

from circuits.grading.submissions import MAX_NOTEBOOK

MAX_ARCHIVE = 4 * 1024**3  # bytes that come out of one archive
MAX_MEMBERS = 100_000
MAX_NESTED = 64 * 1024**2  # bytes of a zip in a zip: platforms pack one for each student


class BoundedExtractor(ExtractorPlugin):
    """Copies notebooks, and unpacks the notebooks of zip files, of zip files in zip files too."""

    def extract(self, archive_path: str, extracted_path: str) -> None:
        for place, _, names in os.walk(archive_path):
            for name in sorted(names):
                file = Path(place, name)
                to = Path(extracted_path) / file.relative_to(archive_path)
                if file.is_symlink() or not file.is_file():
                    self._skip(file, "is a link or no ordinary file")
                elif file.suffix == ".ipynb":
                    if file.stat().st_size > MAX_NOTEBOOK:
                        self._skip(file, "is too large for a notebook")
                    else:
                        _write(to, file.read_bytes())
                elif file.suffix == ".zip":
                    self._unpack(file, to.with_suffix(""))
                else:
                    self._skip(file, "is neither a notebook nor a zip file")

    def _unpack(self, file: Path, to: Path) -> None:
        left = MAX_ARCHIVE
        for name, content in self._notebooks(file, str(file)):
            left -= len(content)
            if left < 0:
                self._skip(file, f"holds more than {MAX_ARCHIVE >> 30} GB: the rest was left out")
                return
            _write(to / name, content)

    def _notebooks(
        self, file: Path | io.BytesIO, shown: str, nested: bool = False
    ) -> Iterator[tuple[str, bytes]]:
        """Path and content of the notebooks in a zip file. What is wrong with one member, or one
        inner zip file, costs that one."""
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError) as error:
            self._skip(shown, f"cannot be unpacked ({error})")
            return
        with archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                self._skip(shown, f"holds {len(members):,} files, more than {MAX_MEMBERS:,}")
                return
            for member in members:
                path = PurePosixPath(member.filename)
                limit = {".ipynb": MAX_NOTEBOOK, ".zip": 0 if nested else MAX_NESTED}.get(path.suffix, 0)
                if member.is_dir() or not limit:
                    continue
                if path.is_absolute() or ".." in path.parts or not member.filename.isprintable():
                    self._skip(ascii(member.filename), f"in {shown} has a path that leads elsewhere")
                    continue
                try:
                    with archive.open(member) as opened:  # unpacks no more than is read
                        content = opened.read(limit + 1)
                except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError) as error:
                    self._skip(member.filename, f"in {shown} cannot be unpacked ({error})")
                    continue
                if len(content) > limit:
                    self._skip(member.filename, f"in {shown} is too large")
                elif path.suffix == ".ipynb":
                    yield str(path), content
                else:
                    inner = self._notebooks(io.BytesIO(content), f"{shown}/{path}", nested=True)
                    for name, notebook in inner:
                        yield str(path.with_suffix("") / name), notebook

    def _skip(self, what: str | Path, why: str) -> None:
        self.log.warning("Skipped: %s %s", what, why)


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
