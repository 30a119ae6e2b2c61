"""What strangers hand in as a notebook: its code is read, or it is refused with one line."""

import copy
import csv
import json
import os
import random
import re
import shutil
import time
import unicodedata
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import HARMFUL, NAMES_OF_PEOPLE, answered, cells_of, hand_in, reference

from circuits.chapters import CHECK_PREFIX, ROOT, Chapter, source
from circuits.grading import submissions
from circuits.grading.grader import Grader, Job
from circuits.grading.submissions import Refused

CHAPTER = Chapter("1_bigrams", ROOT)
ANSWERS = reference(CHAPTER)
NAMES = list(ANSWERS)
HONEST = answered(CHAPTER, ANSWERS)
ONE = "direct_path"  # the exercise whose cell is tampered with
CODE = ANSWERS[ONE]
SECONDS = 120  # of the processor; the largest takes 3 on a free machine, what goes wrong takes hours
ADVICE = re.compile(r"\b(ask for|open and save|remove|rename|clear|copy|correct|collect|put|leave)\b")


@dataclass
class Case:
    """A way to spoil a notebook, and what should come of it."""

    spoil: Callable[[dict], dict | list | str | bytes | None]
    says: str | None = None  # in the refusal; None: it is read
    lost: tuple[str, ...] = ()  # exercises of which no code comes out
    becomes: str | None = None  # the code of `ONE` that comes out
    zero: tuple[str, ...] | None = None  # exercises without points; None: not graded here

    def notebook(self) -> bytes:
        notebook = copy.deepcopy(HONEST)
        spoiled = self.spoil(notebook)
        spoiled = notebook if spoiled is None else spoiled
        return spoiled if isinstance(spoiled, bytes) else json.dumps(spoiled).encode()

    @property
    def code(self) -> dict[str, str]:
        code = {name: code for name, code in ANSWERS.items() if name not in self.lost}
        return code if self.becomes is None else {**code, ONE: self.becomes}


CASES: list[Case] = []


def case(**expected):
    """A case: the function's name says what it does to an honest notebook."""

    def add(spoil):
        CASES.append(Case(spoil, **expected))
        return spoil

    return add


def some(wanted: Callable[[Case], bool]):
    chosen = [c for c in CASES if wanted(c)]
    return pytest.mark.parametrize("case", chosen, ids=[c.spoil.__name__ for c in chosen])


def cell_of(notebook: dict, grade_id: str = ONE) -> dict:
    return next(
        c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == grade_id
    )


def check_cells(notebook: dict) -> list[dict]:
    return [c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("grade")]


def code_cell(source: str) -> dict:
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def with_raw(member: bytes) -> bytes:
    """The honest notebook with one more member, written by hand."""
    return json.dumps(HONEST).encode()[:-1] + b"," + member + b"}"


# Not JSON -----------------------------------------------------------------------------------


@case(says="it is empty")
def empty_file(notebook):
    return b""


@case(says="it is empty")
def only_whitespace(notebook):
    return b" \n\t\r\n "


@case(says="not JSON")
def only_a_byte_order_mark(notebook):
    return b"\xef\xbb\xbf"


@case(says="not JSON")
def plain_text(notebook):
    return b"I could not export my notebook, sorry."


@case(says="not JSON")
def truncated(notebook):
    return json.dumps(notebook).encode()[:-1000]


@case(says="not JSON")
def half_of_a_character(notebook):
    return json.dumps(notebook).encode()[:-1] + "é".encode()[:1]


@case(says="not JSON")
def binary_junk(notebook):
    return random.Random(0).randbytes(10_000)


@case(says="not JSON")
def only_null_bytes(notebook):
    return bytes(10_000)


@case(says="not JSON")
def null_bytes_at_the_end(notebook):
    return json.dumps(notebook).encode() + bytes(512)


@case(says="not JSON")
def half_of_utf_16(notebook):
    return json.dumps(notebook).encode("utf-16")[:-1]


@case(says="not JSON")
def two_notebooks_in_a_row(notebook):
    return json.dumps(notebook).encode() * 2


@case(says="not JSON")
def a_merge_conflict(notebook):
    text = json.dumps(notebook, indent=1).encode()
    return b"<<<<<<< HEAD\n" + text + b"\n=======\n" + text + b"\n>>>>>>> main\n"


@case(says="not JSON")
def a_percent_script(notebook):
    return CHAPTER.source.read_bytes()


@case(says="not JSON")
def a_zip_archive(notebook):
    return b"PK\x03\x04" + random.Random(1).randbytes(1000)


@case(says="not JSON")
def an_html_export(notebook):
    return b"<!DOCTYPE html>\n<html><body><p>1_bigrams</p></body></html>"


@case(says="not JSON")
def a_hundred_thousand_brackets(notebook):
    return nested(100_000)


@case(says="not JSON")
def a_hundred_thousand_braces(notebook):
    return b'{"a":' * 100_000 + b"1" + b"}" * 100_000


@case(says="not JSON")
def brackets_nested_in_a_cell(notebook):
    return with_raw(b'"cells": ' + nested(50_000))


@case(says="not JSON")
def a_number_of_a_million_digits(notebook):
    return with_raw(b'"execution_count": ' + b"9" * 1_000_000)


# JSON, but no notebook ----------------------------------------------------------------------


@case(says="no notebook")
def json_list(notebook):
    return [notebook]


@case(says="no notebook")
def json_number(notebook):
    return b"42"


@case(says="no notebook")
def json_string(notebook):
    return json.dumps(json.dumps(notebook)).encode()


@case(says="no notebook")
def json_null(notebook):
    return b"null"


@case(says="no notebook")
def json_nan(notebook):
    return b"NaN"


@case(says="(nbformat) is None")
def json_object_without_anything(notebook):
    return b"{}"


@case(says="(nbformat) is None")
def nbformat_missing(notebook):
    del notebook["nbformat"]


@case(says="(nbformat) is None")
def nbformat_null(notebook):
    notebook["nbformat"] = None


@case(says="(nbformat) is '4'")
def nbformat_a_string(notebook):
    notebook["nbformat"] = "4"


@case(says="(nbformat) is")
def nbformat_a_string_of_control_characters(notebook):
    notebook["nbformat"] = "\x1b[2J\n\u202e\ud800" * 1000


@case(says="(nbformat) is 2")
def nbformat_2(notebook):
    notebook["nbformat"] = 2


@case(says="(nbformat) is 5")
def nbformat_5(notebook):
    notebook["nbformat"] = 5


@case(says="(nbformat) is 4.5")
def nbformat_4_point_5(notebook):
    notebook["nbformat"] = 4.5


@case(says="(nbformat) is True")
def nbformat_true(notebook):
    notebook["nbformat"] = True


@case(says="(nbformat) is nan")
def nbformat_nan(notebook):
    notebook["nbformat"] = float("nan")


@case(says="(nbformat) is")
def nbformat_a_deep_list(notebook):
    return with_raw(b'"nbformat": ' + nested(700))


@case(says="no list of cells")
def cells_missing(notebook):
    del notebook["cells"]


@case(says="no list of cells")
def cells_null(notebook):
    notebook["cells"] = None


@case(says="no list of cells")
def cells_a_dictionary(notebook):
    notebook["cells"] = dict(enumerate(notebook["cells"]))


@case(says="no list of cells")
def cells_a_string(notebook):
    notebook["cells"] = "cells"


@case(says="no list of cells")
def cells_twice_the_last_null(notebook):
    return with_raw(b'"cells": null')


@case(says="cell 1 of the notebook is not a cell")
def cells_of_strings(notebook):
    notebook["cells"] = [CODE]


@case(says="is not a cell")
def one_cell_null(notebook):
    notebook["cells"].append(None)


@case(says="is not a cell")
def one_cell_a_list_of_cells(notebook):
    notebook["cells"] = [notebook["cells"]]


@case(says=f"the code of {ONE} is not text")
def source_null(notebook):
    cell_of(notebook)["source"] = None


@case(says=f"the code of {ONE} is not text")
def source_a_number(notebook):
    cell_of(notebook)["source"] = 1e400


@case(says=f"the code of {ONE} is not text")
def source_a_dictionary(notebook):
    cell_of(notebook)["source"] = {"text": CODE}


@case(says=f"the code of {ONE} is not text")
def source_a_list_of_numbers(notebook):
    cell_of(notebook)["source"] = [1, 2]


@case(says=f"the code of {ONE} is not text")
def source_a_list_of_lists(notebook):
    cell_of(notebook)["source"] = [[line] for line in CODE.splitlines(True)]


@case(says="21 MB, more than 17; clear its outputs")
def twenty_megabytes(notebook):
    notebook["cells"][1]["outputs"] = [{"output_type": "stream", "text": "x" * (20 * 1024**2)}]


# Format 3 -----------------------------------------------------------------------------------


def format_3(*cells_of_sheets) -> dict:
    return {"nbformat": 3, "metadata": {}, "worksheets": [{"cells": c} for c in cells_of_sheets]}


def in_format_3(notebook: dict) -> list[dict]:
    cells = copy.deepcopy(notebook["cells"])
    for cell in cells:
        if cell["cell_type"] == "code":
            cell["input"] = cell.pop("source")
    return cells


@case(zero=())
def format_3_with_one_sheet(notebook):
    return format_3(in_format_3(notebook))


@case()
def format_3_with_several_sheets(notebook):
    cells = in_format_3(notebook)
    return format_3(cells[:20], [], cells[20:])


@case()
def format_3_with_a_sheet_that_is_none(notebook):
    spoiled = format_3(in_format_3(notebook), None, {"a": 1}, "cells")
    spoiled["worksheets"] += [None, 5, "sheet", []]
    return spoiled


@case()
def format_3_that_calls_it_source(notebook):
    return format_3(notebook["cells"])


@case(says="no list of cells")
def format_3_without_sheets(notebook):
    return format_3()


@case(says="no list of cells")
def format_3_with_the_cells_of_format_4(notebook):
    notebook["nbformat"] = 3


@case(says="no list of cells")
def format_3_with_sheets_of_another_type(notebook):
    return {"nbformat": 3, "worksheets": {"cells": notebook["cells"]}}


@case(says="cell 1 of the notebook is not a cell")
def format_3_with_a_cell_that_is_none(notebook):
    return format_3([None])


@case(lost=NAMES)
def format_4_with_sheets_and_no_cells(notebook):
    return {**format_3(in_format_3(notebook)), "nbformat": 4, "cells": []}


# Readable all the same ----------------------------------------------------------------------


@case(zero=())
def byte_order_mark(notebook):
    return b"\xef\xbb\xbf" + json.dumps(notebook).encode()


def written_as(encoding: str) -> Callable[[dict], bytes]:
    """As an editor saves it that does not write UTF-8."""

    def spoil(notebook: dict) -> bytes:
        cell = cell_of(notebook)
        cell["source"] += "\n# déjà vu – “très” bien"
        return json.dumps(notebook, ensure_ascii=False).encode(encoding, "replace")

    spoil.__name__ = encoding.replace("-", "_")
    return spoil


for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp1252"):
    case(becomes=f"{CODE}\n# déjà vu – “très” bien")(written_as(encoding))


@case()
def whitespace_around(notebook):
    return b"\n\n  " + json.dumps(notebook).encode() + b"\n\n"


@case()
def windows_line_ends_in_the_file(notebook):
    return json.dumps(notebook, indent=1).encode().replace(b"\n", b"\r\n")


@case()
def giant_and_infinite_numbers(notebook):
    return with_raw(b'"a": 1e999999, "b": -Infinity, "c": NaN, "d": ' + b"9" * 4000)


@case()
def duplicate_keys(notebook):
    return with_raw(b'"metadata": 1, "metadata": {}, "nbformat": 4')


@case()
def nothing_but_format_and_cells(notebook):
    return {"nbformat": 4, "cells": notebook["cells"]}


@case()
def kernel_of_another_language(notebook):
    notebook["metadata"] = {
        "kernelspec": {"name": "ir", "language": "R", "display_name": "R"},
        "language_info": {"name": "R", "version": "\u0000"},
    }


@case()
def metadata_a_list(notebook):
    notebook["metadata"] = [1, 2]


@case()
def nbformat_minor_of_the_future(notebook):
    notebook["nbformat_minor"] = "next"


@case()
def cell_ids_duplicate_and_invalid(notebook):
    for cell, cell_id in zip(notebook["cells"], ["a", "a", "", "ä b", "x" * 1000, None, 5, {}], strict=False):
        cell["id"] = cell_id


@case()
def cells_of_unknown_types(notebook):
    notebook["cells"] += [{}, {"cell_type": None}, {"cell_type": "heading"}, {"cell_type": [1]}]


@case()
def other_cells_without_metadata(notebook):
    for cell in notebook["cells"]:
        if "nbgrader" not in cell["metadata"]:
            del cell["metadata"]


@case()
def other_cells_with_sources_of_wrong_types(notebook):
    for cell, junk in zip(notebook["cells"], [None, 5, {}, [1], [[]]] * 100, strict=False):
        if "nbgrader" not in cell["metadata"]:
            cell["source"] = junk


@case()
def outputs_malformed(notebook):
    for cell, junk in zip(notebook["cells"], [None, 5, "x", {}, [None], [{}]] * 100, strict=False):
        cell["outputs"] = junk
        cell["execution_count"] = junk


@case()
def fifteen_megabytes_of_outputs(notebook):
    cell_of(notebook)["outputs"] = [{"output_type": "stream", "text": ["x" * 100] * 140_000}]


@case()
def five_million_empty_lists_of_outputs(notebook):
    cell_of(notebook)["outputs"] = [[]] * 3_900_000


@case()
def attachments(notebook):
    for cell in notebook["cells"]:
        cell["attachments"] = {"../../evil.png": {"image/png": "not base64"}, "x": None}


@case(zero=())
def tags_that_tell_tools_to_skip_or_hide(notebook):
    for cell in notebook["cells"]:
        tags = ["skip-execution", "remove-cell", "raises-exception", "setup", 5, None]
        cell["metadata"] |= {"tags": tags, "deletable": "yes", "jupyter": {"source_hidden": 1}}


@case()
def twenty_thousand_cells(notebook):
    notebook["cells"] += [code_cell(f"x = {i}") for i in range(20_000)]


@case(lost=NAMES, zero=NAMES)
def no_cell_at_all(notebook):
    notebook["cells"] = []


# nbgrader's metadata ------------------------------------------------------------------------


@case(lost=(ONE,))
def exercise_cell_deleted(notebook):
    notebook["cells"].remove(cell_of(notebook))


@case()  # found by its name
def exercise_cell_without_metadata(notebook):
    del cell_of(notebook)["metadata"]


@case()  # found by its name
def exercise_cell_with_a_list_as_metadata(notebook):
    cell_of(notebook)["metadata"] = [["nbgrader", {"grade_id": ONE}]]


@case()  # found by its name
def nbgrader_metadata_null(notebook):
    cell_of(notebook)["metadata"]["nbgrader"] = None


@case()  # found by its name
def nbgrader_metadata_a_list(notebook):
    cell_of(notebook)["metadata"]["nbgrader"] = ["grade_id", ONE]


@case()  # found by its name
def nbgrader_metadata_a_string(notebook):
    cell_of(notebook)["metadata"]["nbgrader"] = ONE


@case()
def nbgrader_metadata_with_wrong_types_beside_the_name(notebook):
    cell_of(notebook)["metadata"]["nbgrader"] |= {
        "grade": "no", "solution": [], "locked": None, "points": "1e9", "schema_version": -1, "cell_type": 3,
    }


@case()  # found by its name
def grade_id_missing(notebook):
    del cell_of(notebook)["metadata"]["nbgrader"]["grade_id"]


@case()  # found by its name
def grade_id_a_list(notebook):
    cell_of(notebook)["metadata"]["nbgrader"]["grade_id"] = [ONE]


@case()  # found by its name
def grade_id_a_number(notebook):
    cell_of(notebook)["metadata"]["nbgrader"]["grade_id"] = 7


@case()  # found by its name
def grade_id_unknown(notebook):
    cell_of(notebook)["metadata"]["nbgrader"]["grade_id"] = "cell-1234"


@case()  # found by its name
def grade_id_of_the_set_up(notebook):
    cell_of(notebook)["metadata"]["nbgrader"]["grade_id"] = "setup"


@case()  # found by its name
def grade_id_with_control_characters(notebook):
    cell_of(notebook)["metadata"]["nbgrader"]["grade_id"] = f"{ONE}\n\x1b[2J\x00\ud800"


@case()  # found by its name
def grade_id_in_capitals(notebook):
    cell_of(notebook)["metadata"]["nbgrader"]["grade_id"] = ONE.upper()


@case()  # found by its name
def grade_id_very_long(notebook):
    cell_of(notebook)["metadata"]["nbgrader"]["grade_id"] = ONE * 100_000


@case(becomes=f"{CODE}\n\n{CODE}", zero=())
def exercise_cell_copied(notebook):
    notebook["cells"].append(copy.deepcopy(cell_of(notebook)))


UNSOLVED = source(cell_of(answered(CHAPTER, {})))


@case(becomes=f"{CODE}\n\n{UNSOLVED}", zero=(ONE,))
def exercise_cell_copied_before_it_was_solved(notebook):
    """As when the notebook is run, the last definition counts."""
    notebook["cells"].append({**cell_of(notebook), "source": UNSOLVED})


HALVES = CODE.splitlines(keepends=True)[:-2], CODE.splitlines(keepends=True)[-2:]


@case(becomes="\n\n".join(map("".join, HALVES)), zero=())
def exercise_cell_split_in_two(notebook):
    at = notebook["cells"].index(cell_of(notebook))
    halves = [{**copy.deepcopy(cell_of(notebook)), "source": list(half)} for half in HALVES]
    notebook["cells"][at : at + 1] = [halves[0], code_cell("1 + 1"), halves[1]]


@case(zero=())
def exercise_cell_turned_into_markdown(notebook):
    cell_of(notebook)["cell_type"] = "markdown"


@case(zero=())
def exercise_cell_turned_raw(notebook):
    cell_of(notebook)["cell_type"] = "raw"


@case(zero=())
def exercise_cell_of_no_type(notebook):
    del cell_of(notebook)["cell_type"]


@case(zero=())
def check_cells_deleted(notebook):
    notebook["cells"] = [c for c in notebook["cells"] if c not in check_cells(notebook)]


@case(zero=())
def check_cells_changed(notebook):
    for cell in check_cells(notebook):
        cell["source"] = "raise SystemExit"
        cell["metadata"]["nbgrader"] |= {"points": 10**9, "locked": False}


@case()
def check_cells_copied(notebook):
    notebook["cells"] += copy.deepcopy(check_cells(notebook))


@case(becomes="100")
def check_cells_renamed_to_exercises(notebook):
    """A check cell under an exercise's name is a second part of its answer, no more."""
    cell_of(notebook)["metadata"]["nbgrader"]["grade_id"] = "mine"
    check = cell_of(notebook, CHECK_PREFIX + ONE)
    check["source"] = "100"
    check["metadata"]["nbgrader"]["grade_id"] = ONE


# Code ---------------------------------------------------------------------------------------


@case(becomes="", zero=(ONE,))
def source_missing(notebook):
    del cell_of(notebook)["source"]


@case(becomes="")
def source_an_empty_list(notebook):
    cell_of(notebook)["source"] = []


@case(zero=())
def source_a_list_of_lines(notebook):
    cell_of(notebook)["source"] = CODE.splitlines(keepends=True)


def becomes(code: str, zero: tuple[str, ...] | None) -> Callable:
    """A case in which one answer is the code given; its name is the function's."""

    def add(named):
        def spoil(notebook):
            cell_of(notebook)["source"] = code

        spoil.__name__ = named.__name__
        CASES.append(Case(spoil, becomes=code, zero=zero))
        return named

    return add


@becomes(f"# done\n{CODE}\ndef check(*args):\n    return 3\nhint = reveal = progress = check", zero=())
def code_that_redefines_check(): ...


@becomes(CODE.replace("    ", "\t"), zero=())
def code_indented_by_tabs(): ...


@becomes(CODE.replace("\n", "\r\n"), zero=())
def code_with_windows_line_ends(): ...


@becomes(CODE.replace("\n", "\r"), zero=())
def code_with_the_line_ends_of_old_macs(): ...


@becomes("# Let me think.", zero=(ONE,))
def code_that_is_only_a_comment(): ...


@becomes("def direct_path(W_E, W_U:\n    return W_E @ W_U", zero=(ONE,))
def code_with_a_syntax_error(): ...


@becomes("def direct_path(W_E, W_U):\nreturn W_E @ W_U", zero=(ONE,))
def code_with_an_indentation_error(): ...


@becomes("\x00" + CODE, zero=(ONE,))
def code_with_a_null_byte(): ...


@becomes("(" * 100_000, zero=(ONE,))
def code_of_a_hundred_thousand_brackets(): ...


@becomes("-" * 100_000 + "1", zero=(ONE,))
def code_of_a_hundred_thousand_minuses(): ...


@becomes(f"%timeit 1 + 1\n{CODE}", zero=())
def code_with_a_magic(): ...


@becomes(f"!ls\n{CODE}", zero=None)
def code_with_a_shell_command(): ...


@becomes(f"%%time\n!ls\n{CODE}", zero=())
def code_under_a_cell_magic(): ...


@becomes(f"files = !ls\ntimed = %timeit -o 1 + 1\n%time two = 1 + 1\n{CODE}\nassert two == 2", zero=())
def code_that_keeps_what_magics_return(): ...


@becomes(f"{CODE}\ndirect_path?\n?direct_path\ndisplay(get_ipython())", zero=())
def code_that_asks_for_help(): ...


@becomes(f"import asyncio\nawait asyncio.sleep(0)\n{CODE}", zero=())
def code_that_awaits(): ...


@becomes("if __name__ == '__main__':\n" + CODE.replace("def ", "    def ").replace("\n", "\n    "), zero=())
def code_that_asks_whether_it_is_the_program(): ...


@becomes(f"s = \'\'\'\n%timeit\n\'\'\'\nrest = (7\n % 4)\nassert (len(s), rest) == (9, 3)\n!ls\n{CODE}", zero=())
def code_with_a_percent_sign_in_a_string_and_an_expression(): ...


@becomes(
    "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Pair:\n    a: int\n"
    f"{CODE}", zero=(),
)
def code_with_a_dataclass_beside_postponed_annotations(): ...


@becomes("%%bash\nexit 3", zero=(ONE,))
def code_for_another_shell(): ...


@becomes("raise SystemExit('\x1b[2J')", zero=(ONE,))
def code_that_exits(): ...


@becomes("<<<<<<< HEAD\n" + CODE, zero=None)
def code_with_a_merge_conflict(): ...


@case(becomes=f"# ??\n{CODE}", zero=())
def lone_surrogates_in_the_source(notebook):
    cell_of(notebook)["source"] = f"# \udfff\ud800\n{CODE}"


# What is asked of them ----------------------------------------------------------------------


@pytest.fixture
def submitted(tmp_path):
    """The folder of submissions, with one student who has handed in no notebook yet."""
    (tmp_path / "student" / CHAPTER.name).mkdir(parents=True)
    return tmp_path


def refusal(submitted: Path, student: str = "student") -> str:
    """Why a submission is refused: a line that harms no terminal and comes soon."""
    started = time.process_time()
    with pytest.raises(Refused) as refused:
        submissions.read(submitted, student, CHAPTER)
    assert time.process_time() - started < SECONDS
    message = str(refused.value)
    assert message.isprintable() and 0 < len(message) < 300
    return message


def by_exercise(cells: list[submissions.Cell]) -> dict[str, str]:
    return {name: code for name in NAMES if (code := submissions.code_of(cells, name)) is not None}


def read(submitted: Path) -> dict[str, str]:
    """The code that comes out, and soon."""
    started = time.process_time()
    cells = submissions.read(submitted, "student", CHAPTER)
    assert time.process_time() - started < SECONDS
    return by_exercise(cells)


def put(submitted: Path, case: Case) -> None:
    (submitted / "student" / CHAPTER.name / CHAPTER.notebook.name).write_bytes(case.notebook())


@some(lambda c: c.says is not None)
def test_a_notebook_without_cells_to_read_is_refused_in_a_line(case, submitted):
    put(submitted, case)
    message = refusal(submitted)
    assert case.says in message and ADVICE.search(message)


@some(lambda c: c.says is None)
def test_a_notebook_with_cells_gives_the_code_that_is_left(case, submitted):
    put(submitted, case)
    assert read(submitted) == case.code


@pytest.fixture(scope="module")
def grader():
    with Grader() as grader:
        yield grader


@some(lambda c: c.zero is not None)
def test_what_is_left_of_a_notebook_gets_its_points(case, grader):
    """Full points for every exercise but those that are lost or broken."""
    cells = submissions.cells(case.notebook(), CHAPTER)
    graded = grader.grade(Job(CHAPTER.name, cells, seed=1))
    assert graded.error is None and graded.unsandboxed is None
    points = {result.exercise: result.points for result in graded.results}
    assert points == {n: 0 if n in case.zero else of for n, of in CHAPTER.exercises.items()}
    messages = [c.message for r in graded.results for c in r.checks]
    assert all(message.isprintable() and len(message) <= 600 for message in messages)


def test_broken_code_is_explained(grader):
    code = {**ANSWERS, ONE: f"one two three\n{CODE}", NAMES[0]: "# nothing"}
    results = {r.exercise: r for r in grader.grade(Job(CHAPTER.name, cells_of(code), seed=1)).results}
    assert "The cell of `direct_path` raised SyntaxError" in results[ONE].checks[0].message
    assert "is not defined yet" in results[NAMES[0]].checks[0].message and results[NAMES[0]].unsolved


@pytest.mark.parametrize("depth", range(880, 1000, 4))
def test_any_depth_of_nesting_is_read_or_refused(depth, submitted):
    """Also the last that Python's own recursion limit lets through."""
    for member in (b'"nbformat": ', b'"metadata": ', b'"cells": '):
        put(submitted, Case(lambda notebook, member=member: with_raw(member + nested(depth))))
        try:
            read(submitted)
        except Refused as refused:
            assert str(refused).isprintable()


JUNK = [
    None, True, 0, -1.5, 10**30, float("nan"), "", "x\x1b\n", "\ud800", [], {}, [[]], [None], {"a": {}},
    ["a", 1], {"nbgrader": 3}, {"nbgrader": {"grade_id": ONE}}, {"grade_id": ["x"]}, "code", ONE,
]  # fmt: skip


def places(tree, path=()):
    """Every place in a tree of JSON."""
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield (*path, key)
        yield from places(tree[key], (*path, key))


def test_junk_in_any_place_is_read_or_refused():
    """A few hundred places of a notebook, each holding junk in turn."""
    rng = random.Random(0)
    everywhere = list(places(HONEST))
    notable = [p for p in everywhere if "nbgrader" in p or len(p) <= 3]
    read = refused = 0
    for place in rng.sample(everywhere, 200) + rng.sample(notable, 400):
        notebook = copy.deepcopy(HONEST)
        inner = notebook
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = rng.choice(JUNK)
        try:
            code = by_exercise(submissions.cells(json.dumps(notebook).encode(), CHAPTER))
            assert set(code) <= set(NAMES) and all(type(c) is str for c in code.values())
            read += 1
        except Refused as refusal:
            assert str(refusal).isprintable() and len(str(refusal)) < 300
            refused += 1
    assert read > 100 and refused > 30


# Folders ------------------------------------------------------------------------------------


def fifo(folder: Path) -> None:
    os.mkfifo(folder / CHAPTER.notebook.name)


def notebook_is_a_directory(folder: Path) -> None:
    (folder / CHAPTER.notebook.name).mkdir()


def several_forms_of_its_name(folder: Path) -> None:
    for name in ("bigrams (1).ipynb", "Bigrams.ipynb", "hand in/my \x1b[2J\nbigrams.ipynb"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(json.dumps(HONEST).encode())


def several_other_names(folder: Path) -> None:
    for letter in "abcdef":
        (folder / f"{letter * 240}.ipynb").write_bytes(b"{}")


def another_chapter(folder: Path) -> None:
    shutil.copy(Chapter("0_foundations", ROOT).notebook, folder)


def two_in_a_zip(folder: Path) -> None:
    pack(folder / "work.zip", {"old/bigrams.ipynb": HONEST, "new/bigrams.ipynb": HONEST})


def a_zip_without_notebooks(folder: Path) -> None:
    pack(folder / "photos.zip", {"photo.png": 1})


def a_bomb(folder: Path) -> None:
    with zipfile.ZipFile(folder / "bigrams.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("bigrams.ipynb", bytes(200 * 1024**2))


def a_zip_that_leads_elsewhere(folder: Path) -> None:
    pack(folder / "bigrams.zip", {"../../../bigrams.ipynb": HONEST})


def a_torn_zip(folder: Path) -> None:
    pack(folder / "bigrams.zip", {"bigrams.ipynb": HONEST})
    content = (folder / "bigrams.zip").read_bytes()
    (folder / "bigrams.zip").write_bytes(content[: len(content) // 2])


def a_zip_with_a_password(folder: Path) -> None:
    pack(folder / "bigrams.zip", {"bigrams.ipynb": HONEST})
    content = bytearray((folder / "bigrams.zip").read_bytes())
    for start, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(start) + flags] |= 1
    (folder / "bigrams.zip").write_bytes(content)


def a_zip_of_thousands(folder: Path) -> None:
    pack(folder / "bigrams.zip", {f"{i}.txt": i for i in range(1001)})


def pack(file: Path, files: dict[str, object]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, json.dumps(content))


def a_script_instead(folder: Path) -> None:
    shutil.copy(CHAPTER.source, folder)


def nothing_at_all(folder: Path) -> None:
    pass


def link_to_the_notebook(folder: Path) -> None:
    (folder / CHAPTER.notebook.name).symlink_to(CHAPTER.notebook)


def broken_link(folder: Path) -> None:
    (folder / CHAPTER.notebook.name).symlink_to("nowhere")


def link_beside_the_notebook(folder: Path) -> None:
    honest(folder)
    (folder / "data").symlink_to("/")


def hard_link(folder: Path) -> None:
    honest(folder)
    os.link(folder / CHAPTER.notebook.name, folder.parent / "other")


def too_many_files(folder: Path) -> None:
    honest(folder)
    for i in range(1001):
        (folder / str(i)).touch()


def no_time(folder: Path) -> None:
    honest(folder)
    (folder / "timestamp.txt").write_text("tomorrow, \x1b[2J I promise")


def folder_is_a_file(folder: Path) -> None:
    folder.rmdir()
    folder.touch()


def folder_is_a_link(folder: Path) -> None:
    folder.rmdir()
    folder.symlink_to(CHAPTER.notebook.parent)


def folder_missing(folder: Path) -> None:
    folder.rmdir()


def honest(folder: Path) -> None:
    (folder / CHAPTER.notebook.name).write_bytes(json.dumps(HONEST).encode())


FOLDERS = {
    fifo: "no ordinary file",
    notebook_is_a_directory: "is no ordinary file",
    several_forms_of_its_name: r"there are Bigrams.ipynb, bigrams (1).ipynb and hand in/my \x1b[2J\nbigrams.ipynb;",
    several_other_names: "and 3 more; leave the one to grade, as bigrams.ipynb",
    another_chapter: "foundations.ipynb is the only notebook there, and holds no exercise of 1_bigrams; ask for",
    two_in_a_zip: "there are work.zip/old/bigrams.ipynb and work.zip/new/bigrams.ipynb; leave",
    a_zip_without_notebooks: "there is no bigrams.ipynb in the folder (there is photos.zip)",
    a_bomb: "bigrams.zip/bigrams.ipynb is too large",
    a_zip_that_leads_elsewhere: "bigrams.zip has a path that leads elsewhere",
    a_torn_zip: "bigrams.zip cannot be unpacked",
    a_zip_with_a_password: "cannot be unpacked",
    a_zip_of_thousands: "holds 1,001 files, more than 1,000",
    a_script_instead: "there is no bigrams.ipynb in the folder (there is bigrams.py)",
    nothing_at_all: "there is no bigrams.ipynb",
    link_to_the_notebook: "is a link",
    broken_link: "is a link",
    link_beside_the_notebook: "is a link",
    hard_link: "hard link",
    too_many_files: "more than 1000 files",
    no_time: "does not hold a time",
    folder_is_a_file: "is not a folder",
    folder_is_a_link: "is not a folder",
    folder_missing: "No such file",
}
every_folder = pytest.mark.parametrize("spoil", FOLDERS, ids=lambda f: f.__name__)


@every_folder
def test_a_folder_that_holds_something_else_is_refused_in_a_line(spoil, submitted):
    spoil(submitted / "student" / CHAPTER.name)
    assert FOLDERS[spoil] in refusal(submitted)


@every_folder
def test_the_refusal_of_a_folder_says_what_to_do(spoil, submitted):
    spoil(submitted / "student" / CHAPTER.name)
    assert ADVICE.search(refusal(submitted))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("what", [CHAPTER.notebook.name, "."])
def test_what_may_not_be_read_is_refused_in_a_line(what, submitted):
    honest(submitted / "student" / CHAPTER.name)
    place = submitted / "student" / CHAPTER.name / what
    place.chmod(0)
    try:
        assert "Permission denied" in refusal(submitted)
    finally:
        place.chmod(0o755)


@pytest.mark.parametrize("student", HARMFUL)
def test_a_student_whose_name_harms_is_refused_in_a_line(student, submitted):
    assert "rename the folder" in refusal(submitted, student)


@pytest.mark.parametrize("student", NAMES_OF_PEOPLE)
def test_a_student_of_any_name_is_read(student, submitted):
    honest((submitted / "student").rename(submitted / student) / CHAPTER.name)
    assert by_exercise(submissions.read(submitted, student, CHAPTER)) == ANSWERS
    assert submissions.note(submitted, student, CHAPTER) == ""


def test_names_that_look_alike_are_told():
    decomposed = unicodedata.normalize("NFD", "José")
    assert submissions.lookalikes(["José", "Anna"], ["José", "Ben"]) == {}
    told = submissions.lookalikes([decomposed, "Anna ", "Ben"], ["José", "Anna", "Ben"])
    assert told.keys() == {decomposed, "Anna "} and "looks like 'Jos\\xe9'" in told[decomposed]


# What the chapter's notebook may be called, and what is said of it.
FORMS = {
    "bigrams (1).ipynb": "taken: bigrams (1).ipynb",
    "bigrams-1.ipynb": "taken: bigrams-1.ipynb",
    "Bigrams.ipynb": "taken: Bigrams.ipynb",
    "BIGRAMS.IPYNB": "taken: BIGRAMS.IPYNB",
    "bigrams-Copy1.ipynb": "taken: bigrams-Copy1.ipynb",
    "bigrams.ipynb.txt": "taken: bigrams.ipynb.txt",
    "hand in/bigrams.ipynb": "taken: hand in/bigrams.ipynb",
    "my work.ipynb": "taken: my work.ipynb",
    "my \x1b[2J\nnotebook.ipynb": r"taken: my \x1b[2J\nnotebook.ipynb",
    "work.zip/bigrams.ipynb": "taken: work.zip/bigrams.ipynb",
    "Work.ZIP/a folder/Bigrams (2).ipynb": "taken: Work.ZIP/a folder/Bigrams (2).ipynb",
}


@pytest.mark.parametrize("name", FORMS)
def test_the_only_candidate_is_taken_and_told(name, submitted):
    folder = submitted / "student" / CHAPTER.name
    first, _, rest = name.partition("/")
    if first.lower().endswith(".zip"):
        pack(folder / first, {rest: HONEST, f"__MACOSX/._{rest}": 1, ".ipynb_checkpoints/bigrams-checkpoint.ipynb": 1})
    else:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(HONEST))
    assert read(submitted) == ANSWERS
    assert submissions.note(submitted, "student", CHAPTER) == FORMS[name]


def test_of_several_the_one_of_the_chapters_name_is_taken_and_the_others_are_told(submitted):
    folder = submitted / "student" / CHAPTER.name
    honest(folder)
    for name in ("bigrams-Copy1.ipynb", "BIGRAMS.IPYNB", "a.ipynb", ".ipynb_checkpoints/bigrams.ipynb", "b.zip"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"junk")
    assert read(submitted) == ANSWERS
    told = submissions.note(submitted, "student", CHAPTER)
    assert told == "taken: bigrams.ipynb, not BIGRAMS.IPYNB, a.ipynb, b.zip and 1 more"


def test_a_form_of_the_name_goes_before_another_name(submitted):
    folder = submitted / "student" / CHAPTER.name
    (folder / "draft.ipynb").write_bytes(b"junk")
    (folder / "bigrams-1.ipynb").write_text(json.dumps(HONEST))
    assert read(submitted) == ANSWERS
    assert submissions.note(submitted, "student", CHAPTER) == "taken: bigrams-1.ipynb, not draft.ipynb"


def test_a_refused_directory_leaves_no_open_file(submitted):
    notebook_is_a_directory(submitted / "student" / CHAPTER.name)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        refusal(submitted)
    assert len(os.listdir("/proc/self/fd")) == before


# nbgrader -----------------------------------------------------------------------------------

UNREADABLE = (
    empty_file, truncated, binary_junk, half_of_utf_16, json_list, nbformat_5, cells_null, one_cell_null,
    source_null, twenty_megabytes, a_hundred_thousand_brackets,
)  # fmt: skip


@pytest.fixture(scope="module")
def released(course, nbgrader, tmp_path_factory) -> Path:
    """A copy of the course's own, so that nobody else grades these submissions."""
    root = tmp_path_factory.mktemp("malformed") / "course"
    shutil.copytree(course, root)
    if not (root / "gradebook.db").exists():
        nbgrader(root, "generate_assignment", CHAPTER.name, "--force")
    return root


def scores(root: Path, nbgrader) -> dict[str, float]:
    nbgrader(root, "export", "--to", "grades.csv")
    with open(root / "grades.csv") as file:
        return {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def autograded(released, nbgrader, tmp_path_factory):
    """A class in which many handed in junk and two did not: what nbgrader printed, and the scores."""
    root = tmp_path_factory.mktemp("class") / "course"
    shutil.copytree(released, root)
    hand_in(root, "maud_honest", CHAPTER, HONEST)
    hand_in(root, "mary_with_copies", CHAPTER, HONEST)
    for name in ("bigrams-Copy1.ipynb", "draft.ipynb"):
        (root / "submitted" / "mary_with_copies" / CHAPTER.name / name).write_text("junk")
    for case in (c for c in CASES if c.spoil in UNREADABLE):
        folder = root / "submitted" / case.spoil.__name__ / CHAPTER.name
        folder.mkdir(parents=True)
        (folder / CHAPTER.notebook.name).write_bytes(case.notebook())
    hand_in(root, "[pattern]", CHAPTER, HONEST)
    hand_in(root, "m*", CHAPTER, HONEST)
    folder = root / "submitted" / "no_notebook" / CHAPTER.name
    folder.mkdir(parents=True)
    a_script_instead(folder)
    printed = nbgrader(root, "autograde", CHAPTER.name, ok=False)
    return printed, scores(root, nbgrader)


@pytest.mark.proof
def test_nbgrader_names_each_refused_submission_in_a_line(autograded):
    printed, graded = autograded
    assert "Traceback" not in printed
    for spoil in UNREADABLE:
        lines = [x for x in printed.splitlines() if f"'{spoil.__name__}': refused: " in x]
        assert len(lines) == 1 and spoil.__name__ not in graded


@pytest.mark.proof
@pytest.mark.parametrize("student", ["maud_honest", "[pattern]"])
def test_nbgrader_gives_the_honest_ones_beside_them_full_marks(autograded, student):
    assert autograded[1][student] == sum(CHAPTER.exercises.values())


@pytest.mark.proof
def test_nbgrader_grades_a_submission_once_whatever_notebooks_lie_beside_it(autograded):
    """Else a thousand copies in a folder would be a thousand times the work."""
    printed, graded = autograded
    assert graded["mary_with_copies"] == sum(CHAPTER.exercises.values())
    lines = [x for x in printed.splitlines() if "Converting notebook" in x and "mary_with" in x]
    assert len(lines) == 1


@pytest.mark.proof
@pytest.mark.parametrize("student", ["no_notebook", "m*"])
def test_nbgrader_names_a_submission_that_its_own_patterns_do_not_find(autograded, student):
    assert f"'{student}': refused: " in autograded[0] and student not in autograded[1]


@pytest.mark.proof
def test_nbgrader_goes_on_after_a_folder_of_a_harmful_name(released, nbgrader):
    hand_in(released, "a\nstudent", CHAPTER, HONEST)
    hand_in(released, "maud", CHAPTER, HONEST)
    assert "refused: " in nbgrader(released, "autograde", CHAPTER.name, ok=False)
    assert scores(released, nbgrader)["maud"] == sum(CHAPTER.exercises.values())


@pytest.mark.parametrize(
    "body, told",
    [
        ("return helper(W_E) @ W_U", "raised NameError: `helper` is not defined, in its line"),
        ('raise NameError(f"name \'x{len(W_E)}\' is not defined")', "raised NameError"),
    ],
)
def test_a_missing_name_is_told_if_it_stands_in_the_submission(grader, body, told):
    """Another could carry out what the check asks."""
    code = {ONE: f"def direct_path(W_E, W_U):\n    {body}"}
    graded = grader.grade(Job(CHAPTER.name, cells_of(code), seed=1))
    (result,) = (result for result in graded.results if result.exercise == ONE)
    assert told in result.checks[0].message and "NameError: `x" not in result.checks[0].message
