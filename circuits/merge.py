"""A new release of a notebook into a learner's copy of an old one: three ways, cell by cell.

`base` is the release that the copy was made from, `mine` the copy, `theirs` the release that is new. What only one
side changed is as that side has it. Where both changed a cell, the new one is put in its place and the learner's is
kept below it, as a cell of their own. A cell is text to a learner, so none is merged line by line: half of an answer in
half of another is worth less than both. (nbdime's merge works by position and line, and leaves conflict marks in code.)
"""

import copy
import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from circuits.chapters import exercise_of, former_names, source, words

Cell = dict[str, Any]
Notebook = dict[str, Any]


@dataclass
class Merged:
    """A notebook brought up to date, and what there is to say about it."""

    notebook: Notebook
    new: int = 0  # cells that came in or were changed
    kept: list[str] = field(default_factory=list)  # what of the learner's now stands beside something, in words


def merge(base: Notebook, mine: Notebook, theirs: Notebook) -> Merged:
    """`mine`, with what changed from `base` to `theirs`.

    Afterwards every exercise, check and set-up cell of `theirs` is there once; nothing that a learner wrote is
    gone; outputs stay where the cell's text did; the same again changes nothing.
    """
    olds, own, news = base["cells"], mine["cells"], theirs["cells"]
    was = _pairs(own, olds, _grade_id_and_id, _grade_id, _id, _text)
    came = _pairs(news, olds, _grade_id, _text, _id) | _renamed(news, olds)
    now = {old: new for new, old in came.items()}  # where a cell of the base is in the new release
    place = {m: now[old] for m, old in was.items() if old in now}  # and a cell of the learner's
    of = {new: m for m, new in place.items()}

    merged = Merged({})
    ids = {cell.get("id") for cell in news}  # no cell of the learner's may have one of these
    blocks: dict[Hashable, list[Cell]] = {}
    for n, new in enumerate(news):
        old = olds[came[n]] if n in came else None
        m = own[of[n]] if n in of else None
        if m is None:
            if old is None or _needed(new) or not _same(new, old):
                blocks["new", n] = [new]
                merged.new += 1
        elif _same(m, new) or _same(new, old):
            blocks["new", n] = [_with_metadata(m, old, new)]
        elif _same(m, old):
            blocks["new", n] = [new]
            merged.new += 1
        else:
            mine_now = _as_own(m, ids)
            blocks["new", n] = [new, _note(_why(old, new), mine_now, ids, exercise_of(new)), mine_now]
            merged.new += 1
            merged.kept.append(_why(old, new))
    for m, cell in enumerate(own):
        if m in place:
            continue
        if m not in was:
            blocks["own", m] = [_as_own(cell, ids)]
        elif not _same(cell, olds[was[m]]):
            mine_now, gone = _as_own(cell, ids), exercise_of(olds[was[m]])
            blocks["own", m] = [mine_now]
            if gone:
                why = f"your answer to `{gone}`, which the course no longer asks for"
                blocks["own", m] = [_note(why, mine_now, ids), mine_now]
                merged.kept.append(why)

    order_of_mine = [("new", place[m]) if m in place else ("own", m) for m in range(len(own))]
    order_of_mine = [key for key in order_of_mine if key in blocks]
    order_of_theirs = [("new", n) for n in range(len(news)) if ("new", n) in blocks]
    moved = [was[m] for m in range(len(own)) if m in was]
    if moved == sorted(moved):
        order = _woven(order_of_theirs, order_of_mine)
    else:  # the learner put the cells into another order, which stays
        order = _woven(order_of_mine, order_of_theirs)
    cells = [cell for key in order for cell in blocks[key]]
    merged.notebook = copy.deepcopy({
        **mine, "cells": cells, "metadata": _three_ways(base["metadata"], mine["metadata"], theirs["metadata"]),
        "nbformat": 4, "nbformat_minor": max(mine.get("nbformat_minor", 5), 5),
    })  # fmt: skip
    return merged


# Which cell is which ------------------------------------------------------------------------


def _id(cell: Cell) -> Hashable:
    return cell.get("id")


def _grade_id(cell: Cell) -> str | None:
    """nbgrader's name of a cell, which stays when an editor gives the cell another id."""
    return cell["metadata"].get("nbgrader", {}).get("grade_id")


def _grade_id_and_id(cell: Cell) -> Hashable:
    return _grade_id(cell) and (_grade_id(cell), _id(cell))


def _text(cell: Cell) -> Hashable:
    """What a cell says, for one that some editor took the id from, or that a new release has elsewhere."""
    said = words(source(cell))
    return (cell["cell_type"], said) if said and not _grade_id(cell) else None


def _needed(cell: Cell) -> bool:
    """Whether a cell belongs to an exercise, or is what exercises need, so that a learner cannot do without it."""
    return _grade_id(cell) is not None


def _pairs(cells: Sequence[Cell], olds: Sequence[Cell], *keys: Callable[[Cell], Hashable]) -> dict[int, int]:
    """For each cell the place of the one of `olds` that it comes from: by the first key, what is left by the next."""
    found: dict[int, int] = {}
    for key in keys:
        places: dict[Hashable, list[int]] = {}
        for place in sorted(set(range(len(olds))) - set(found.values())):
            places.setdefault(key(olds[place]), []).append(place)
        for i, cell in enumerate(cells):
            if i not in found and key(cell) and places.get(key(cell)):
                found[i] = places[key(cell)].pop(0)
    return found


def _renamed(news: Sequence[Cell], olds: Sequence[Cell]) -> dict[int, int]:
    """Exercises that the base has under a name that was given up."""
    places = {_grade_id(cell): place for place, cell in enumerate(olds) if exercise_of(cell)}
    names = {_grade_id(cell) for cell in news}
    return {
        n: places[name]
        for n, cell in enumerate(news)
        for name in former_names(cell)
        if name in places and name not in names and _grade_id(cell) not in places
    }


def _same(a: Cell, b: Cell | None) -> bool:
    return b is not None and a["cell_type"] == b["cell_type"] and words(source(a)) == words(source(b))


def _woven(first: list[Hashable], second: list[Hashable]) -> list[Hashable]:
    """All of both: the order of `first`, and what only `second` has after what stands before it there."""
    known, after, last = set(first), {}, None
    for key in second:
        if key in known:
            last = key
        else:
            after.setdefault(last, []).append(key)
    return after.get(None, []) + [key for anchor in first for key in (anchor, *after.get(anchor, []))]


# What becomes of a cell ---------------------------------------------------------------------


def _three_ways(base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Of each entry the side that changed it; the learner's, if both did."""
    merged = {}
    for key in sorted({*mine, *theirs}):
        side = theirs if mine.get(key) == base.get(key) else mine
        if key in side:
            merged[key] = side[key]
    return merged


def _with_metadata(mine: Cell, old: Cell | None, new: Cell) -> Cell:
    """The learner's cell, which from now on is this one of the release."""
    metadata = _three_ways(old["metadata"] if old else {}, mine["metadata"], new["metadata"])
    for key in ("nbgrader", "circuits"):  # no learner's business
        metadata.pop(key, None)
        metadata |= {key: new["metadata"][key]} if key in new["metadata"] else {}
    return {**mine, "metadata": metadata, **({"id": new["id"]} if "id" in new else {})}


def _as_own(cell: Cell, ids: set[Any]) -> Cell:
    """The same cell as one that no release has, and that may be changed and deleted."""
    given = ("nbgrader", "circuits", "deletable", "editable")
    metadata = {key: value for key, value in cell["metadata"].items() if _grade_id(cell) is None or key not in given}
    cell = {**cell, "metadata": metadata}
    if cell.get("id") in ids or not cell.get("id"):
        cell["id"] = _new_id(source(cell), ids)
    ids.add(cell["id"])
    return cell


def _note(why: str, below: Cell, ids: set[Any], exercise: str | None = None) -> Cell:
    """A cell of text that says what the one below it is, which may be an old answer to an exercise above."""
    text = f"*Kept for you, below:* {why}."
    if exercise:
        text += f" Take over what still fits, and delete it: as long as it defines `{exercise}`, it is what counts."
    cell = {"cell_type": "markdown", "metadata": {}, "source": text, "id": _new_id(text + below["id"], ids)}
    ids.add(cell["id"])
    return cell


def _new_id(text: str, ids: set[Any]) -> str:
    """An id that no cell has yet, the same for the same text."""
    n = 0
    while (name := hashlib.sha256(f"{text} {n}".encode()).hexdigest()[:12]) in ids:
        n += 1
    return name


def _why(old: Cell | None, new: Cell) -> str:
    """What the learner's cell is that now stands below the new one."""
    exercise, before = exercise_of(new), exercise_of(old) if old else None
    if exercise and before != exercise:
        return f"your answer to `{before}`, which is now called `{exercise}`"
    if exercise:
        return f"your answer to `{exercise}` from before the exercise changed"
    return "what you had made of the cell above, which has changed"
