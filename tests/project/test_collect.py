"""Collecting a folder of downloads with `nbgrader zip_collect`: notebooks come in, bombs do not."""

import io
import json
import os
import zipfile
from pathlib import Path

import pytest
from conftest import answered

from circuits.chapters import Chapter
from circuits.grading import submissions

CHAPTER = Chapter("1_bigrams")
NOTEBOOK = json.dumps(answered(CHAPTER, {})).encode()
NAME = CHAPTER.notebook.name


def zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.fixture
def downloads(tmp_path, course):
    """An empty folder for downloads, beside what a course needs."""
    for name in ("nbgrader_config.py", "notebooks", "solutions", "tests"):
        (tmp_path / name).symlink_to(course / name)
    folder = tmp_path / "downloaded" / CHAPTER.name / "archive"
    folder.mkdir(parents=True)
    return folder


def collect(nbgrader, downloads, *args) -> tuple[list[str], str]:
    """The students whose notebook was collected, and what nbgrader printed."""
    root = downloads.parents[2]
    printed = nbgrader(root, "zip_collect", CHAPTER.name, *args)
    found = (root / "submitted").glob(f"*/{CHAPTER.name}/{NAME}")
    return sorted(file.parts[-3] for file in found), printed


@pytest.mark.proof
def test_notebooks_named_by_student_and_folders_by_student(nbgrader, downloads):
    (downloads / f"anna_{NAME}").write_bytes(NOTEBOOK)
    (downloads / "ben").mkdir()
    (downloads / "ben" / NAME).write_bytes(NOTEBOOK)
    (downloads / "cleo.zip").write_bytes(zipped({f"hand in/{NAME}": NOTEBOOK, "photo.png": b"x"}))
    students, _ = collect(nbgrader, downloads)
    assert students == ["anna", "ben", "cleo"]
    cells = submissions.read(downloads.parents[2] / "submitted", "cleo", CHAPTER)
    assert {cell.exercise for cell in cells} == set(CHAPTER.exercise_names)


@pytest.mark.proof
def test_one_zip_of_a_class_with_zips_in_it(nbgrader, downloads):
    inner = zipped({NAME: NOTEBOOK})
    packed = {f"Anna Lee_101_assignsubmission_file_/{NAME}": NOTEBOOK, "Ben Ode_102_file_/work.zip": inner}
    (downloads / "class.zip").write_bytes(zipped(packed))
    pattern = r".*/class/(?P<student_id>[^/_]+)_[^/]*/(?:.*/)?(?P<file_id>\w+)\.ipynb"
    students, _ = collect(nbgrader, downloads, f"--FileNameCollectorPlugin.named_regexp={pattern}")
    assert students == ["Anna Lee", "Ben Ode"]


@pytest.mark.proof
def test_bombs_links_and_paths_that_lead_elsewhere_are_skipped_with_a_line_each(nbgrader, downloads):
    bomb = zipped({NAME: bytes(300 * 1024**2)})
    assert len(bomb) < 1024**2
    (downloads / "bomb.zip").write_bytes(bomb)
    (downloads / "nested.zip").write_bytes(zipped({"bomb.zip": bomb, "broken.zip": b"PK", f"in/{NAME}": NOTEBOOK}))
    (downloads / "escape.zip").write_bytes(zipped({f"../../../../outside/{NAME}": NOTEBOOK}))
    (downloads / "broken.zip").write_bytes(b"PK\x03\x04 and then nothing")
    (downloads / f"huge_{NAME}").write_bytes(b" " * (submissions.MAX_NOTEBOOK + 1))
    os.symlink("/etc/passwd", downloads / f"link_{NAME}")
    (downloads / f"anna_{NAME}").write_bytes(NOTEBOOK)
    students, printed = collect(nbgrader, downloads)
    assert students == ["anna", "nested"]
    skipped = [line for line in printed.splitlines() if "Skipped:" in line]
    for name in ("bomb.zip", "escape.zip", "broken.zip", f"huge_{NAME}", f"link_{NAME}"):
        assert any(name in line for line in skipped), (name, skipped)
    root = downloads.parents[2]
    assert not list(root.parent.glob("outside")) and not list(root.rglob("outside"))
    assert sum(f.stat().st_size for f in Path(root, "downloaded").rglob(NAME)) < 10 * 1024**2
