"""Collecting a folder of downloads with `nbgrader zip_collect`: notebooks come in, bombs do not."""

import io
import json
import os
import unicodedata
import zipfile
from pathlib import Path, PurePosixPath

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


# Where a notebook stands in a download: whose it is, the number that tells students of one name apart, and what
# the student called it.
PATHS = {
    # Moodle: folders (with and without the last underscore), files, teams, without names
    "Anna Lee_101_assignsubmission_file_/bigrams.ipynb": ("Anna Lee", "101", "bigrams.ipynb"),
    "Anna Lee_101_assignsubmission_file/bigrams-1.ipynb": ("Anna Lee", "101", "bigrams-1.ipynb"),
    "class/José O'Brien-Lee_7_assignsubmission_file_/hand in/my_bigrams.ipynb": (
        "José O'Brien-Lee", "7", "hand in/my_bigrams.ipynb"),
    "Anna Lee_101_assignsubmission_file_bigrams (1).ipynb": ("Anna Lee", "101", "bigrams (1).ipynb"),
    "Anna Lee_101_assignsubmission_file_work/bigrams.ipynb": ("Anna Lee", "101", "work/bigrams.ipynb"),  # a zip file
    "Group A_5_assignsubmission_file_/bigrams.ipynb": ("Group A", "5", "bigrams.ipynb"),
    "Default group_assignsubmission_file_/bigrams.ipynb": ("Default group", None, "bigrams.ipynb"),
    "Participant_12_assignsubmission_file_/bigrams.ipynb": ("Participant", "12", "bigrams.ipynb"),
    # Canvas: on time, late, handed in again, any script, without names, in one zip file
    "leeanna_12345_67890_bigrams.ipynb": ("leeanna", "12345", "bigrams.ipynb"),
    "leeanna_LATE_12345_67890_bigrams-1.ipynb": ("leeanna", "12345", "bigrams-1.ipynb"),
    "leeanna_late_12345_67890_my_2_bigrams.ipynb": ("leeanna", "12345", "my_2_bigrams.ipynb"),
    "शर्माअनिल_12345_67890_bigrams.ipynb": ("शर्माअनिल", "12345", "bigrams.ipynb"),
    "anon_x7Yz2_67890_bigrams.ipynb": ("anon", "x7Yz2", "bigrams.ipynb"),
    "LATE_anon_x7Yz2_67890_bigrams.ipynb": ("anon", "x7Yz2", "bigrams.ipynb"),
    "submissions/leeanna_12345_67890_hw.ipynb": ("leeanna", "12345", "hw.ipynb"),
    "leeanna_12345_67890_work/bigrams.ipynb": ("leeanna", "12345", "work/bigrams.ipynb"),  # a zip file
    # People
    "anna_bigrams.ipynb": ("anna", None, "bigrams.ipynb"),
    "anna_lee_bigrams.ipynb": ("anna_lee", None, "bigrams.ipynb"),
    "anna_fox_bigrams.ipynb": ("anna_fox", None, "bigrams.ipynb"),
    "Anna Lee - Bigrams (1).ipynb": ("Anna Lee", None, "Bigrams (1).ipynb"),
    "anna_1_bigrams.ipynb": ("anna", None, "1_bigrams.ipynb"),
    "ben/bigrams.ipynb": ("ben", None, "bigrams.ipynb"),
    "ben/final_bigrams-Copy1.ipynb": ("ben", None, "final_bigrams-Copy1.ipynb"),
    "ben/bigrams_2026_12_final.ipynb": ("ben", None, "bigrams_2026_12_final.ipynb"),
    "ben/2026_11_27_bigrams.ipynb": ("ben", None, "2026_11_27_bigrams.ipynb"),
    # It does not say
    "bigrams.ipynb": None,
    "1_bigrams.ipynb": None,
    "bigrams_anna.ipynb": None,
    "Untitled.ipynb": None,
}


@pytest.mark.parametrize("path", PATHS)
def test_whose_a_notebook_is_stands_in_its_path(path):
    from circuits.grading.collect import whose

    by = whose(PurePosixPath(path), CHAPTER)
    assert (by and (by.name, by.number, by.file)) == PATHS[path]


def test_a_chapters_name_of_several_words():
    from circuits.grading.collect import whose

    for name in ("skip_trigrams", "Skip-Trigrams (1)", "skip trigrams"):
        by = whose(PurePosixPath(f"anna_lee_{name}.ipynb"), Chapter("2_skip_trigrams"))
        assert (by.name, by.file) == ("anna_lee", f"{name}.ipynb")


@pytest.mark.proof
def test_downloads_of_canvas_and_moodle_are_taken_as_they_are(nbgrader, downloads):
    """Two students of one name are two; nobody's second notebook is lost; what belongs to nobody is told."""
    decomposed = unicodedata.normalize("NFD", "José")
    mac = zipped({f"{decomposed}_103_assignsubmission_file_/{NAME}": NOTEBOOK, f"__MACOSX/x/._{NAME}": b"\0"})
    mac = bytearray(mac)
    for start, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # macOS does not say that it writes UTF-8
        mac[mac.index(start) + flags + 1] &= ~0x08
    (downloads / "from a mac.zip").write_bytes(mac)
    (downloads / "moodle.zip").write_bytes(zipped({
        f"Anna Lee_101_assignsubmission_file_/{NAME}": NOTEBOOK,
        "Ben Ode_102_assignsubmission_file_/a/Bigrams.IPYNB": NOTEBOOK,
        "Ben Ode_102_assignsubmission_file_/b/Bigrams.IPYNB": NOTEBOOK,
        f"Wei Li_104_assignsubmission_file_/{NAME}": NOTEBOOK,
        f"Wei Li_105_assignsubmission_file_/{NAME}": NOTEBOOK,
        f"=cmd_106_assignsubmission_file_/{NAME}": NOTEBOOK,
    }))
    (downloads / "submissions.zip").write_bytes(zipped({
        "foxcleo_LATE_12345_67890_bigrams-1.ipynb": NOTEBOOK,
        "foxcleo_12346_67891_bigrams.ipynb": NOTEBOOK,
    }))
    for name in (f"anna_lee_{NAME}", f"anna_fox_{NAME}", NAME, f"a\x1b[2J_{NAME}"):
        (downloads / name).write_bytes(NOTEBOOK)
    printed = nbgrader(downloads.parents[2], "zip_collect", CHAPTER.name)
    submitted = downloads.parents[2] / "submitted"
    assert sorted(os.listdir(submitted)) == sorted((
        "Anna Lee", "Ben Ode", "José", "Wei Li_104", "Wei Li_105", "anna_fox", "anna_lee", "foxcleo_12345",
        "foxcleo_12346",
    ))
    for student in os.listdir(submitted):
        if student == "Ben Ode":
            with pytest.raises(submissions.Refused, match="there are a/Bigrams.IPYNB.ipynb and b/Bigrams.IPYNB.ipynb"):
                submissions.read(submitted, student, CHAPTER)
        else:
            assert submissions.read(submitted, student, CHAPTER)
    skipped = [line for line in printed.splitlines() if "Skipped:" in line]
    assert len(skipped) == 3 and "Traceback" not in printed
    for words in (f"extracted/{NAME} does not say whose it is", "of '=cmd': the student's name", "[2J"):
        assert any(words in line for line in skipped), words
    assert "\x1b[2J" not in printed


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
