"""What learners really hand in: a grader gives what `check` gave in the same notebook, or says why not."""

import asyncio
import copy
import json
import random
import re
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import nbformat
import pytest
import torch
from conftest import PATIENCE, answered, hand_in, reference
from nbclient import NotebookClient

from circuits.cells import cell_namespace, run_cell
from circuits.chapters import Chapter, exercise_of, is_setup, load_answers, read_cells, source
from circuits.checking import Submission
from circuits.grading import submissions
from circuits.grading.batch import Batch, LocalGraders
from circuits.grading.grader import Graded, Grader, Job
from circuits.judging import run_checks

CHAPTER = Chapter("1_bigrams")
ANSWERS = reference(CHAPTER)
COUNTS, PATH = "bigram_counts", "direct_path"  # the exercises that are answered here
BODY = "return W_E @ W_U"
MAX = CHAPTER.exercises

# A submission's notebook as its cells: each an exercise's (with its name), or the learner's own.


@dataclass
class Case:
    """An edit of a solved notebook."""

    edit: Callable[[dict], None]
    lost: tuple[str, ...] = ()  # exercises that get nothing, in the notebook too
    says: tuple[str, ...] = ()  # in the grader's report
    only_graded: tuple[str, ...] = field(default=())  # what the notebook gives nothing for, and the grader says so


CASES: list[Case] = []


def case(**expected):
    def add(edit):
        CASES.append(Case(edit, **expected))
        return edit

    return add


def cell_of(notebook: dict, name: str) -> dict:
    return next(c for c in notebook["cells"] if exercise_of(c) == name)


def own(notebook: dict, code: str, before: str | None = None) -> None:
    """A cell of the learner's own, before an exercise's cell or at the end."""
    cells = notebook["cells"]
    at = len(cells) if before is None else cells.index(cell_of(notebook, before))
    cells.insert(at, {"cell_type": "code", "metadata": {}, "source": code, "outputs": [], "execution_count": None})


def path(body: str) -> str:
    return f"def {PATH}(W_E, W_U):\n    {body}\n"


@case()
def a_helper_a_constant_and_an_import_in_cells_of_their_own(notebook):
    own(notebook, "import numpy as np\nONE = 1", PATH)
    own(notebook, "def product(a, b):\n    return int(np.int64(ONE)) * a @ b", PATH)
    cell_of(notebook, PATH)["source"] = path("return product(W_E, W_U)")


@case()
def a_constant_in_the_edited_set_up_cell(notebook):
    cell = next(c for c in notebook["cells"] if is_setup(c))
    cell["source"] = source(cell) + "\nimport operator as op\nHALF = 0.5"
    cell_of(notebook, PATH)["source"] = path("return op.matmul(W_E, W_U) * 2 * HALF")


@case()
def a_helper_below_a_figure_of_what_is_not_here(notebook):
    not_here = "1 / (type(get_ipython()).__name__ != '_NoShell')"  # a figure of the chapter's model, say
    own(notebook, f"{not_here}\ndef product(a, b):\n    return a @ b", PATH)
    cell_of(notebook, PATH)["source"] = path("return product(W_E, W_U)")


@case()
def a_helper_after_a_search_that_takes_long(notebook):
    times = "10**12 if type(get_ipython()).__name__ == '_NoShell' else 10"  # long where it is graded only
    own(notebook, f"for i in range({times}):\n    pass\ndef product(a, b):\n    return a @ b", PATH)
    cell_of(notebook, PATH)["source"] = path("return product(W_E, W_U)")


@case()
def magics_and_shell_commands(notebook):
    own(notebook, "files = !ls\nt = %timeit -o -n1 -r1 1 + 1\nlen?\n?len\ndisplay(files)\nget_ipython()", PATH)
    own(notebook, "%%bash\nls")
    cell_of(notebook, PATH)["source"] = "import asyncio\nawait asyncio.sleep(0)\n" + path(f"display(1)\n    {BODY}")


@case()
def a_percent_sign_in_a_string(notebook):
    text = "\n'''\n%timeit\n'''\nrest = (7\n % 4)\nassert rest == 3\n%matplotlib inline\n"
    cell_of(notebook, PATH)["source"] = text + path(BODY)


@case()
def a_copied_cell_of_which_the_first_raises(notebook):
    again = copy.deepcopy(cell_of(notebook, PATH))
    again["id"] = "copied"
    cell_of(notebook, PATH)["source"] = "from __future__ import annotations\nraise ValueError('not yet')\n" + path("pass")
    again["source"] = "from __future__ import annotations\n" + path(BODY)
    notebook["cells"].insert(notebook["cells"].index(cell_of(notebook, PATH)) + 1, again)


@case()
def a_copied_cell_of_which_the_first_does_not_compile(notebook):
    again = copy.deepcopy(cell_of(notebook, PATH))
    again["id"] = "copied"
    cell_of(notebook, PATH)["source"] = f"def {PATH}(W_E, W_U:\n    return 0"
    again["source"] = path(BODY)
    notebook["cells"].insert(notebook["cells"].index(cell_of(notebook, PATH)) + 1, again)


@case()
def a_function_where_the_program_is_asked_for(notebook):
    code = path(BODY).replace("\n    ", "\n        ")
    cell_of(notebook, PATH)["source"] = f"if __name__ == '__main__':\n    {code}"


@case()
def a_dataclass_beside_postponed_annotations(notebook):
    own(notebook, "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Pair:\n    a: Tensor", PATH)
    own(notebook, "import typing\ntyping.get_type_hints(Pair)", PATH)
    cell_of(notebook, PATH)["source"] = (
        f"def {PATH}(W_E: not_defined_anywhere, W_U):\n    return Pair(W_E).a @ W_U"
    )


@case()
def no_annotations_and_floats_where_counts_are_whole(notebook):
    cell_of(notebook, COUNTS)["source"] = (
        f"def {COUNTS}(tokens, d_vocab):\n    table = torch.zeros(d_vocab, d_vocab, dtype=torch.int64)\n"
        "    for a, b in zip(tokens[:-1], tokens[1:]):\n        table[a, b] += 1\n    return table"
    )


@case(lost=(COUNTS,), says=("`list` is not Python's own here",))
def a_name_of_pythons_own_is_taken(notebook):
    own(notebook, "list = [1, 2]", COUNTS)
    cell_of(notebook, COUNTS)["source"] = (
        f"def {COUNTS}(tokens, d_vocab):\n    pairs = list(zip(tokens[:-1].tolist(), tokens[1:].tolist()))\n"
        "    return torch.tensor([[pairs.count((a, b)) for b in range(d_vocab)] for a in range(d_vocab)])"
    )


@case(lost=(PATH,), says=("`product` is not defined",))
def a_helper_that_is_gone(notebook):
    cell_of(notebook, PATH)["source"] = path("return product(W_E, W_U)")


@case(lost=(PATH,))
def another_function_of_the_name_further_down(notebook):
    own(notebook, path("return W_E.T"))
    notebook["cells"] += [c for c in notebook["cells"] if f'check("{PATH}")' in source(c)]


@case()
def the_answer_in_a_cell_below_the_stub(notebook):
    stub = cell_of(json.loads(CHAPTER.notebook.read_text("utf-8")), PATH)
    at = notebook["cells"].index(cell_of(notebook, PATH))
    cell_of(notebook, PATH)["source"] = source(stub)
    notebook["cells"].insert(at + 1, {**copy.deepcopy(stub), "id": "own", "metadata": {}, "source": path(BODY)})


@case(says=("found by its name",))
def no_cell_says_any_more_whose_it_is(notebook):
    for cell in notebook["cells"]:
        cell["metadata"].pop("nbgrader", None)


@case(lost=(PATH,), says=("found in a cell of text",), only_graded=(PATH,))
def an_exercise_cell_turned_into_text(notebook):
    cell = cell_of(notebook, PATH)
    cell["cell_type"] = "markdown"
    del cell["outputs"], cell["execution_count"]


@case()
def settings_of_the_learners(notebook):
    own(notebook, "torch.set_grad_enabled(False)\ntorch.set_default_dtype(torch.float64)", COUNTS)
    own(notebook, "import warnings\nwarnings.simplefilter('error')", COUNTS)


# What is asked of them ----------------------------------------------------------------------


def solved() -> dict:
    """The release with the two answers."""
    return answered(CHAPTER, {name: ANSWERS[name] for name in (COUNTS, PATH)})


def edited(case: Case) -> dict:
    notebook = solved()
    case.edit(notebook)
    return notebook


def in_the_notebook(notebook: dict) -> dict[str, float]:
    """Points that the notebook's own checks show, without the chapter's demonstrations."""
    release = {source(c) for c in json.loads(CHAPTER.notebook.read_text("utf-8"))["cells"]}
    wanted = [f'check("{name}")' for name in (COUNTS, PATH)]
    notebook = copy.deepcopy(notebook)
    notebook["cells"] = [
        c for c in notebook["cells"]
        if is_setup(c) or exercise_of(c) in (COUNTS, PATH) or source(c) not in release
        or any(check in source(c) for check in wanted)
    ]  # fmt: skip
    nb = nbformat.reads(json.dumps(notebook), as_version=4)
    NotebookClient(nb, timeout=PATIENCE, kernel_name="python3", allow_errors=True).execute()
    points = {}
    for cell in nb.cells:
        if asked := re.search(r'check\("(\w+)"\)', source(cell)):
            shown = [o.data["text/plain"] for o in cell.get("outputs", []) if o.output_type == "execute_result"]
            points[asked[1]] = float(shown[0]) if shown else 0.0
    return points


@pytest.mark.proof
def test_circuits_grade_gives_what_the_notebook_gave(classroom, monkeypatch):
    """All of them, as a class."""
    monkeypatch.chdir(classroom)
    for case in CASES:
        hand_in(classroom, case.edit.__name__, CHAPTER, edited(case))
    batch = Batch(classroom, CHAPTER.name)
    graders = LocalGraders(Chapter(CHAPTER.name, classroom))
    found = {}

    def noted(jobs):
        for student, graded in graders(jobs):
            found[student] = graded
            yield student, graded

    rows = {row.student: row for row in batch.run(noted)}
    graders.close()
    different = {}
    for case in CASES:
        student = case.edit.__name__
        graded: Graded = found[student]
        got = {r.exercise: r.points for r in graded.results if r.exercise in (COUNTS, PATH)}
        shown = in_the_notebook(edited(case))
        want = {name: 0 if name in case.lost else MAX[name] for name in (COUNTS, PATH)}
        if shown != want or got != {**want, **{name: MAX[name] for name in case.only_graded}}:
            messages = [c.message for r in graded.results if r.exercise in got for c in r.checks if c.message]
            different[student] = shown, got, messages
        told = " ".join([r.found + " ".join(c.message for c in r.checks) for r in graded.results])
        assert all(says in told for says in case.says), (student, told)
        assert rows[student].points == graded.points and rows[student].status == "graded"
        page = read_cells(classroom / "autograded" / student / CHAPTER.name / CHAPTER.notebook.name)
        seen = "\n".join(map(source, page))
        for cell in submissions.cells(json.dumps(edited(case)).encode(), CHAPTER):
            assert cell.code in seen, "the instructor does not see what was run"
    assert different == {}, different


@pytest.fixture
def settings_put_back():
    """What a learner set in this process."""
    with warnings.catch_warnings():
        yield
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)


def test_a_cell_that_awaits_runs_where_a_loop_runs_already():
    """As in a notebook's kernel."""

    async def kernel() -> dict:
        run_cell("mine", "import asyncio\nawait asyncio.sleep(0)\nx = 3", namespace := cell_namespace())
        with pytest.raises(ZeroDivisionError):
            run_cell("mine", "await asyncio.sleep(0)\n1 / 0", namespace)
        return namespace

    with ThreadPoolExecutor(1) as thread:  # a browser test may have left its own loop in this one
        assert thread.submit(lambda: asyncio.run(kernel())).result()["x"] == 3


@pytest.mark.parametrize("case", [c for c in CASES if not (c.lost or c.says)], ids=lambda c: c.edit.__name__)
def test_a_shell_runs_what_the_learner_added_too(case, tmp_path, settings_put_back):
    """`circuits check FILE`: only without what Jupyter alone forgives, a cell that raises beside its copy."""
    file = tmp_path / "mine.ipynb"
    file.write_text(json.dumps(edited(case)), "utf-8")
    namespace, _ = load_answers(file)
    for name in (COUNTS, PATH):
        result = run_checks(CHAPTER.checks(name), Submission(namespace, like=CHAPTER.stubs))
        assert result.passed, (name, [c.message for c in result.checks])


# Any legal edit -----------------------------------------------------------------------------

HELPERS = ("import collections", "x = 3", "def helper(y):\n    return y", "print('hi')", "%time 1 + 1", "!ls", "shipped", "# a note")


def add_a_cell(rng: random.Random, notebook: dict) -> None:
    cell = {"cell_type": "code", "metadata": {}, "source": rng.choice(HELPERS), "outputs": [], "execution_count": None}
    notebook["cells"].insert(rng.randrange(len(notebook["cells"]) + 1), cell)


def answers_in(notebook: dict) -> list[dict]:
    return [c for c in notebook["cells"] if c["cell_type"] == "code" and exercise_of(c)]


def copy_an_answer(rng: random.Random, notebook: dict) -> None:
    cell = rng.choice(answers_in(notebook))
    notebook["cells"].insert(rng.randrange(len(notebook["cells"]) + 1), copy.deepcopy(cell))


def move_an_answer(rng: random.Random, notebook: dict) -> None:
    cell = rng.choice(answers_in(notebook))
    notebook["cells"].remove(cell)
    notebook["cells"].insert(rng.randrange(len(notebook["cells"]) + 1), cell)


def forget_whose_it_is(rng: random.Random, notebook: dict) -> None:
    rng.choice(answers_in(notebook) or [{"metadata": {}}])["metadata"].pop("nbgrader", None)


def put_something_above(rng: random.Random, notebook: dict) -> None:
    cell = rng.choice(answers_in(notebook) or notebook["cells"][:1])
    above = rng.choice(("# %%", "%matplotlib inline", "import os", "files = !ls", "", "print('once')", "y = 1\n"))
    if cell["cell_type"] == "code":
        cell["source"] = f"{above}\n{source(cell)}"


def another_editor(rng: random.Random, notebook: dict) -> None:
    for cell in answers_in(notebook):
        cell["source"] = rng.choice((source(cell).replace("\n", "\r\n"), source(cell) + "\n\n", source(cell).splitlines(True)))


def drop_text(rng: random.Random, notebook: dict) -> None:
    texts = [c for c in notebook["cells"] if c["cell_type"] == "markdown"]
    if texts:
        notebook["cells"].remove(rng.choice(texts))


EDITS = (add_a_cell, copy_an_answer, move_an_answer, forget_whose_it_is, put_something_above, another_editor, drop_text)


@pytest.fixture(scope="module")
def grader():
    with Grader(chapter=CHAPTER) as grader:
        yield grader


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.proof) for s in range(1, 8))])
def test_no_legal_edit_changes_a_mark(grader, seed):
    """Random edits of a notebook with every exercise solved."""
    rng = random.Random(seed)
    notebook = answered(CHAPTER, ANSWERS)
    made = [rng.choice(EDITS) for _ in range(12)]
    for edit in made:
        edit(rng, notebook)
    graded = grader.grade(Job(CHAPTER.name, submissions.cells(json.dumps(notebook).encode(), CHAPTER), seed))
    assert graded.error is None
    assert {r.exercise: r.points for r in graded.results} == MAX, [edit.__name__ for edit in made]
