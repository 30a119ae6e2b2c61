"""The page that a learner arrives at: what the course is, the map with their own progress, and where to go on.

It is written into their copy whenever JupyterLab is started there, and when something was solved; where it is open then, it
follows.
"""

import json
import re
from pathlib import Path

from circuits.chapters import Chapter, source
from circuits.course_progress import Progress
from circuits.learners_copy import HISTORY, copy_of
from utils.files import write_file

PAGE = "Start here.md"

_TEXT = """\
# Circuits

A hands-on course: from what an embedding does to taking a transformer apart and proving how it works.
The text is your own Python's standard library, the models are trained on it, and everything runs on this machine.
This folder is your copy. Updates of the course come into it and leave what you wrote.

{goon}

## The chapters

| no. | chapter | time | needs | solved | points |
|---|---|---|---|---|---|
{rows}

{total}. `progress()` in a notebook shows every exercise.

## How it goes

Read, run each cell with Shift+Enter, and complete the functions that are asked for. The cell below each checks your answer:

> **bigram_counts** · 0 of 3 points
>
> ✗ counts every adjacent pair
>
> > The table for tokens 0 1 2 1: entry [0, 1] should be 1; yours is 0 (2 of 9 values differ).
>
> **Hint** Rows and columns are exchanged: `counts[a, b]` is for a followed by b, so the *first* token of a pair chooses the row.

A cell that needs an exercise which you have not written yet says so. Cells that only draw are folded: click on the three dots
to see how a picture is made. An exercise is marked ●○○, ●●○ or ●●● for how hard it is.

## When you are stuck

| this | gives you |
|---|---|
| `hint("bigram_counts")` | a nudge, one more each time |
| `reveal("bigram_counts")` | an answer, also in its cell, marked as revealed (where you have the answers: a class does not) |
| `reset("bigram_counts")` | the exercise as it was at first; what you wrote is in `{history}/answers` |
| the menu *Kernel*, *Restart Kernel* | after something odd: then run the cells again from the top |
| `circuits watch` in a terminal | checks each notebook whenever you save it |
| `circuits verify` in a terminal | says what of the installation works |

Notebooks as they were before an update are in `{history}`. Nothing of yours is ever sent anywhere.
This page is written anew at every start: keep notes elsewhere.
"""


# JupyterLab does not look whether a file that is open has changed. A script in an output lets it look.
FOLLOW = f"""<script>for (const widget of window.jupyterapp?.shell.widgets("main") ?? []) {{
  const context = widget.context;
  if (context?.path?.split("/").pop() === {json.dumps(PAGE)} && !context.model.dirty) context.revert();
}}</script>"""


def write_page(copy: Path) -> None:
    """Write the page, as it is now, into a learner's copy."""
    write_file(copy / PAGE, page(copy).encode())


def page(copy: Path) -> str:
    """The page of a learner's copy, in Markdown."""
    progress = Progress(copy_of(copy))
    rows = []
    for chapter, steps in progress.rows:
        number, _, title = chapter.title.partition(" · ")
        solved = sum(step.state == "solved" for step in steps)
        time, needs = opening(chapter)
        rows.append(
            f"| {number} | {progress.markdown_link(title, chapter)} | {time} | {needs} | {solved} of {len(steps)} "
            f"| {progress.points_of(steps).removesuffix(' points')} |"
        )
    then = progress.next()
    if then is None:
        goon = "**You have been through all of it.**"
    else:
        chapter, step = then
        word = "Continue with" if any(s.state != "open" for _, s in progress.steps()) else "Begin with"
        to = (step.task.title, chapter, step.task) if word == "Continue with" else (chapter.title, chapter)
        goon = f"**{word} {progress.markdown_link(*to)}**" + f" in {chapter.title}." * (len(to) == 3)
    return _TEXT.format(goon=goon, rows="\n".join(rows), total=progress.total(), history=HISTORY)


def opening(chapter: Chapter) -> tuple[str, str]:
    """What the first text of a chapter says of the time it takes and of what one needs for it; "" for what it does not."""
    text = " ".join(source(chapter.cells[0]).split())
    time, needs = re.search(r"\*\*Time\*\*: ([^,.;]+)", text), re.search(r"\*\*Needs\*\*: (.+?)\.(?: |$)", text)
    return (time[1] if time else ""), (needs[1].replace("|", "\\|") if needs else "")
