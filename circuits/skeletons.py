"""What a contributor starts from: a new exercise next to its neighbours, or the files of a new chapter.

Each piece says what belongs there, after the word TODO; `circuits dev-check` lists what is left of it.
"""

import ast
import keyword
import re
from pathlib import Path

from circuits.chapters import ROOT, Chapter, chapters
from circuits.parts import Part, dictionary, entry, functions, heading, lines_of, named, of_exercise, shown, source_cells
from utils.errors import CourseError
from utils.files import write_file

WIDTH = 94  # of the line that begins an exercise's checks

CELLS = '''\
# %% [markdown]
# ### Exercise · TODO: a title    ●○○   5 min
#
# TODO: what to write and why, in a few sentences; the equation, with the shape of every symbol.
#
# <details><summary>Hint 1</summary>
# TODO: a nudge: where to look.
# </details>
# <details><summary>Hint 2</summary>
# TODO: nearly the answer: the function to call, or its first line.
# </details>

# %% exercise="{name}"
{signature}
    """TODO: what comes out, in a sentence."""
    ### BEGIN SOLUTION
    raise NotImplementedError  # TODO: the answer, in a few lines that one likes to read
    ### END SOLUTION

# %% check="{name}"
check("{name}")

# %%
# TODO: look at the result on a trained model: a picture or a few printed numbers, beside their control

# %% [markdown]
# **What to see here.** TODO: what the picture shows, and what would have been a surprise.

'''
CHECKS = '''\


# {name} {dashes}


@exercise("{name}", points=1, explains=True)
def test_{name}_of_a_case_by_hand(submission, rng):
    # TODO: the smallest case that one can do by hand. It explains, and pays only beside one that passes below
    expect(submission.{name}(...), ..., "what is asked for, as a learner would call it")


@exercise("{name}", points=1)
def test_{name}_is_what_a_slow_loop_gives(submission, rng):
    # TODO: inputs drawn from `rng` (circuits/inputs.py), and a loop that anybody believes; never the reference itself
    expect(submission.{name}(...), ..., "...")


@exercise("{name}", points=1)
def test_{name}_has_the_property_that_makes_it_worth_writing(submission, rng):
    # TODO: an identity (parts sum to the whole) or what is left unchanged, which zeros do not fulfil; name the test after it
    expect(submission.{name}(...), ..., "...")
'''
SYMMETRY = '    "{name}": "TODO: symmetric(...), or why there is nothing to follow: docs/checks.md, What cannot matter",\n'
SLIPS = {
    "along_the_wrong_axis": "a sum, a softmax or an index along another axis; rows and columns exchanged",
    "one_place_off": "a position too early or too late; the last one left out",
    "without_the_scale": "a factor, a root, a mean or a logarithm forgotten",
    "of_another_object": "W_K for W_Q, the first layer for the one given, the destination for the source",
    "wrong_in_a_rare_case": "right but where a row is empty, a token never occurs, two values are equal",
}
MISTAKE = '''\


@mistake("{name}", hint="TODO: what is wrong and what to do about it, in a sentence.")
def {name}_{slip}({parameters}):
    # For example: {idea}. Something that a learner would really write.
    raise NotImplementedError
'''
STYLES = {"in_a_loop": "as literal as it can be, one number at a time", "in_another_style": "einsum, float64, or another formula"}
VARIANT = '''\


@variant("{name}")
def {name}_{style}({parameters}):
    # TODO: another right answer: {idea}
    raise NotImplementedError
'''
SIGNATURE = 'def {name}(x: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos d_model"]:  # TODO: what it takes and returns'


def new_exercise(chapter_name: str, what: str, after: str | None = None, root: Path = ROOT) -> list[Part]:
    """Write the skeleton of an exercise into the four files of its chapter; returns where they stand.

    `what` is its name, or its whole signature as one writes it in Python. It stands `after` another exercise, by
    default the last. Raises CourseError, and changes nothing, for a name that is taken or is none.
    """
    chapter = _chapter(chapter_name, root)
    name, parameters, signature = _signature(what)
    for other in chapters(root):
        taken = [*named(other.source, "exercise"), *named(other.source, "was")] if other.source.exists() else []
        if name in taken:
            raise CourseError(f"{other.name} has or had an exercise {name!r} already: choose another name.")
    names = named(chapter.source, "exercise")
    if after is not None and after not in names:
        raise CourseError(f"{chapter.name} has no exercise {after!r}. It has: {', '.join(names) or 'none yet'}.")
    after = after or (names[-1] if names else None)

    said = dict(name=name, parameters=parameters, signature=signature, dashes="-" * (WIDTH - len(name) - 3))
    mistakes = "".join(MISTAKE.format(slip=slip, idea=idea, **said) for slip, idea in SLIPS.items())
    variants = "".join(VARIANT.format(style=style, idea=idea, **said) for style, idea in STYLES.items())
    section = f"\n\n# {name} {said['dashes']}\n{mistakes}"
    try:
        edits = {
            chapter.source: [(place := _end_of_cells(chapter, after), _gap(chapter.source, place) + CELLS.format(**said))],
            chapter.checks_file: [
                (_end_of_entry(chapter.checks_file, after), SYMMETRY.format(**said)),
                (_end_of_functions(chapter.checks_file, after), CHECKS.format(**said)),
            ],
            chapter.mistakes_file: [(_end_of_functions(chapter.mistakes_file, after), section)],
            chapter.variants_file: [(_end_of_functions(chapter.variants_file, after), variants)],
        }
    except SyntaxError as error:
        raise CourseError(f"{error.filename}, line {error.lineno}, does not compile ({error.msg}): mend it first.") from None
    texts = {file: _with(file, inserted) for file, inserted in edits.items()}
    for file, text in texts.items():
        write_file(file, text.encode())
    return [
        of_exercise(chapter, name), entry(chapter.checks_file, "SYMMETRIES", name),
        *(_around(functions(file, name)) for file in (chapter.checks_file, chapter.mistakes_file, chapter.variants_file)),
    ]  # fmt: skip


def _around(parts: list[Part]) -> Part:
    return lines_of(parts[0].file, parts[0].first, parts[-1].last)


def _chapter(name: str, root: Path) -> Chapter:
    known = [chapter for chapter in chapters(root) if chapter.source.exists()]
    found = next((chapter for chapter in known if name in (chapter.name, chapter.notebook_name)), None)
    if found is None:
        there = ", ".join(chapter.name for chapter in known) or "none: this is done in a clone of the course"
        raise CourseError(f"No chapter is called {name!r}. There are: {there}.")
    return found


def name_of(what: str) -> str:
    """The name in a signature, or the name that stands for one."""
    return what.partition("(")[0].removeprefix("def ").strip()


def _signature(what: str) -> tuple[str, str, str]:
    """The name, the names of the parameters, and the line that defines the function. Raises CourseError."""
    name = name_of(what)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise CourseError(f"{name!r} is no name for an exercise: small letters, digits and _, as functions have.")
    if "(" not in what:
        return name, "x", SIGNATURE.format(name=name)
    line = f"def {what.strip().removeprefix('def ').rstrip(':')}:"
    line = line if '"' in line else line.replace("'", '"')  # a shell takes the one kind more easily, a file has the other
    try:
        (node,) = ast.parse(f"{line} ...").body
        parameters = ast.unparse(node.args)
    except (SyntaxError, ValueError, AttributeError):
        raise CourseError(f"{line!r} does not compile: give a signature as Python has it, in quotes.") from None
    for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
        argument.annotation = None
    return name, ast.unparse(node.args), line


def _end_of_cells(chapter: Chapter, after: str | None) -> int:
    """The line after which a new exercise's cells stand: behind its neighbour's, or before the chapter's end."""
    if after:
        return of_exercise(chapter, after).last
    cells = source_cells(chapter.source)
    end = next((cell for cell in reversed(cells) if heading(cell)), cells[-1])
    return end.first - 1


def _gap(file: Path, line: int) -> str:
    """The empty line between a cell and the next, if it is not there."""
    return "\n" * bool(file.read_text("utf-8").splitlines()[line - 1].strip())


def _end_of_entry(file: Path, after: str | None) -> int:
    """The line after which an entry of SYMMETRIES stands."""
    found = dictionary(file, "SYMMETRIES")
    if found is None or found.lineno == found.end_lineno:
        raise CourseError(f"{file.name} needs a table SYMMETRIES of several lines: docs/checks.md, What cannot matter.")
    neighbour = after and entry(file, "SYMMETRIES", after)
    return neighbour.last if neighbour else found.end_lineno - 1


def _end_of_functions(file: Path, after: str | None) -> int:
    """The line after which an exercise's functions stand: behind its neighbour's, else at the end."""
    found = functions(file, after) if after else []
    return found[-1].last if found else len(file.read_text("utf-8").rstrip().splitlines())


def _with(file: Path, inserted: list[tuple[int, str]]) -> str:
    """The text of a file with some more in it, each after a line of it. Raises CourseError if it then does not compile."""
    lines = file.read_text("utf-8").splitlines(keepends=True)
    for line, text in sorted(inserted, reverse=True):
        lines[line:line] = [text]
    text = "".join(lines)
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise CourseError(
            f"{shown(file)} would not compile with the new exercise in it (line {error.lineno}: {error.msg}), so nothing was "
            "written: does a line before its place lack a comma?"
        ) from None
    return text


# Chapters -----------------------------------------------------------------------------------

CHAPTER = '''\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # {number} · {title}
#
# TODO: the question of this chapter, in three sentences.
#
# **After this chapter you can**
#
# - TODO: three or four things, each with a verb.
#
# **Time**: about 30 minutes, 0 of them for the exercises. **Needs**: TODO: chapters 0 to 2. **Follows**: TODO: the paper.

# %% tags=["setup"]
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits import check, hint, progress, reveal
from utils import Transformer

# %% [markdown]
# ## Where this chapter ends
#
# TODO: one figure of the end, from the trained model, and a sentence on it.

# %%
from utils import load_model
from utils.figures import plots

shipped = load_model("two_layer")

# %% [markdown]
# ## TODO: the first idea
#
# TODO: one idea in at most 150 words, and the equation with every shape. Its exercises follow.

# %% [markdown]
# ## What you have shown
#
# TODO: a table: the paper's claim, what your own code measured (computed here, not typed), the model it was measured on.

# %% [markdown]
# **Read on.** TODO: what to read, and what for.

# %%
progress()
'''
CHAPTER_CHECKS = '''\
"""Checks of chapter {number}. Each says in its name what must be true of an answer."""

import torch

from circuits.checking import exercise, expect, require
from circuits.inputs import integer, normal, random_model, random_tokens
from circuits.symmetries import ALL, symmetric

SYMMETRIES = {{
}}
'''
CHAPTER_MISTAKES = '''\
"""Known wrong answers to chapter {number}, each with the hint it deserves. A learner whose answer does
what one of these does is shown its hint."""

import torch

from circuits.checking import mistake
'''
CHAPTER_VARIANTS = '''\
"""Other right answers to chapter {number}, in other styles. Each must pass."""

import torch

from circuits.checking import variant
'''


def new_chapter(name: str, title: str, root: Path = ROOT) -> list[Path]:
    """Write the four files of a chapter without exercises; returns their paths. Raises CourseError, and changes
    nothing, for a name such as `6_superposition` that is taken, or that is none."""
    if not re.fullmatch(r"(0|[1-9]\d*)_[a-z][a-z0-9_]*", name):
        raise CourseError(f"{name!r} is no name for a chapter: its number, _ and small letters, as in 6_superposition.")
    chapter = Chapter(name, root)
    number = name.partition("_")[0]
    for other in chapters(root):
        if number == other.name.partition("_")[0] or chapter.notebook_name == other.notebook_name:
            raise CourseError(f"There is {other.name} already: a chapter needs a number and a name of its own.")
    texts = {
        chapter.source: CHAPTER, chapter.checks_file: CHAPTER_CHECKS,
        chapter.mistakes_file: CHAPTER_MISTAKES, chapter.variants_file: CHAPTER_VARIANTS,
    }  # fmt: skip
    if there := [file for file in texts if file.exists()]:
        raise CourseError(f"{there[0]} exists already: move it away first.")
    for file, text in texts.items():
        write_file(file, text.format(number=number, title=title).encode())
    return list(texts)
