"""nbgrader's settings wherever this course is installed: for its Validate button, which runs a whole notebook.

It is installed as `etc/jupyter/nbgrader_config.py` of the environment. (What an instructor's folder needs is in
that folder's own `nbgrader_config.py`.)
"""

c = get_config()  # noqa: F821  (nbgrader provides it)

# Seconds for one cell, and for its output to arrive: nbgrader's own 30 and 4 are too few for a cell that
# measures a model on real text, or draws many heads, where other programs run too.
c.Execute.timeout = 600
c.Execute.iopub_timeout = 120
