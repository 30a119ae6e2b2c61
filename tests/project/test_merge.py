"""A new release into a learner's notebook: what holds for any edits of the learner's and any changes of the release.

Both are drawn at random, from a seed that a failure names.
"""

import copy
import json
import random
import re
from itertools import count

import pytest

from circuits.chapters import exercise_of, source, words
from circuits.merge import merge

SEEDS = range(300)


def for_every_seed(test):
    """One test for all seeds, which says at which it failed."""

    def tests():
        for seed in SEEDS:
            try:
                test(seed)
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise

    tests.__name__, tests.__doc__ = test.__name__, test.__doc__
    return tests


# A release, and what becomes of it ----------------------------------------------------------


def text(said: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": said}


def code(said: str) -> dict:
    return {"cell_type": "code", "metadata": {"tags": ["raises-exception"]}, "source": said, "outputs": [], "execution_count": None}


def graded(name: str, said: str, **flags) -> dict:
    return {**code(said), "metadata": {"nbgrader": {"grade_id": name, "solution": False, "grade": False, **flags}}}


def exercise(name: str, says: str = "") -> list[dict]:
    stub = f'def {name}(x):\n    """What {name} is.{says}"""\n    raise NotImplementedError()'
    return [
        text(f"### Exercise {name}"), graded(name, stub, solution=True),
        graded(f"check_{name}", f'check("{name}")', grade=True),
    ]  # fmt: skip


def notebook(sections: list[list[dict]]) -> dict:
    """Sections one after the other, with ids as the build gives them: by name, or by section and place in it."""
    cells = []
    for section in sections:
        heading = re.sub(r"[^a-z0-9]+", "-", source(section[0]).lower()).strip("-")
        for n, cell in enumerate(copy.deepcopy(section), 1):
            cells.append(cell | {"id": cell["metadata"].get("nbgrader", {}).get("grade_id") or f"{heading}-{n}"})
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def a_release(draw: random.Random, words: count) -> list[list[dict]]:
    sections = [[graded("setup", "import torch")]]
    for s in range(draw.randint(1, 4)):
        section = [text(f"## Section {s}")]
        for _ in range(draw.randint(0, 4)):
            kind = draw.choice("tces")
            if kind == "e":
                section += exercise(f"answer_{next(words)}")
            else:
                said = "the same in many cells" if kind == "s" else f"released {next(words)}"
                section.append(code(said) if kind == "c" else text(said))
        sections.append(section)
    return sections


def a_change(sections: list[list[dict]], draw: random.Random, words: count) -> None:
    """Of a release: one that its authors make."""
    section = draw.choice(sections[1:])
    at = draw.randint(1, len(section))
    names = [exercise_of(c) for c in section if exercise_of(c)]
    kind = draw.choice(["insert", "change", "remove", "exercise", "rename", "stub", "drop", "order", "section"])
    if kind == "insert":
        section.insert(at, draw.choice([text, code])(f"released {next(words)}"))
    elif kind == "change" and (plain := [c for c in section[1:] if "nbgrader" not in c["metadata"]]):
        draw.choice(plain)["source"] = f"released {next(words)}"
    elif kind == "remove" and (plain := [c for c in section[1:] if "nbgrader" not in c["metadata"]]):
        section.remove(draw.choice(plain))
    elif kind == "exercise":
        section += exercise(f"answer_{next(words)}")
    elif kind in ("rename", "stub", "drop") and names:
        name = draw.choice(names)
        section[:] = [c for c in section if source(c) != f'check("{name}")']
        at = next(i for i, c in enumerate(section) if exercise_of(c) == name)
        new = {"rename": exercise(f"answer_{next(words)}"), "stub": exercise(name, f" {next(words)}"), "drop": []}[kind]
        if new and kind == "rename" and draw.random() < 0.5:
            new[1]["metadata"]["circuits"] = {"was": [name]}
        section[at : at + 1] = new[1:]
    elif kind == "order":
        rest = sections[1:]
        draw.shuffle(rest)
        sections[1:] = rest
    elif kind == "section":
        section[0]["source"] += " anew"


def an_edit(cells: list[dict], draw: random.Random, words: count) -> None:
    """Of a copy: one that a learner makes, in some editor."""
    at = draw.randrange(len(cells))
    cell = cells[at]
    kind = draw.choice(["answer"] * 4 + ["type", "add", "add", "delete", "copy", "split", "move", "run", "no ids", "kind", "same id"])
    if kind == "answer" and (asked := [c for c in cells if exercise_of(c)]):
        cell = draw.choice(asked)
        cell["source"] = f"def {exercise_of(cell)}(x):\n    return 'MINE {next(words)}'"
    elif kind == "type":
        cell["source"] = source(cell) + f"\nMINE {next(words)}"
    elif kind == "add":
        mine = draw.choice([text, code])(f"MINE {next(words)}")
        mine["metadata"] = {}
        cells.insert(at, mine | {"id": f"lab-{next(words)}"})
    elif kind == "delete" and len(cells) > 1:
        del cells[at]
    elif kind == "copy":
        cells.insert(draw.randint(0, len(cells)), copy.deepcopy(cell) | {"id": f"lab-{next(words)}"})
    elif kind == "split":
        cells.insert(at + 1, copy.deepcopy(cell) | {"id": f"lab-{next(words)}", "source": f"MINE {next(words)}"})
    elif kind == "move":
        cells.insert(draw.randint(0, len(cells) - 1), cells.pop(at))
    elif kind == "run" and cell["cell_type"] == "code":
        cell |= {"outputs": [{"output_type": "stream", "name": "stdout", "text": f"SHOWN {next(words)}"}], "execution_count": 3}
    elif kind == "no ids":
        for cell in cells:
            cell.pop("id", None)
    elif kind == "kind":
        cell["cell_type"] = "markdown"
    elif kind == "same id":
        cells[draw.randrange(len(cells))]["id"] = f"answer_{draw.randint(0, 30)}"


def drawn(seed: int, edits: int = 8, changes: int = 6) -> tuple[dict, dict, dict]:
    """A release, a learner's copy of it, and the next release."""
    draw, words = random.Random(seed), count()
    sections = a_release(draw, words)
    base = notebook(sections)
    mine = copy.deepcopy(base)
    for _ in range(draw.randint(0, edits)):
        an_edit(mine["cells"], draw, words)
    for _ in range(draw.randint(0, changes)):
        a_change(sections, draw, words)
    return base, mine, notebook(sections)


def written(made: dict) -> list[str]:
    """What a learner wrote."""
    return re.findall(r"MINE \d+", json.dumps([source(c) for c in made["cells"]]))


def course_cells(made: dict) -> list[str]:
    names = [c["metadata"].get("nbgrader", {}).get("grade_id") for c in made["cells"]]
    return sorted(name for name in names if name)


def sources(made: dict) -> list[str]:
    return [source(c) for c in made["cells"]]


# What holds ---------------------------------------------------------------------------------


@for_every_seed
def test_whatever_happened_on_both_sides(seed):
    base, mine, theirs = drawn(seed)
    before = copy.deepcopy((base, mine, theirs))
    merged = merge(base, mine, theirs).notebook
    assert (base, mine, theirs) == before, "what was given is as it was"
    assert sorted(set(written(merged))) == sorted(set(written(mine))), "nothing that the learner wrote is gone"
    assert course_cells(merged) == course_cells(theirs), "every exercise, check and set-up of the release is there once"
    ids = [c["id"] for c in merged["cells"]]
    assert len(ids) == len(set(ids)) and all(ids)
    again = merge(theirs, merged, theirs)
    assert again.notebook == merged and not again.kept and not again.new, "twice is the same as once"
    came = {source(c) for c in theirs["cells"]} - {source(c) for c in base["cells"]}
    assert came <= set(sources(merged)), "all that is new or changed came in"


@for_every_seed
def test_who_did_nothing_has_the_new_release(seed):
    base, _, theirs = drawn(seed)
    assert merge(base, copy.deepcopy(base), theirs).notebook["cells"] == theirs["cells"]


@for_every_seed
def test_where_the_release_is_the_same_all_stays_in_its_place(seed):
    base, mine, _ = drawn(seed)
    merged = merge(base, mine, base).notebook
    lost = set(course_cells(base)) - set(course_cells(mine))
    kept = [said for cell, said in zip(merged["cells"], sources(merged), strict=True)
            if cell["metadata"].get("nbgrader", {}).get("grade_id") not in lost]  # fmt: skip
    assert kept == sources(mine)


@for_every_seed
def test_what_was_shown_stays_where_the_cell_says_the_same(seed):
    base, mine, theirs = drawn(seed)
    merged = merge(base, mine, theirs).notebook
    shown = {(json.dumps(c["outputs"]), words(source(c))) for c in merged["cells"] if c.get("outputs")}
    new = {words(source(c)) for c in theirs["cells"]}
    for cell in (c for c in mine["cells"] if c.get("outputs")):
        if words(source(cell)) in new - {"the same in many cells"} or "MINE" in source(cell):
            assert (json.dumps(cell["outputs"]), words(source(cell))) in shown


@for_every_seed
def test_from_release_to_release(seed):
    """A learner who works on, three updates long."""
    draw, said = random.Random(seed), count()
    sections = a_release(draw, said)
    base = notebook(sections)
    mine = copy.deepcopy(base)
    for _ in range(3):
        for _ in range(3):
            an_edit(mine["cells"], draw, said)
            a_change(sections, draw, said)
        theirs, had = notebook(sections), set(written(mine))
        mine, base = merge(base, mine, theirs).notebook, theirs
        assert set(written(mine)) == had and course_cells(mine) == course_cells(theirs)


# Case by case -------------------------------------------------------------------------------


BASE = [[text("## One"), text("Why."), *exercise("first"), code("plot(first)")], [text("## Two"), *exercise("second")]]


def answer(made: dict, name: str, said: str = "ANSWER") -> dict:
    cell = next(c for c in made["cells"] if exercise_of(c) == name)
    cell["source"] = said
    return made


def update(mine: dict, sections: list[list[dict]]) -> tuple[list[str], list[str]]:
    merged = merge(notebook(BASE), mine, notebook(sections))
    return sources(merged.notebook), merged.kept


def test_an_answer_stays_while_all_around_it_changes():
    sections = copy.deepcopy(BASE)
    sections[0][1:2] = [text("Why, at length."), code("look()")]
    said, kept = update(answer(notebook(BASE), "first"), sections)
    assert said[:5] == ["## One", "Why, at length.", "look()", "### Exercise first", "ANSWER"] and kept == []


def test_an_answer_to_a_changed_exercise_stands_below_the_new_stub():
    sections = copy.deepcopy(BASE)
    sections[0][2:5] = exercise("first", " In nats.")
    said, kept = update(answer(notebook(BASE), "first"), sections)
    at = said.index("ANSWER")
    assert "In nats." in said[at - 2] and said[at + 1] == 'check("first")'
    assert "your answer to `first` from before the exercise changed" in said[at - 1]
    assert kept == ["your answer to `first` from before the exercise changed"]


@pytest.mark.parametrize("told", [True, False])
def test_an_answer_to_a_renamed_exercise_is_kept_beside_the_new_one(told):
    sections = copy.deepcopy(BASE)
    sections[0][2:5] = exercise("better")
    if told:
        sections[0][3]["metadata"]["circuits"] = {"was": ["first"]}
    said, kept = update(answer(notebook(BASE), "first"), sections)
    at = said.index("ANSWER")
    new = next(i for i, s in enumerate(said) if s.startswith("def better"))
    assert abs(at - new) <= 2 and said.count('check("better")') == 1 and 'check("first")' not in said
    assert kept == [
        "your answer to `first`, which is now called `better`" if told
        else "your answer to `first`, which the course no longer asks for"
    ]  # fmt: skip


def test_what_a_learner_deleted_stays_away_but_for_exercises():
    mine = notebook(BASE)
    mine["cells"] = [c for c in mine["cells"] if c["id"] not in ("one-2", "second", "check_second")]
    said, _ = update(mine, BASE)
    assert "Why." not in said and said.count('check("second")') == 1 and any(s.startswith("def second") for s in said)


def test_a_split_answer_and_a_copied_one_are_all_there_and_the_exercise_once():
    mine = answer(notebook(BASE), "first")
    cell = next(c for c in mine["cells"] if exercise_of(c) == "first")
    mine["cells"].insert(3, cell | {"id": "lab-1", "source": "HELPER"})
    merged = merge(notebook(BASE), mine, notebook(BASE)).notebook
    assert [c["id"] for c in merged["cells"] if exercise_of(c)] == ["first", "second"]
    assert sources(merged) == sources(mine)


def test_cells_in_an_order_of_ones_own_keep_it():
    mine = notebook(BASE)
    mine["cells"].append(mine["cells"].pop(1))
    sections = copy.deepcopy(BASE)
    sections[1].append(text("An end."))
    said, _ = update(mine, sections)
    assert said[-2:] in (["An end.", "Why."], ["Why.", "An end."]) and said.count("Why.") == 1


def test_a_kernel_of_ones_own_stays():
    base, mine, theirs = (notebook(BASE) for _ in range(3))
    for made, kernel in ((base, "python3"), (mine, "python3"), (theirs, "circuits")):
        made["metadata"]["kernelspec"] = {"name": kernel}
    assert merge(base, mine, theirs).notebook["metadata"]["kernelspec"] == {"name": "circuits"}
    mine["metadata"]["kernelspec"] = {"name": "mine"}
    assert merge(base, mine, theirs).notebook["metadata"]["kernelspec"] == {"name": "mine"}
