"""What cannot matter is changed, and an answer must follow: no right one is refused for it, and a wrong one hears which."""

import functools
import textwrap

import pytest
import torch
from conftest import cells_of
from jaxtyping import Float, Int
from torch import Tensor

from circuits import checking, inputs
from circuits.chapters import chapter_of, chapters, load_answers, load_module
from circuits.checking import Submission, exercise, run_check
from circuits.following import broken, difference, problems
from circuits.grading.remote import RemoteSubmission
from circuits.grading.sandbox import Sandbox
from circuits.judging import run_checks
from circuits.symmetries import ALL, CACHE, CHANGES, FULL, Change, symmetric
from utils.model import Transformer

FULL_CHANGES = FULL.replace("regauge", "QK OV").split()
TABLES = {c.name: load_module(c.checks_file).SYMMETRIES for c in chapters()}


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


# The changes --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [{}, {"attn_only": False, "d_mlp": 13}, {"positional_embedding_type": "standard"}])
@pytest.mark.parametrize("names", [*((name,) for name in CHANGES), tuple(CHANGES)])
def test_a_changed_model_does_the_same(rng, names, shape):
    model, texts = inputs.random_model(rng, **shape), inputs.random_tokens(rng)
    change = Change(names, rng, {"model": "model", "tokens": "token"}, {"model": model, "tokens": texts})
    new, new_texts = change.all_arguments().values()
    assert difference(new, model, "model") or names == ("neurons",) and model.cfg.attn_only
    logits, cache = model.run_with_cache(texts)
    new_logits, new_cache = new.run_with_cache(new_texts)
    want = change.value(logits, "batch pos d_vocab")
    assert difference(new_logits, want, "batch pos d_vocab", "constant" in names) is None
    assert difference(dict(new_cache), dict(change.value(cache, CACHE)), CACHE) is None


@pytest.mark.parametrize("names", [("QK", "OV"), ("heads",), ("neurons",), ("vocabulary",), ("constant",), tuple(FULL_CHANGES)])
def test_a_changed_full_model_does_the_same(rng, names):
    test_a_changed_model_does_the_same(
        rng, names, dict(attn_only=False, d_mlp=13, normalization_type="LN", biases=True)
    )


def test_heads_tokens_and_edges_get_their_new_numbers(rng):
    model = inputs.random_model(rng)
    change = Change(("heads", "vocabulary"), rng, {"model": "model"}, {"model": model})
    first, second = change.order("n_heads", 0), change.order("n_heads", 1)
    tokens = change.order("d_vocab")
    assert sorted(first) == sorted(second) == list(range(5)) and first != list(range(5))
    assert change.value([0, 3], "head 1") == [second[0], second[3]]
    assert change.value([(1, 2), (0, 4)], "(layer, head)") == [(1, second[2]), (0, first[4])]
    assert change.value((1, 2, "k"), "(layer, head)") == (1, second[2], "k")
    assert change.value({"0.4->1.2.k": 0.5}, "edge") == {f"0.{first[4]}->1.{second[2]}.k": 0.5}
    assert change.value(torch.tensor([[3, 5]]), "token").tolist() == [[tokens[3], tokens[5]]]
    x = torch.arange(15.0).reshape(3, 5)
    got = change.value(x, "n_layers n_heads")
    assert got[0, first[2]] == x[0, 2] and got[1, second[2]] == x[1, 2]


def test_neurons_get_their_new_numbers_layer_by_layer(rng):
    model = inputs.random_model(rng, attn_only=False, d_mlp=13)
    change = Change(("neurons",), rng, {"model": "model"}, {"model": model})
    first, second = change.order("d_mlp", 0), change.order("d_mlp", 1)
    assert sorted(first) == list(range(13)) and first != second
    assert change.value([0, 12], "neuron 1") == [second[0], second[12]]
    assert change.value(torch.arange(13.0), "d_mlp")[first[5]] == 5


def test_a_pair_of_heads_is_of_two_layers(rng):
    model = inputs.random_model(rng, n_layers=2)
    change = Change(("heads",), rng, {"model": "model"}, {"model": model})
    x = inputs.normal(rng, 5, 5)
    got = change.value(x, "n_heads n_heads")
    assert got[change.order("n_heads", 0)[3], change.order("n_heads", 1)[4]] == x[3, 4]


# The tables ---------------------------------------------------------------------------------


def test_every_exercise_has_an_entry_and_no_other():
    assert {c.name: sorted(c.exercise_names) for c in chapters()} == {c: sorted(table) for c, table in TABLES.items()}


@pytest.mark.parametrize(
    "entry, problem",
    [
        (None, "does not say what its answer must follow"),
        (" ", "an empty reason"),
        (symmetric("rotate", W="d_model d_model"), "no argument W"),
        (symmetric("heads", returns="n_heads"), "does not fit a call: LookupError: a tensor of shape [6, 7]"),
    ],
)
def test_an_entry_that_is_missing_or_does_not_fit_is_found(rng, entry, problem):
    def losses(model: Transformer, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos-1"]:
        """An answer."""

    submission = Submission({"losses": lambda model, tokens: torch.zeros(6, 7)})
    submission.losses(inputs.random_model(rng), inputs.random_tokens(rng))
    found = list(problems("losses", {"losses": entry} if entry else {}, losses, submission.calls))
    assert len(found) == 1 and problem in found[0]
    assert list(problems("losses", {"losses": symmetric(ALL)}, losses, submission.calls)) == []
    assert list(problems("losses", {"losses": "a reason"}, losses, submission.calls)) == []


def test_a_symmetry_has_one_of_five_names():
    with pytest.raises(ValueError, match="gauge"):
        symmetric("gauge rotate")


# Answers that do not follow -----------------------------------------------------------------


def strongest(strengths: dict):
    return max(strengths, key=lambda key: strengths[key].item())


def wire(size, writers):
    """The strongest wire by some idea of a product's size, from some idea of a head's output."""

    def answer(model):
        QK = model.W_Q[1] @ model.W_K[1].mT
        readers = {"Q": QK, "K": QK.mT, "V": model.W_V[1] @ model.W_O[1]}
        return strongest({
            (a, b, letter): size(W_out @ W_in[b]) / (size(W_out) * size(W_in[b]))
            for letter, W_in in readers.items()
            for a, W_out in enumerate(writers(model))
            for b in range(len(W_in))
        })  # fmt: skip

    return answer


def with_queries_alone(model):
    writers, readers = model.W_V[0] @ model.W_O[0], model.W_Q[1]
    sizes = {(a, b): (W @ R).norm() / W.norm() for a, W in enumerate(writers) for b, R in enumerate(readers)}
    return strongest(sizes)


def heads_that_copy_token_0(model):
    tables = (model.W_E @ model.W_V[0] @ model.W_O[0] @ model.W_U).unbind()
    return [head for head, table in enumerate(tables) if table[0, 0] > 0]


def entropy_of_raw_logits(model, counts, k):
    p = counts / counts.sum(-1, keepdim=True).clamp(min=1)
    return (-(p * (model.W_E @ model.W_U)).sum(-1)).topk(k).indices.tolist()


def without_softmax(logits, tokens):
    return -logits[:, :-1].gather(-1, tokens[:, 1:, None]).mean()


def head_0_ablated(model, tokens, layer, head):
    hook = (f"blocks.{layer}.attn.hook_z", lambda z, hook: z * (torch.arange(z.shape[2]) != 0)[:, None])
    return model.run_with_hooks(tokens, fwd_hooks=[hook])


WHOLE, WRITTEN = (lambda m: m.W_V[0] @ m.W_O[0]), (lambda m: m.W_O[0])
DEPENDENT = {  # exercise and wrong answer: what it depends on
    ("strongest_wire", wire(torch.norm, WRITTEN)): "OV",
    ("strongest_wire", wire(lambda x: x.abs().max(), WHOLE)): "rotate",
    ("strongest_wire", lambda model: (0, 1, "K")): "heads",
    ("read_strength", lambda W_out, W_in: (W_out @ W_in).norm() / W_out.abs().max()): "rotate",
    ("mlp_as_neurons", lambda x, W_in, W_out: ((x @ W_in).relu()[:, :, None] * W_out).relu()): "rotate",
    ("composition_score", lambda W_A, W_B: (W_A @ W_B).abs().max() / (W_A.norm() * W_B.norm())): "rotate",
    ("find_pair_by_weights", with_queries_alone): "QK",
    ("find_pair_by_weights", lambda model: (0, 1)): "heads",
    ("copying_heads", lambda model: [0]): "heads",
    ("copying_heads", heads_that_copy_token_0): "vocabulary",
    ("head_importance", lambda model, tokens: model.W_O.norm(dim=(-1, -2))): "OV",
    ("ablate_head", head_0_ablated): "heads",
    ("previous_token_score", lambda pattern: pattern[:, :1].mean() * torch.arange(pattern.shape[1])): "heads",
    ("top_next", lambda model, token, k: list(range(k))): "vocabulary",
    ("bigram_counts", lambda tokens, d_vocab: torch.eye(d_vocab).long().cumsum(0)): "vocabulary",
    ("furthest_tokens", entropy_of_raw_logits): "constant",
    ("cross_entropy_nats", without_softmax): "constant",
    ("logit_diff", lambda logits, right, wrong: logits[torch.arange(len(right)), -1, right]): "constant",
    ("causal_pattern", lambda scores: scores.tril().relu()): "constant",
}


@functools.cache
def asked(name):
    """The entry of an exercise, its reference answer, and calls that its checks make."""
    chapter = chapter_of(name)
    reference = load_answers(chapter.source)[0][name]
    calls = []
    for check in chapter.checks(name):
        run_check(check, submission := Submission({name: reference}))
        calls += submission.calls
    return TABLES[chapter.name][name], reference, calls


@pytest.mark.parametrize("name, answer", DEPENDENT, ids=[f"{name}-{what}" for (name, _), what in DEPENDENT.items()])
def test_an_answer_that_depends_on_what_cannot_matter_is_refused(rng, name, answer):
    entry, reference, calls = asked(name)

    def ask(args, kwargs):
        return answer(*args, **kwargs)

    what, done, _ = CHANGES[DEPENDENT[name, answer]]
    heard = []
    for call in reversed(calls):  # the first ones are often of the shipped model, which takes its time
        found = broken(entry, reference, name, call.args, call.kwargs, ask(call.args, call.kwargs), ask, rng)
        heard += [found.message] if found else []
        if heard and heard[-1].startswith(f"`{name}` depends on {what}: after {done}, which"):
            return
    pytest.fail(f"It hears {heard}.")


def test_a_choice_between_equal_values_is_not_refused(rng):
    entry, reference, _ = asked("anti_copying_head")
    model = inputs.random_model(rng, n_layers=1)
    for name in ("W_V", "W_O"):
        W = getattr(model.blocks[0].attn, name)
        W.copy_(W[:1].expand_as(W).clone())  # all heads are the same
    ask = lambda args, kwargs: reference(*args, **kwargs)  # noqa: E731
    for _ in range(5):
        assert broken(entry, reference, "anti_copying_head", (model,), {}, reference(model), ask, rng) is None


# Through a check ----------------------------------------------------------------------------


SYMMETRIES = {"likeliest": symmetric("rotate vocabulary constant", token="token", returns="token")}


def likeliest(model: Transformer, token: int) -> list[int]:
    """The two likeliest tokens after one."""
    return (model.W_E @ model.W_U)[token].topk(2).indices.tolist()


@exercise("likeliest", points=1)
def check_nothing_but_symmetries(submission, rng):
    submission.likeliest(inputs.random_model(rng, n_layers=0), inputs.integer(rng, 0, 10))


@exercise("likeliest", points=1, in_place=True)
def check_in_place(submission, rng):
    submission.likeliest(inputs.random_model(rng, n_layers=0), inputs.integer(rng, 0, 10))


def like(answer):
    return Submission({"likeliest": functools.wraps(likeliest)(lambda *args: answer(*args))})


def highest_row_of_unembedding(model, token):
    return model.W_U[0].topk(2).indices.tolist()


def test_a_check_asks_again_and_says_what_cannot_matter():
    assert run_check(check_nothing_but_symmetries, like(likeliest)) is None
    message = run_check(check_nothing_but_symmetries, like(highest_row_of_unembedding))
    assert message.startswith("`likeliest` depends on the basis of the residual stream: after the residual stream was")
    assert run_check(check_in_place, like(highest_row_of_unembedding)) is None


def test_what_follows_is_asked_no_more_than_twice_and_leaves_no_record():
    submission = like(likeliest)
    run_check(check_nothing_but_symmetries, submission)
    assert len(submission.calls) == 1


def test_a_learners_own_annotations_refuse_no_right_answer():
    def bare(model, token):
        return likeliest(model, token)

    def renamed(model: Transformer, start: int) -> list[int]:
        return likeliest(model, start)

    def unknown(model: "Model", token: "Token") -> "Tokens":  # noqa: F821
        return likeliest(model, token)

    for answer in (bare, renamed, unknown):
        assert run_check(check_nothing_but_symmetries, Submission({"likeliest": answer})) is None


def test_an_answer_that_fails_only_there_is_refused():
    (seen,) = (s := like(likeliest), run_check(check_nothing_but_symmetries, s)) and s.calls
    model = seen.args[0]

    def fails(new, token):
        if not torch.equal(new.W_E, model.W_E):
            raise KeyError(token)
        return likeliest(new, token)

    message = run_check(check_nothing_but_symmetries, like(fails))
    assert "it failed: `likeliest` raised KeyError" in message


def test_a_slow_answer_that_is_right_so_far_is_not_refused(monkeypatch):
    monkeypatch.setattr(checking, "SECONDS", 0.1)
    asked = []

    def slow(model, token):
        asked.append(token)
        while len(asked) > 1:
            pass
        return likeliest(model, token)

    assert run_check(check_nothing_but_symmetries, like(slow)) is None
    assert len(asked) == 2


def test_a_mistake_is_known_by_what_it_does_there_too():
    (seen,) = (s := like(likeliest), run_check(check_nothing_but_symmetries, s)) and s.calls
    always = list(seen.value)

    def constant(model, token):
        return always

    def right(model, token):
        return likeliest(model, token)

    constant.hint, right.hint = "Always the same.", "Right, and called a mistake."
    result = run_checks([check_nothing_but_symmetries], like(lambda *args: always), [right])
    assert not result.passed and result.hint is None
    result = run_checks([check_nothing_but_symmetries], like(lambda *args: always), [right, constant])
    assert result.hint == "Always the same."


def test_the_grader_asks_again_too():
    code = """
    def likeliest(model, token):
        return {}
    """
    answers = {
        "(model.W_E @ model.W_U)[token].topk(2).indices.tolist()": None,
        "model.W_U[0].topk(2).indices.tolist()": "`likeliest` depends on the basis of the residual stream",
    }
    with Sandbox() as sandbox:
        for answer, want in answers.items():
            cells = {"likeliest": textwrap.dedent(code.format(answer))}
            submission = RemoteSubmission(sandbox, "import torch", cells_of(cells), {"likeliest": likeliest})
            try:
                message = run_check(check_nothing_but_symmetries, submission)
            finally:
                submission.stop()
            assert (message is None) == (want is None) and (message or "").startswith(want or "")
