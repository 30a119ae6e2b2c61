"""An answer leaves what it was given, and torch's settings, as they were; else it is told what moved."""

import copy
import inspect
from collections.abc import Callable

import pytest
import torch
from conftest import cells_of

from circuits import unchanged
from circuits.chapters import answer_cells, chapter_of, chapters, load_answers
from circuits.checking import Submission
from circuits.judging import run_checks
from circuits.grading.remote import RemoteSubmission
from circuits.inputs import random_model, random_tokens

RNG = torch.Generator().manual_seed(0)


def exercises() -> list:
    return [pytest.param(c, name, id=f"{c.name}-{name}") for c in chapters() for name in c.exercise_names]


def spoils(argument) -> Callable[[], None] | None:
    """A way to change an argument, if there is one."""
    if isinstance(argument, torch.nn.Module):
        return lambda: next(argument.parameters()).data.mul_(2).add_(1)
    if isinstance(argument, torch.Tensor) and argument.numel():
        return lambda: argument.data.view(-1)[0].add_(1)
    if isinstance(argument, list):
        return argument.clear
    if hasattr(argument, "pop"):
        return lambda: argument.pop(next(iter(argument)))
    return None


def shared(a, b) -> bool:
    """Whether a change of one is a change of the other."""
    both = isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
    return a is b or both and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


@pytest.mark.parametrize("chapter, name", exercises())
def test_a_right_answer_that_changes_an_argument_afterwards_gets_nothing(chapter, name):
    """Every argument of every exercise, unless the exercise says in place."""
    checks = chapter.checks(name)
    reference = load_answers(chapter.source)[0][name]
    if any(check.in_place for check in checks):
        pytest.skip("the exercise says in place")
    for parameter in inspect.signature(reference).parameters:
        spoiled = []

        def answer(*args, _parameter=parameter, _spoiled=spoiled, **kwargs):
            bound = inspect.signature(reference).bind(*args, **kwargs)
            value = copy.deepcopy(reference(*args, **kwargs))
            given = bound.arguments.get(_parameter)
            if spoil := spoils(given):
                spoil()
                _spoiled.append([n for n, v in bound.arguments.items() if shared(v, given)])
            return value

        answer.__signature__ = inspect.signature(reference)
        answer.__annotations__ = reference.__annotations__
        result = run_checks(checks[:1], Submission({name: answer}))
        if spoiled:
            assert result.points == 0
            message = result.checks[0].message
            assert any(f"`{n}`" in message for n in spoiled[0]) and "changes what it was given" in message


def call(answer: Callable, *args) -> str:
    """What a learner is told of an answer that is right and does something beside."""
    with pytest.raises(Exception) as error:
        Submission({"answer": answer}).answer(*args)
    return str(error.value)


def frozen(model, tokens):
    model.W_E.requires_grad_(False)
    return 0


def with_a_gradient(model, tokens):
    model(tokens).sum().backward()
    return 0


def with_a_hook(model, tokens):
    model.register_forward_hook(lambda *args: None)
    return 0


def with_another_forward(model, tokens):
    model.forward = lambda tokens: tokens
    return 0


def in_double(model, tokens):
    model.double()
    return 0


def through_numpy(model, tokens):
    tokens.numpy()[0, 0] += 1
    return 0


@pytest.mark.parametrize(
    "answer, says",
    [
        (frozen, "leaves `embed.W_E` of `model` with another `requires_grad`"),
        (with_a_gradient, "leaves a gradient on `embed.W_E` of `model`"),
        (with_a_hook, "`model` has other settings, methods or hooks"),
        (with_another_forward, "`model` has other settings, methods or hooks"),
        (in_double, "`embed.W_E` of `model` has other values"),
        (through_numpy, "`tokens` has other values"),
    ],
)
def test_what_changed_is_named(answer, says):
    model = random_model(RNG, trainable=True)
    assert says in call(answer, model, random_tokens(RNG, model))


SETTINGS = {
    "default dtype": "torch.set_default_dtype(torch.float64)",
    "default device": "torch.set_default_device('meta')",
    "state of gradients": "torch.set_grad_enabled(False)",
    "number of threads": "torch.set_num_threads(2)",
    "choice of deterministic algorithms": "torch.use_deterministic_algorithms(True)",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_are_named_and_put_back(setting, one_thread):
    before = {name: get() for name, (get, _) in unchanged._SETTINGS.items()}

    def answer(n):
        exec(SETTINGS[setting])
        return n

    message = call(answer, 3)
    assert f"`answer` leaves torch with another {setting}" in message
    assert before == {name: get() for name, (get, _) in unchanged._SETTINGS.items()}


def test_one_who_was_given_a_generator_draws_from_it():
    own = torch.Generator().manual_seed(1)
    assert "draws from torch's global generator" in call(lambda n, g: torch.rand(n), 3, own)
    assert Submission({"answer": lambda n, g: torch.rand(n, generator=g)}).answer(3, own).shape == (3,)
    assert Submission({"answer": lambda n: torch.rand(n)}).answer(3).shape == (3,)


def test_nan_and_an_unused_argument_are_no_change():
    x = torch.tensor([torch.nan, 1.0, torch.inf])
    assert Submission({"answer": lambda x, y: 1}).answer(x, {"a": [x, "b"], "c": float("nan")}) == 1


SPOILERS = {
    "ov_circuit": "    model.W_E.data *= 2\n",
    "causal_pattern": "    scores[:] = 0\n",
    "repeated_tokens": "    torch.set_grad_enabled(False)\n",
    "logit_lens": "    cache['hook_embed'] = cache['hook_embed'] * 0\n",
    "sample": "    torch.rand(3)\n",
}


@pytest.mark.parametrize("name", SPOILERS)
def test_the_grader_says_what_the_notebook_says(name, sandbox):
    chapter = chapter_of(name)
    answers, cells = load_answers(chapter.source)[0], dict(answer_cells(chapter.source))
    head, _, rest = cells[name].partition("### BEGIN SOLUTION\n")
    assert rest
    code = head + SPOILERS[name].strip() + "\n" + rest
    namespace = dict(answers)
    exec(code, namespace)
    here = run_checks(chapter.checks(name), Submission(namespace))
    submission = RemoteSubmission(sandbox, cells["setup"], cells_of({name: code}), answers)
    try:
        there = run_checks(chapter.checks(name), submission)
    finally:
        submission.stop()
    assert here.points == there.points == 0
    assert [c.message for c in here.checks] == [c.message for c in there.checks]
    assert f"`{name}` " in here.checks[0].message


def test_a_worker_cannot_make_up_a_place():
    given = (random_model(RNG), {"hook_z": torch.ones(2)}), {"names": ["a"]}
    places = unchanged.places(given)
    assert {"0", "0 embed.W_E", "1", "1 hook_z", "names"} <= places
    assert "0 tokens were 3 1 4" not in places
