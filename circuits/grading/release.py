"""`nbgrader generate_assignment`, which loses nothing: what somebody has made stays, and the old release
until the new one is there."""

import tempfile
from pathlib import Path

from nbgrader.converters import GenerateAssignment
from nbgrader.converters.base import NbGraderException

from circuits.build import refuse_to_overwrite
from circuits.chapters import Chapter
from circuits.grading.autograde import bring_up_to_date
from utils.errors import CourseError
from utils.files import write_file


class SafeRelease(GenerateAssignment):
    """nbgrader's converter deletes the folder of a release, and whatever else is in it, before it makes
    another. This one makes it elsewhere."""

    def convert_notebooks(self) -> None:
        released = {folder: Path(self._format_dest(Path(folder).name, ".")) for folder in self.assignments}
        for folder, place in released.items():
            if place.exists() and not self.force:
                self.log.info("Skipping existing assignment: %s", place)
                del self.assignments[folder]
        try:
            refuse_to_overwrite(file for folder in self.assignments for file in released[folder].glob("*.ipynb"))
            if not self.no_database:
                for folder in self.assignments:
                    chapter = Chapter(Path(folder).name, Path(self.coursedir.root))
                    bring_up_to_date(self.coursedir, chapter, self.log)
        except CourseError as error:
            self.log.error(str(error))
            raise NbGraderException(str(error)) from None
        before = self.coursedir.release_directory
        with tempfile.TemporaryDirectory(prefix="circuits-release-") as elsewhere:
            self.coursedir.release_directory = elsewhere
            try:
                super().convert_notebooks()
                made = {place: Path(self._format_dest(Path(f).name, ".")) for f, place in released.items()}
            finally:
                self.coursedir.release_directory = before
            for place, new in made.items():
                for file in (f for f in new.rglob("*") if f.is_file()):
                    to = place / file.relative_to(new)
                    write_file(to, file.read_bytes())
                    to.chmod(file.stat().st_mode)
