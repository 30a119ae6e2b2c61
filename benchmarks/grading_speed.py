"""Grading: plain `nbgrader autograde` beside `circuits grade`, on the same twenty submissions.

    python benchmarks/grading_speed.py            # a few minutes

Two assignments: one exercise, and all of chapter 1. Every submission imports torch and has right
answers. Plain nbgrader runs set-up, exercise and check cells in one kernel and gets a notebook
with nothing else in it, so that both sides do the same work. "Executing" is the step that runs
code: nbgrader's `Execute`, timed inside; here the processes that grade, without their start.
"""

import argparse
import ast
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from circuits.chapters import ROOT, Chapter, answer_cells, exercise_of
from circuits.grading.batch import LocalGraders
from circuits.grading.grader import Job
from circuits.grading.submissions import Cell

N = 20
CHAPTER = "1_bigrams"

PLAIN_CONFIG = '''
c = get_config()
import os, sys
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
c.CourseDirectory.course_id = "circuits"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "notebooks"
c.CourseDirectory.ignore = ["*.py", "__pycache__"]
c.ExecutePreprocessor.timeout = 120
from nbgrader.preprocessors import Execute
import time
def timed(self, nb, resources, run=Execute.preprocess):
    start = time.perf_counter()
    try:
        return run(self, nb, resources)
    finally:
        with open("executing.txt", "a") as file:
            print(time.perf_counter() - start, file=file)
if Execute.preprocess.__name__ != "timed":  # this file is read more than once
    Execute.preprocess = timed
'''


def course(root: Path, exercises: list[str]) -> Chapter:
    """A course of one chapter with these exercises, and twenty perfect submissions."""
    source = Chapter(CHAPTER).source.read_text("utf-8")
    kept = []
    for cell in source.split("\n# %%")[1:]:
        head = cell.splitlines()[0]
        name = head.split('="')[-1].rstrip('"')
        if 'tags=["setup"]' in head or (('exercise="' in head or 'check="' in head) and name in exercises):
            kept.append("# %%" + cell)
    file = root / "solutions" / CHAPTER / Chapter(CHAPTER).source.name
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(kept) + "\n")
    shutil.copytree(ROOT / "tests", root / "tests", ignore=shutil.ignore_patterns("project", "__pycache__"))
    checks = root / "tests" / "checks" / Chapter(CHAPTER).checks_file.name
    tree = ast.parse(checks.read_text("utf-8"))
    tree.body = [
        node for node in tree.body
        if not getattr(node, "decorator_list", None) or node.decorator_list[0].args[0].value in exercises
    ]
    checks.write_text(ast.unparse(tree))
    shutil.copy(ROOT / "nbgrader_config.py", root)
    run(root, "nbgrader", "generate_assignment", CHAPTER, "--force")
    chapter = Chapter(CHAPTER, root)
    answers = dict(answer_cells(chapter.source))
    for i in range(N):
        notebook = json.loads(chapter.notebook.read_text("utf-8"))
        for cell in notebook["cells"]:
            if exercise_of(cell) in answers:
                cell["source"] = f"# student {i}\n{answers[exercise_of(cell)]}"
        handed_in = root / "submitted" / f"student-{i}" / CHAPTER / chapter.notebook.name
        handed_in.parent.mkdir(parents=True)
        handed_in.write_text(json.dumps(notebook))
    return chapter


def run(root: Path, module: str, *args: str) -> float:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", module, *args], cwd=root, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - start


def marks(root: Path) -> list[str]:
    run(root, "nbgrader", "export")
    return sorted((root / "grades.csv").read_text().splitlines())


def compare(title: str, exercises: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = Path(folder, "ours"), Path(folder, "plain")
        chapter = course(ours, exercises)
        shutil.copytree(ours, plain)
        (plain / "nbgrader_config.py").write_text(PLAIN_CONFIG)

        plain_whole = run(plain, "nbgrader", "autograde", CHAPTER)
        plain_executing = sum(map(float, (plain / "executing.txt").read_text().split()))
        ours_whole = run(ours, "circuits.cli", "grade", CHAPTER)

        cells = [Cell(name, code) for name, code in answer_cells(chapter.source) if name != "setup"]
        graders = LocalGraders(chapter)
        for grader in graders.graders:
            grader.start()
            grader.grade(Job(CHAPTER, cells, 0, ours))  # the checks are loaded at the first
        start = time.perf_counter()
        for _, graded in graders([(str(i), Job(CHAPTER, cells, i, ours)) for i in range(N)]):
            assert graded.points == sum(chapter.exercises.values())
        ours_executing = time.perf_counter() - start
        graders.close()

        assert [row.split(",")[-2:] for row in marks(plain)] == [row.split(",")[-2:] for row in marks(ours)]
    print(f"{title}, {N} submissions")
    for step, a, b in (("executing", plain_executing, ours_executing), ("whole run", plain_whole, ours_whole)):
        print(f"  {step}: plain nbgrader {a / N:.2f} s each, ours {b / N:.3f} s each: {a / b:.0f} times")


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    names = Chapter(CHAPTER).exercise_names
    compare(f"one exercise ({names[0]})", [names[0]])
    compare(f"chapter 1, all {len(names)} exercises", list(names))


if __name__ == "__main__":
    main()
