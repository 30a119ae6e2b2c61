"""Limits that a busy machine does not trip."""

import subprocess
import sys
import time

import pytest
from conftest import cells_of, reference

from circuits import limits
from circuits.chapters import Chapter
from circuits.grading.grader import DIED, Grader, Job
from circuits.limits import OutOfTime, time_limit

CHAPTER = Chapter("1_bigrams")
ANSWERS = reference(CHAPTER)
FIRST, *MIDDLE, LAST = ANSWERS


def test_who_only_sleeps_is_stopped_by_the_clock():
    with pytest.raises(OutOfTime), time_limit(0.05):
        time.sleep(60)


def test_the_clock_does_not_count_while_no_processor_is_free(monkeypatch):
    """As if this process had waited all the time."""
    monkeypatch.setattr(limits, "waited", lambda pid: time.monotonic())
    with time_limit(0.05):
        time.sleep(0.5)


def test_waiting_for_another_process_is_excused():
    with time_limit(0.05), limits.excused():
        time.sleep(0.5)


def test_computing_elsewhere_is_charged():
    with time_limit(5):
        limits.charge(4)
        assert limits.left() <= 1
        with time_limit(3):
            assert limits.left() <= 1  # no more than the block around it has
            limits.charge(1)
        assert limits.left() <= 0


def test_a_block_goes_on_after_one_inside_it():
    with pytest.raises(OutOfTime), time_limit(0.2):
        with time_limit(5):
            pass
        while True:
            pass


def test_what_a_process_computed_and_waited_is_read():
    before = limits.computed("self")
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    assert limits.computed("self") - before > 0.05
    assert limits.waited("self") >= 0 and limits.waited(2**30) == limits.computed(2**30) == 0


# What one submission may cost ---------------------------------------------------------------


def grade(answers: dict[str, str], grader: Grader | None = None) -> dict[str, tuple[float, str]]:
    """Points and what was said, by exercise."""
    with grader or Grader(chapter=CHAPTER) as grader:
        graded = grader.grade(Job(CHAPTER.name, cells_of(answers), seed=3))
    assert graded.error is None
    return {r.exercise: (r.points, " ".join(c.message for c in r.checks)) for r in graded.results}


@pytest.mark.proof
@pytest.mark.parametrize("body, spoiled", [("__import__('time').sleep(10**6)", MIDDLE), ("while True: pass", MIDDLE[:5])])
def test_who_sleeps_or_grinds_keeps_the_marks_of_other_answers(body, spoiled):
    """All that sleep cost little, five that grind 25 seconds. (The batch goes on after three minutes of a free machine;
    that is counted by `remote`, as a test must not measure time.)"""
    code = {name: f"def {name}(*args, **kwargs):\n    {body}" for name in spoiled}
    got = grade({**ANSWERS, **code})
    for name in set(ANSWERS) - set(spoiled):
        assert got[name] == (CHAPTER.exercises[name], " " * (len(CHAPTER.checks(name)) - 1)), name
    for name in spoiled:
        assert got[name][0] == 0 and "had not finished after" in got[name][1], (name, got[name])


@pytest.mark.proof
def test_a_mark_does_not_depend_on_load():
    """Three times as many busy processes as this machine has processors, beside right and half right answers."""
    half = "def direct_path(W_E, W_U):\n    return (W_E @ W_U).abs()"
    alone = grade({**ANSWERS, "direct_path": half})
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
    try:
        assert grade({**ANSWERS, "direct_path": half}) == alone
    finally:
        for process in busy:
            process.kill()
            process.wait()


class Fragile(Grader):
    """Its process ends whenever it has judged one of the answers."""

    deaths = 0

    def _line(self, seconds):
        line = super()._line(seconds)
        if line and line.get("exercise") == MIDDLE[0] and line["checks"][0]["message"] != DIED:
            self.deaths += 1
            self.process.kill()
            return None
        return line


@pytest.mark.proof
def test_the_end_of_a_grading_process_is_a_zero_with_a_reason_for_the_answer_it_ended_at():
    fragile = Fragile(chapter=CHAPTER)
    got = grade(ANSWERS, fragile)
    assert fragile.deaths == 2
    points = {name: of for name, (of, _) in got.items()}
    assert points == {**CHAPTER.exercises, MIDDLE[0]: 0} and DIED in got[MIDDLE[0]][1]
