"""nbgrader's settings for this course: read by every `nbgrader` command run in this folder."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from circuits.build import write_sources
from circuits.grading.autograde import install

c = get_config()  # noqa: F821  (nbgrader provides it)

# nbgrader calls the `alembic` beside it by name, which fails unless the environment is activated.
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")

c.CourseDirectory.course_id = "circuits"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "notebooks"
# nbgrader copies every other file beside a source notebook to students: not the answers.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "__pycache__", "*.pyc", "*.py", "*.part"]

# A submission's code is called in a sandbox, and judged outside it: docs/instructors.md.
install()
# (nbgrader's other preprocessors tidy up what a kernel left and a student wrote: here is neither.)
c.Autograde.autograde_preprocessors = [
    "circuits.grading.autograde.GradeAnswers",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
]

# `nbgrader zip_collect` takes notebooks from downloads, and nothing that could fill the disk.
c.ZipCollectApp.extractor_plugin = "circuits.grading.collect.BoundedExtractor"
# Canvas' and Moodle's names, STUDENT_bigrams.ipynb, STUDENT/...; docs/instructors.md has more.
c.ZipCollectApp.collector_plugin = "circuits.grading.collect.StudentsByPath"

# nbgrader's own table has no quotes, and formulas.
c.ExportApp.plugin_class = "circuits.grading.export.QuotedCsv"

# nbgrader releases notebooks; the course is written in text. Make the one from the other.
with suppress(OSError):  # whoever may only read this folder releases nothing
    write_sources(Path(__file__).parent)
