"""Mystery models: the family, the shipped ones, what the judge accepts and refuses, and the course that the command writes."""

import json
import random

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open

from circuits.chapters import Chapter, load_answers, load_module
from circuits.checking import Submission
from circuits.cli import main
from circuits.judging import run_checks
from circuits.mystery import MYSTERIES, SHIPPED, course, judge, load_mystery
from circuits.mystery.family import LEVELS, LONGEST, N_SYMBOLS, QUIRKS, RULES, draw_plan, level_of
from circuits.mystery.make import ENOUGH, SHAPE, as_tokens, fresh_texts, last_answers, prove
from circuits.chapters import ROOT
from utils.errors import CourseError

SEEDS = load_module(ROOT / "tests" / "checks" / "test_discovery.py").SEEDS

# The family -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_texts_are_of_their_kind_and_answers_are_symbols(name):
    draw = random.Random(0)
    for seed in range(12):
        plan = draw_plan(seed, name)
        assert plan.quirk in QUIRKS and plan.quirk_node not in plan.nodes and plan.quirk_node in ("m1", "1.0", "1.1", "1.2", "1.3")
        for kind, some in fresh_texts(plan, draw, 6).items():
            for s in some:
                assert 1 <= len(s) <= LONGEST and all(1 <= x <= N_SYMBOLS for x in s)
                assert 1 <= plan.rule(s) <= N_SYMBOLS
                assert plan.answer(s) == (plan.says if plan.applies(s) else plan.rule(s))
                assert kind == "unusual" or plan.applies(s) == (kind == "quirk")
        assert len(plan.whole(draw)) == LONGEST


def test_every_rule_comes_up_and_a_seed_is_always_the_same():
    plans = [draw_plan(seed) for seed in range(80)]
    assert {plan.rule_name for plan in plans} == set(RULES) and {plan.quirk for plan in plans} == set(QUIRKS)
    assert [draw_plan.__wrapped__(seed).program for seed in range(80)] == [plan.program for plan in plans]


def test_rules_by_hand():
    by_hand = {
        "largest": ([3, 9, 4], 9), "smallest": ([3, 9, 4], 3), "most frequent": ([5, 2, 2, 5, 7], 2),
        "sort position": ([1, 9, 5, 7], 2),
    }  # fmt: skip
    for name, (text, want) in by_hand.items():
        assert draw_plan(0, name).rule(text) == want


# The shipped ones --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MYSTERIES)
def test_a_shipped_mystery_is_learned_and_solvable(name):
    model, plan = load_mystery(name), draw_plan(SEEDS[name])
    proof = prove(model, plan, fresh_texts(plan, random.Random(5), 60))
    assert min(proof.values()) >= ENOUGH - 0.02, proof
    assert judge.solve(model, plan, seed=17) == {}


@pytest.mark.parametrize("name", MYSTERIES)
def test_nothing_in_the_file_tells_the_algorithm(name):
    with safe_open(SHIPPED / f"{name}.safetensors", "pt") as file:
        assert list(file.metadata()) == ["config"]
        config = json.loads(file.metadata()["config"])
        assert {key: config[key] for key in SHAPE} == SHAPE, "all have one shape"
    assert len({(SHIPPED / f"{other}.safetensors").stat().st_size for other in MYSTERIES}) == 1


def test_they_go_from_easy_to_hard():
    levels = [list(LEVELS).index(level_of(draw_plan(SEEDS[name]).rule_name)) for name in MYSTERIES]
    assert levels == sorted(levels) and len(set(levels)) > 1
    assert len({draw_plan(SEEDS[name]).rule_name for name in MYSTERIES}) == len(MYSTERIES)


# What the judge refuses -------------------------------------------------------------------------


def test_a_table_of_shown_texts_gets_nothing():
    mystery = judge.Mystery(load_mystery("B"), draw_plan(SEEDS["B"]))
    texts, said = mystery.asked(1, "plain", 300)
    shown = dict(zip(map(tuple, texts), said, strict=True))
    judge.judge_predict(mystery, lambda s: shown.get(tuple(s), 1), 1, "plain", 300)
    with pytest.raises(AssertionError, match="They differ on 8 of"):
        judge.judge_predict(mystery, lambda s: shown.get(tuple(s), 1), 2, "plain")


def test_too_large_a_circuit_an_untouched_model_and_a_broken_one_are_refused():
    model, plan = load_mystery("A"), draw_plan(SEEDS["A"])
    mystery = judge.Mystery(model, plan)
    nodes = [f"{layer}.{head}" for layer in (0, 1) for head in range(4)] + ["m0", "m1"]
    broken = judge.copied(model)
    with torch.no_grad():
        broken.unembed.W_U.zero_()
    for attempt in (
        lambda: judge.judge_circuit(mystery, nodes, 3, len(plan.circuit) + 1),
        lambda: judge.judge_circuit(mystery, [], 3, 3),
        lambda: judge.judge_circuit(mystery, ["9.9"], 3, 3),
        lambda: judge.judge_disable(mystery, model, 3),
        lambda: judge.judge_disable(mystery, broken, 3),
        lambda: judge.judge_redirect(mystery, model, 4 if plan.says != 4 else 5, 3),
    ):
        with pytest.raises(AssertionError) as refused:
            attempt()
        assert str(refused.value)


def test_a_program_that_is_nearly_right_is_asked_to_the_end():
    """It may miss one text in twenty, and no more."""
    mystery = judge.Mystery(load_mystery("A"), draw_plan(SEEDS["A"]))
    texts, said = mystery.asked(4, "plain")
    right = dict(zip(map(tuple, texts), said, strict=True))
    for n_wrong, passes in ((2, True), (3, False)):
        wrong = dict.fromkeys(list(right)[-n_wrong:], 0)
        program = lambda s: (right | wrong)[tuple(s)]  # noqa: E731, B023
        if passes:
            judge.judge_predict(mystery, program, 4, "plain")
        else:
            with pytest.raises(AssertionError, match=f"They differ on 3 of {len(texts)} texts"):
                judge.judge_predict(mystery, program, 4, "plain")


@torch.no_grad()
def test_what_stands_behind_the_end_of_a_text_does_not_reach_its_answer():
    model = load_mystery("A")
    texts = [[3], [1, 4, 1, 5, 9], list(range(1, 12))]
    alone = [int(model(as_tokens([text]))[0, -1].argmax()) for text in texts]
    assert last_answers(model, texts) == alone and last_answers(model, []) == []


# The command ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A course written by the command's own function, of a shipped model instead of a training of minutes."""
    folder = tmp_path_factory.mktemp("mystery") / "course"
    name = "B"
    plan = draw_plan(SEEDS[name])
    model = load_mystery(name)
    patch = pytest.MonkeyPatch()
    patch.setattr(course, "learned", lambda seed, watch: (model, plan, {"plain": 1.0}))
    try:
        course.write_course(SEEDS[name], folder)
    finally:
        patch.undo()
    return folder


def test_the_planted_truth_gets_full_marks_by_the_written_checks(written):
    chapter = Chapter(course.CHAPTER, written)
    answers, problems = load_answers(chapter.source)
    assert problems == {}
    for name, points in chapter.exercises.items():
        result = run_checks(chapter.checks(name), Submission(answers, like=chapter.stubs), list, seed=3)
        assert result.points == points, [c.message for c in result.checks]


def test_who_wrote_nothing_gets_nothing(written):
    chapter = Chapter(course.CHAPTER, written)
    answers, _ = load_answers(chapter.notebook)
    for name in chapter.exercises:
        assert run_checks(chapter.checks(name), Submission(answers), list, 0).points == 0


def test_the_class_is_given_nothing_that_tells(written):
    given = [file.name for file in (written / "notebooks" / course.CHAPTER).iterdir()]
    assert sorted(given) == ["mystery.ipynb", "mystery.safetensors"]
    text = (written / "notebooks" / course.CHAPTER / "mystery.ipynb").read_text("utf-8")
    plan = draw_plan(SEEDS["B"])
    assert "BEGIN SOLUTION" not in text and plan.rule_name not in text and "draw_plan" not in text


def test_graded_in_the_sandbox_like_any_chapter(written):
    """The planted truth, and beside it a program that would run the model: the worker does not have it."""
    from circuits.grading.grader import Grader, Job
    from circuits.grading.submissions import Cell

    chapter = Chapter(course.CHAPTER, written)
    from circuits.chapters import answer_cells

    cells = dict(answer_cells(chapter.source))
    cheat = (
        "def predict(tokens):\n"
        "    import glob\n"
        "    from utils.pretrained import load_model\n"
        "    found = glob.glob('/**/*mystery*.safetensors', recursive=True) + glob.glob('**/models/*.safetensors', recursive=True)\n"
        "    return int(load_model(found[0])(torch.tensor([[0, *tokens]]))[0, -1].argmax())\n"
    )
    with Grader() as grader:
        graded = {}
        for what, answers in (("truth", cells), ("cheat", cells | {"predict": cheat})):
            job = Job(chapter.name, [Cell(name, code) for name, code in answers.items()], seed=11, root=written)
            found = grader.grade(job)
            assert found.error is None
            if found.unsandboxed:
                pytest.skip(f"no sandbox here: {found.unsandboxed}")
            graded[what] = {r.exercise: r.points for r in found.results}
    assert graded["truth"] == chapter.exercises
    assert graded["cheat"] == chapter.exercises | {"predict": 0}


def test_what_cannot_be_done_is_said_in_a_line_and_nothing_is_lost(tmp_path, monkeypatch):
    kept = tmp_path / "full" / "mine.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    run = CliRunner().invoke(main, ["mystery", "--seed", "3", "--out", str(kept.parent)])
    assert run.exit_code == 1 and "is not empty" in run.output and kept.read_text() == "mine"

    def fails(seed, watch):
        raise CourseError("The model of seed 3 has not learned.")

    monkeypatch.setattr(course, "learned", fails)
    run = CliRunner().invoke(main, ["mystery", "--seed", "3", "--out", str(tmp_path / "new")])
    assert run.exit_code == 1 and "has not learned" in run.output and not (tmp_path / "new").exists()
    run = CliRunner().invoke(main, ["mystery", "--seed", "-1", "--out", str(tmp_path / "new")])
    assert run.exit_code == 2
