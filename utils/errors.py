"""The one error a user meets when what they asked for cannot be done."""


class CourseError(ValueError):
    """Its message is one clear line: what was wrong and what to do. Notebooks and the command
    line show that line alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:  # read by IPython
        return [f"{type(self).__name__}: {self}"]
