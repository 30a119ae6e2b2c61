"""nbgrader's settings for this course: read by every `nbgrader` command run in this folder."""

import os
import sys

from utils.build import write_sources

c = get_config()  # noqa: F821  (nbgrader provides it)

# nbgrader calls the `alembic` beside it by name, which fails unless the environment is activated.
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")

c.CourseDirectory.course_id = "circuits"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "notebooks"
# nbgrader copies every other file beside a source notebook to students: not the answers.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "__pycache__", "*.pyc", "*.py", "*.part"]

# Only what the checks need is executed: set-up, exercises and checks, not demonstrations.
c.Autograde.autograde_preprocessors = [
    "utils.grading.execute_answers.ExecuteAnswers",
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.ExecuteAnswers.timeout = 60  # seconds a cell

# nbgrader releases notebooks; the course is written in text. Make the one from the other.
write_sources()
