"""Writing into a cell of the notebook that is open in JupyterLab.

The open document belongs to the page: it may hold what is not saved yet, and JupyterLab asks who is right when the
file below it changes. So the page does the writing, by a script in an output: the cell's undo still has what was there,
and the page hands that to the kernel, for the history. Saving is left to the page too. Where there is no such page (VS
Code, Colab, a terminal), nothing is written, and the note says what to do.
"""

import json
import sys
import time
from pathlib import Path
from uuid import uuid4

from circuits.learners_copy import HISTORY, copy_of, keep
from circuits.report import BOX, OPEN, inline

# The script is saved in the notebook, and runs again when that is opened: it writes once in a browser, and then no more.
SECONDS = 60

_SCRIPT = """
(() => {
  const want = %s;
  const lab = window.jupyterapp;
  if (!lab) return;
  const say = (times) => {  // the note may not be on the page yet
    const note = document.getElementById(want.note);
    if (note) note.innerHTML = want.done;
    else if (times) setTimeout(() => say(times - 1), 100);
  };
  for (const panel of lab.shell.widgets("main")) {
    const kernel = panel.sessionContext?.session?.kernel;
    for (const cell of panel.content?.model?.cells ?? []) {
      if (cell.getMetadata("nbgrader")?.grade_id !== want.exercise) continue;
      const before = cell.sharedModel.getSource();
      if (before === want.text) say(50);
      else if (kernel?.id === want.kernel && Date.now() < want.until && !localStorage.getItem(want.note)) {
        localStorage.setItem(want.note, "written");
        cell.sharedModel.setSource(want.text);
        const call = `keep_answer(${JSON.stringify(want.exercise)}, ${JSON.stringify(before)})`;
        const code = `from circuits.open_notebook import keep_answer; ${call}`;
        kernel.requestExecute({code, silent: true, store_history: false});
        say(50);
      }
    }
  }
})();
"""


class Written:
    """Puts text into an exercise's cell when a page shows it; says what happened, or what to do instead. May bring
    another script along."""

    def __init__(self, exercise: str, text: str, done: str, otherwise: str, script: str = ""):
        self.exercise, self.text, self.done, self.otherwise, self.script = exercise, text, done, otherwise, script

    def __repr__(self) -> str:
        return self.otherwise

    def _repr_html_(self) -> str:
        note = f"circuits-{uuid4().hex}"
        want = {
            "kernel": _kernel_id(), "exercise": self.exercise, "text": self.text, "note": note,
            "done": inline(self.done), "until": int(1000 * (time.time() + SECONDS)),
        }  # fmt: skip
        script = _SCRIPT % json.dumps(want).replace("</", "<\\/")
        box = f'<div role="status" id="{note}" style="{BOX.format(color=OPEN)}">{inline(self.otherwise)}</div>'
        return f"{box}<script>{script}</script>{self.script}"


def _kernel_id() -> str:
    """What JupyterLab calls the kernel that runs here; "" where none does."""
    if "ipykernel" not in sys.modules:
        return ""
    from ipykernel.connect import get_connection_file

    try:
        return Path(get_connection_file()).stem.removeprefix("kernel-")
    except (RuntimeError, ValueError, OSError):
        return ""


def keep_answer(exercise: str, code: str) -> None:
    """Put an answer that was replaced into the history of the learner's copy."""
    copy = copy_of()
    if copy is not None and code.strip():
        stamp = time.strftime("%Y-%m-%d %H.%M.%S")
        keep(copy, f"answers/{exercise} {stamp}.py", code.encode("utf-8", "replace"))


def where_kept() -> str:
    """Where a learner finds what `keep_answer` keeps, in words."""
    return f"what was there is in `{HISTORY}/answers`" if copy_of() else "what was there comes back with Ctrl+Z in the cell"
