"""The step of `nbgrader autograde` that executes a submission."""

from nbgrader.preprocessors import Execute
from nbgrader.utils import is_grade, is_locked, is_solution


class ExecuteAnswers(Execute):
    """nbgrader's own execution of a notebook in a kernel, for the cells that checks need: set-up,
    exercises and checks. Demonstrations and live trainings would take minutes a submission."""

    def preprocess_cell(self, cell, resources, index):
        if is_solution(cell) or is_grade(cell) or is_locked(cell):
            return super().preprocess_cell(cell, resources, index)
        return cell, resources
