"""The machinery of the course, and what a learner calls in a notebook."""

import sys

# jsonschema, under nbformat and jupytext, loads a grammar of web addresses if it is there: more than
# a second in every process, for something that no notebook holds.
sys.modules.setdefault("rfc3987_syntax", None)

from circuits.exercises import check, hint, progress, reveal  # noqa: E402

__all__ = ["check", "hint", "progress", "reveal"]
