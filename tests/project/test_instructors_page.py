"""`docs/instructors.md` is true: its commands run, in its order, from an empty folder to marks."""

import csv
import getpass
import os
import re
import subprocess
import zipfile

import pytest
from conftest import PATIENCE, reference

from circuits.chapters import ROOT, Chapter, chapters

PAGE = (ROOT / "docs" / "instructors.md").read_text("utf-8")


def commands() -> str:
    """The page's shell blocks, but for those that say why they are not run."""
    blocks = re.findall(r"(<!-- not run: [^>]+ -->\n)?```bash\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) > 12
    return "\n".join(block for not_run, block in blocks if not not_run)


@pytest.mark.proof
def test_the_page_runs_from_an_empty_folder_to_exported_marks(tmp_path):
    root = tmp_path / "class"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(root)], check=True)
    # Set up it is already: CI makes an environment of its own before it runs this, and a second one takes minutes.
    (root / ".venv").symlink_to(ROOT / ".venv")
    for name in ("pyproject.toml", "constraints.txt", "tools/setup"):
        os.utime(root / name, (0, 0))
    script = "set -euo pipefail\n" + commands()
    done = subprocess.run(["bash", "-c", script], cwd=root, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Anna Lee" in done.stdout + done.stderr or "Lee, Anna" in done.stdout + done.stderr
    with open(root / "grades.csv") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file) if row["assignment"] == "1_bigrams"}
    exchange = getpass.getuser()  # who handed in through the exchange
    assert set(rows) == {"anna", "ben", "Cleo Fox", exchange}
    assert float(rows["anna"]["score"]) == 2, "the mark that the page overrides"
    assert {float(rows[s]["score"]) for s in ("ben", "Cleo Fox", exchange)} == {0}, "nothing was answered"
    assert {float(row["max_score"]) for row in rows.values()} == {sum(Chapter("1_bigrams").exercises.values())}
    for student in rows:
        page = root / "feedback" / student / "1_bigrams" / "bigrams.html"
        assert "is not written yet" in page.read_text("utf-8")
    with open(root / "grades-1_bigrams.csv") as file:
        assert {row["student"] for row in csv.DictReader(file)} == set(rows)
    assert list((root / "exchange" / "circuits" / "feedback").glob("*.html")), "released"
    (wheel,) = (root / "dist").glob("circuits-*+students-py3-none-any.whl")
    check_no_answer_leaks(wheel)


def check_no_answer_leaks(archive) -> None:
    """What students are given holds the notebooks and the checks, and no right answer."""
    with zipfile.ZipFile(archive) as packed:
        names = packed.namelist()
        files = {n: packed.read(n).decode("utf-8", "ignore") for n in names if n.endswith((".py", ".ipynb"))}
    text = "\n".join(files.values())
    assert "circuits/course/notebooks/1_bigrams/bigrams.ipynb" in names
    assert "circuits/course/tests/checks/test_bigrams.py" in names and "utils/model.py" in names
    assert not [name for name in names if "solutions/" in name or "variants/" in name]
    # (What makes releases knows the mark; no chapter, check or mistake has it.)
    assert [n for n, code in files.items() if "### BEGIN SOLUTION" in code and n.startswith(("circuits/course/", "utils/"))] == []
    for chapter in chapters():
        for code in reference(chapter).values():  # a mistake may share lines with it, not all of them
            assert code.split("### BEGIN SOLUTION")[1].split("### END SOLUTION")[0] not in text
