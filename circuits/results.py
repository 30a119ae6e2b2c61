"""What checks found, as plain data: it is shown to a learner, kept on disk and sent between processes."""

from dataclasses import dataclass, field
from typing import Any


def points_text(points: float) -> str:
    """`1`, `1.5`: points without a needless `.0`."""
    return f"{points:g}"


@dataclass
class CheckResult:
    """What one check found."""

    name: str  # for people: "counts every adjacent pair"
    points: float
    passed: bool
    message: str = ""
    explains: bool = False  # it gives points beside another check that passed, not alone
    problem: str = ""  # why the answer could not be used, if so: a key of `checking.PROBLEMS`


@dataclass
class Result:
    """What the checks of one exercise found."""

    exercise: str
    checks: list[CheckResult] = field(default_factory=list)
    hint: str | None = None  # if the answer behaves like a known mistake
    printed: str = ""  # by the answer
    unsolved: bool = False
    found: str = ""  # how a grader found the answer, if not in the exercise's own cell

    @staticmethod
    def from_dict(found: dict[str, Any]) -> "Result":
        """What `dataclasses.asdict` made of a result."""
        return Result(**{**found, "checks": [CheckResult(**check) for check in found["checks"]]})

    @property
    def earned(self) -> bool:
        """Whether a check passed that gives points by itself."""
        return any(c.passed and not c.explains for c in self.checks)

    @property
    def points(self) -> float:
        return sum(c.points for c in self.checks if c.passed) if self.earned else 0

    @property
    def max_points(self) -> float:
        return sum(c.points for c in self.checks)

    @property
    def passed(self) -> bool:
        return all(c.passed for c in self.checks)
