"""What a learner reads when an answer is not merely wrong but unusable; and that nothing breaks."""

import logging
import os
import sys
import textwrap
import time
import warnings
from pathlib import Path

import nbformat
import pytest
import torch
from conftest import PATIENCE
from jaxtyping import Float, Int
from nbclient import NotebookClient
from torch import Tensor

from circuits import course_progress, exercises, report
from circuits.cells import compile_cell
from circuits.chapters import ROOT, chapter_of, load_answers
from circuits.checking import CheckFailed, expect
from circuits.exercises import check
from utils.errors import CourseError
from utils.model import Transformer


@pytest.fixture(autouse=True)
def no_progress_file(monkeypatch, tmp_path):
    monkeypatch.setattr(course_progress, "_DATA", tmp_path)


def told(body: str, exercise: str = "bigram_counts", **more):
    """The report on an answer whose function body is given."""
    signatures = {
        "bigram_counts": '(tokens: Int[Tensor, "pos"], d_vocab: int) -> Int[Tensor, "d_vocab d_vocab"]',
        "conditional_entropy": '(counts: Int[Tensor, "d_vocab d_vocab"]) -> Float[Tensor, ""]',
        "positions_that_matter": "(pos: int) -> list[int]",
        "top_next": "(model, token: int, k: int) -> list[int]",
        "rotate_residual": "(model, R) -> Transformer",
    }
    names = {"torch": torch, "Int": Int, "Float": Float, "Tensor": Tensor, "Transformer": Transformer}
    namespace = names | more
    code = f"def {exercise}{signatures[exercise]}:\n{textwrap.indent(textwrap.dedent(body), '    ')}"
    exec(code, namespace)
    return check(exercise, namespace)


def messages(report) -> str:
    return "\n".join(c.message for c in report.result.checks)


@pytest.mark.parametrize(
    "body, says",
    [
        ("return None", "returned None: is the `return` missing?"),
        ("pass", "returned None"),
        ("raise KeyError('x')", "raised KeyError"),
        ("return tokens[99999]", "raised IndexError"),
        ("raise NotImplementedError()", "is not written yet"),
        ("return torch.zeros(d_vocab, d_vocab + 1, dtype=torch.int64)", "should return shape [d_vocab d_vocab], here [3, 3]; yours has shape [3, 4]"),
        ("return torch.zeros(d_vocab, dtype=torch.int64)", "yours has shape [3]"),
        ("return torch.zeros(d_vocab, d_vocab)", "should return int values (dtype torch.int64); yours have dtype torch.float32"),
        ("return [[0] * d_vocab] * d_vocab", "should return a tensor; it returned a list of length 3"),
        ("return 'hello'", "should return a tensor; it returned 'hello'"),
        ("return torch.ones(1_000_000, 1_000_000)", "more memory than a check allows"),
        ("return torch.ones(60_000, 30_000)", "more memory than a check allows"),
        ("return [0] * 10**10", "more memory than a check allows"),
        ("exit()", "calls exit()"),
        ("import sys; sys.exit(3)", "calls exit()"),
        ("return bigram_counts(tokens, d_vocab)", "calls itself without end"),
        ("yield 1", "uses `yield`"),
        ("return lambda: 1", "should return a tensor; it returned a function"),
        ("return torch.zeros(d_vocab, d_vocab, dtype=torch.int64) / 0", "dtype torch.float32"),
        ("return tokens @ tokens.float()", "raised RuntimeError"),
        ("x: list = []; x.append(x); return x", "calls itself without end"),
    ],
)
def test_an_unusable_answer_is_explained_in_a_line(body, says):
    report = told(body)
    assert says in messages(report)
    assert repr(report) == "0" and not any("\n" in c.message for c in report.result.checks)


def test_an_answer_that_raises_names_its_line():
    code = "def bigram_counts(tokens, d_vocab):\n    counts = {}\n    return counts[tokens[0]]\n"
    code_object = compile_cell("cell", code)
    namespace = {}
    exec(code_object, namespace)
    assert "in its line `return counts[tokens[0]]`" in messages(check("bigram_counts", namespace))


def test_nan_is_explained():
    says = messages(told("return torch.tensor(float('nan'))", "conditional_entropy"))
    assert "should be 0; yours is nan. NaN comes from 0 / 0" in says


def test_a_complex_number_is_not_taken_for_its_real_part():
    answer = {"conditional_entropy": lambda counts: torch.tensor(0.0 + 0j)}
    assert "yours have dtype torch.complex64" in messages(check("conditional_entropy", answer))
    with pytest.raises(CheckFailed, match=r"should be real; yours is complex \(dtype torch.complex64\): take `.real`"):
        expect(torch.tensor(0.0 + 0j), 0.0, "the entropy")


def test_a_list_for_a_tensor_is_told_how_to_become_one():
    rows = "return [torch.zeros(d_vocab, dtype=torch.int64)] * d_vocab"
    assert "returned a list of length 3. Make one tensor of it: `torch.stack(...)`." in messages(told(rows))
    assert "Make one tensor of it: `torch.tensor(...)`." in messages(told("return [[0] * d_vocab] * d_vocab"))


@pytest.mark.parametrize("said", ["(tokens, d_vocab)", "(tokens: str, d_vocab: list[str]) -> set", "(t: 'T', n) -> 'N'"])
def test_what_an_answer_should_return_is_what_the_release_says_not_what_the_learner_annotates(said):
    """So that a notebook and the grader, which goes by the reference, say the same."""
    a, b = said[1:].split(",")[0].split(":")[0], said.split(", ")[1].split(":")[0].split(")")[0]
    namespace = {}
    exec(
        f"import torch\ndef bigram_counts{said}:\n"
        f"    return torch.bincount({a}[:-1] * {b} + {a}[1:], minlength={b} ** 2).reshape({b}, {b})",
        namespace,
    )
    assert check("bigram_counts", namespace).result.passed
    right = namespace["bigram_counts"]
    as_floats = check("bigram_counts", {"bigram_counts": lambda *args: right(*args).float()})
    assert as_floats.result.points == 0 and "torch.int64" in messages(as_floats)


def test_wrong_types_for_other_annotations():
    assert "should return a list; it returned 3" in messages(told("return 3", "positions_that_matter"))
    assert "list of whole numbers" in messages(told("return ['a']", "positions_that_matter"))
    assert "list of whole numbers" in messages(told("return [None] * k", "top_next"))
    assert "should return a Transformer; it returned a float32 tensor" in messages(
        told("return R", "rotate_residual")
    )


def test_an_async_answer_is_explained_without_a_warning():
    namespace = {}
    exec("async def bigram_counts(tokens, d_vocab):\n    return tokens", namespace)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "`async def`" in messages(check("bigram_counts", namespace))


def test_nothing_defined_yet():
    report = check("bigram_counts", {})
    assert "`bigram_counts` is not defined yet" in messages(report) and report.result.unsolved


def test_a_name_that_is_not_a_function():
    assert "it is a int64 tensor of shape [2]" in messages(
        check("bigram_counts", {"bigram_counts": torch.tensor([1, 2])})
    )


def test_an_unknown_exercise_is_one_line_with_advice():
    with pytest.raises(CourseError, match="No exercise is called 'bigram_count'. Did you mean 'bigram_counts'?"):
        check("bigram_count", {})


@pytest.mark.parametrize(
    "loop",
    [
        "while True: pass",
        "while True:\n    try:\n        x = 1\n    except Exception:\n        pass",
        "while True:\n    try:\n        x = 1\n    except:\n        pass",
        "while True:\n    try:\n        while True: x = 1\n    except BaseException:\n        continue",
        "import time\nwhile True: time.sleep(0.01)",
        "while True: torch.ones(10) + 1",
        "import itertools\nfor _ in itertools.count(): tokens.sum()",
    ],
)
def test_an_infinite_loop_is_stopped_and_said(loop, monkeypatch):
    monkeypatch.setattr("circuits.checking.SECONDS", 0.5)
    start = time.perf_counter()
    says = messages(told(loop))
    assert "had not finished after 0.5 seconds and was stopped" in says
    assert time.perf_counter() - start < PATIENCE
    assert sys.gettrace() is None or "pydevd" in str(sys.gettrace())


def test_the_next_check_works_after_a_stopped_one(monkeypatch):
    monkeypatch.setattr("circuits.checking.SECONDS", 0.5)
    told("while True: pass")
    monkeypatch.undo()
    assert repr(told("return [pos]", "positions_that_matter")) == "3"


@pytest.mark.parametrize(
    "noise",
    [
        "import warnings; warnings.warn('careful')",
        "import sys; print('error', file=sys.stderr)",
        "import os; os.write(2, b'raw')",
        "import logging; logging.warning('logged')",
        "from tqdm import tqdm\nfor _ in tqdm(range(3)): pass",
        "print('x' * 10**6)",
    ],
)
def test_what_an_answer_prints_stays_inside_the_report(noise, capfd):
    good = "p = tokens[:-1] * d_vocab + tokens[1:]\nreturn torch.bincount(p, minlength=d_vocab**2).view(d_vocab, d_vocab)"
    report = told(f"{noise}\n{good}")
    assert repr(report) == "3"
    assert len(report.result.printed) <= 2000
    printed = capfd.readouterr()
    assert printed.err == "" and printed.out == ""
    logging.getLogger().handlers.clear()


def test_a_report_escapes_what_an_answer_says():
    html = told("raise ValueError('<script>alert(1)</script>')")._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_a_report_shows_code_and_stress_as_such():
    shown = report.inline("the *clean* text: `a*b*c`, 2 * x * y < 3")
    assert shown == "the <em>clean</em> text: <code>a*b*c</code>, 2 * x * y &lt; 3"


def test_a_read_only_course_folder_does_not_matter(monkeypatch, tmp_path):
    monkeypatch.setattr(course_progress, "_DATA", Path(os.devnull))
    assert repr(told("return [pos]", "positions_that_matter")) == "3"


def test_hints_go_up_the_ladder_and_reveal_defines_the_answer():
    first, second = exercises.hint("direct_path"), exercises.hint("direct_path")
    assert "Hint 1 of 2" in repr(first) and "Hint 2" not in repr(first)
    assert "Hint 2 of 2" in repr(second) and "last hint" in repr(second)
    namespace = {}
    shown = eval("reveal('direct_path')", {"reveal": exercises.reveal} | namespace, namespace)
    assert "return W_E @ W_U" in repr(shown) and "SOLUTION" not in repr(shown)


def test_reveal_without_solutions_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("circuits.chapters.Chapter.source", tmp_path / "none.py")
    with pytest.raises(CourseError, match="no reference answers"):
        exercises.reveal("direct_path")


def test_reveal_respects_the_copy_it_is_called_in(monkeypatch, tmp_path):
    """Which may be a class's, without answers, or another clone, whichever installation runs."""
    def reveal(folder) -> str:
        monkeypatch.chdir(folder)
        return repr(exercises.reveal("direct_path"))

    mine = tmp_path / "mine" / "1_bigrams"
    clone = tmp_path / "clone" / "notebooks" / "1_bigrams"
    for folder in (mine, clone, tmp_path / "clone" / "tests" / "checks", tmp_path / "clone" / "solutions" / "1_bigrams"):
        folder.mkdir(parents=True)
    mark = mine.parent / ".circuits.json"
    for version, has_answers in (("0.2.0", True), ("0.2.0+students", False)):
        mark.write_text(f'{{"version": "{version}"}}')
        if has_answers:
            assert "return W_E @ W_U" in reveal(mine)
        else:
            with pytest.raises(CourseError, match="no reference answers"):
                reveal(mine)
    with pytest.raises(CourseError, match="no reference answers"):
        reveal(clone)
    script = tmp_path / "clone" / "solutions" / "1_bigrams" / "bigrams.py"
    script.write_text('# %% exercise="direct_path"\ndef direct_path(W_E, W_U):\n    return W_E.matmul(W_U)\n')
    assert "return W_E.matmul(W_U)" in reveal(clone)


def test_every_wrong_answer_is_recognised_by_what_it_does_not_how_it_is_written():
    report = told(
        """
        table = torch.zeros(d_vocab, d_vocab, dtype=torch.int64)
        for a, b in zip(tokens[:-1], tokens[1:]):
            table[b, a] = table[b, a] + 1
        return table
        """
    )
    assert report.result.hint.startswith("Rows and columns are exchanged")


def run_cells(*cells: str):
    """Run cells in a real kernel, in the folder of the chapter; returns the executed cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    resources = {"metadata": {"path": str(ROOT / "notebooks" / "1_bigrams")}}
    env = os.environ.copy()
    os.environ["NBGRADER_EXECUTION"] = "validate"  # leave the learner's progress alone
    try:
        NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3", allow_errors=True, resources=resources).execute()
    finally:
        os.environ.clear()
        os.environ.update(env)
    return notebook.cells


def test_the_kernel_stays_usable_whatever_an_answer_does():
    cells = run_cells(
        "import torch\nfrom circuits import check\nimport circuits.checking as checking\nchecking.SECONDS = 1",
        "def direct_path(W_E, W_U):\n    while True:\n        try: pass\n        except: pass",
        'check("direct_path")',
        "def direct_path(W_E, W_U):\n    return torch.ones(10**6, 10**6)",
        'check("direct_path")',
        "import sys, os\ndef direct_path(W_E, W_U):\n    print('hm', file=sys.stderr); os.write(2, b'raw')\n    return W_E @ W_U",
        'check("direct_path")',
        'check("nonsense")',
        "1 + 1",
    )
    plain = [[o.data["text/plain"] for o in c.outputs if o.output_type == "execute_result"] for c in cells]
    assert plain[2] == ["0"] and "was stopped" in cells[2].outputs[0].data["text/html"]
    assert plain[4] == ["0"] and "more memory" in cells[4].outputs[0].data["text/html"]
    assert plain[6] == ["3"] and [o.output_type for o in cells[6].outputs] == ["execute_result"]
    assert cells[7].outputs[0].output_type == "error"
    assert len(cells[7].outputs[0].traceback) == 1 and "No exercise is called" in cells[7].outputs[0].traceback[0]
    assert plain[8] == ["2"]


# Settings of the learner's own -----------------------------------------------------------------


@pytest.mark.parametrize(
    "put, back",
    [
        (lambda: torch.set_grad_enabled(False), lambda: torch.set_grad_enabled(True)),
        (lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)),
        (lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None)),
        (lambda: torch.use_deterministic_algorithms(True), lambda: torch.use_deterministic_algorithms(False)),
        (lambda: warnings.simplefilter("error"), warnings.resetwarnings),
    ],
    ids=["no gradients", "float64", "another device", "deterministic", "warnings are errors"],
)
@pytest.mark.parametrize("exercise", ["train_step", "bigram_counts", "sample", "attribution_patch", "find_heads"])
def test_what_a_learner_sets_in_a_cell_fails_no_right_answer_and_stays(put, back, exercise):
    chapter = chapter_of(exercise)
    answers = load_answers(chapter.source)[0]
    settings = lambda: (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device())  # noqa: E731
    with warnings.catch_warnings():
        put()
        try:
            before = settings()
            report = check(exercise, answers)
            assert settings() == before
        finally:
            back()
    assert report.result.passed, messages(report)


def test_what_torch_has_not_implemented_is_not_told_to_be_unwritten():
    answer = {"bigram_counts": lambda tokens, d_vocab: torch.bincount(tokens.float()).reshape(d_vocab, d_vocab)}
    report = check("bigram_counts", answer)
    assert not report.result.unsolved and "raised NotImplementedError: \"bincount" in messages(report)
