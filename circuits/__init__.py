"""The machinery of the course, and what a learner calls in a notebook."""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

# nbgrader's Validate button runs a whole notebook while one waits: of a training, a few steps will do.
if "NBGRADER_VALIDATING" in os.environ:
    os.environ.setdefault("CIRCUITS_QUICK", "1")


def _own_utils() -> None:
    """Let `utils` be the course's: a file of that name beside a notebook would come first."""
    folder = Path(__file__).resolve().parent.with_name("utils")
    theirs = getattr(sys.modules.get("utils"), "__file__", None)
    if theirs is None and (spec := PathFinder.find_spec("utils")):
        theirs = spec.origin
    if theirs is not None and Path(theirs).resolve().parent == folder:
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == "utils"]:
        del sys.modules[name]
    spec = spec_from_file_location("utils", folder / "__init__.py", submodule_search_locations=[str(folder)])
    module = sys.modules["utils"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    if theirs is not None:
        says = f"circuits: `utils` is the course's here, not your {theirs}; rename yours to use it."
        print(says, file=sys.stderr)


_own_utils()

from circuits import pictures, unwritten  # noqa: E402
from circuits.exercises import check, hint, progress, reset, reveal  # noqa: E402

unwritten.install()
pictures.install()

__all__ = ["check", "hint", "progress", "reset", "reveal"]
