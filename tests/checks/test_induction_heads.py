"""Checks of chapter 3. Each says in its name what must be true of an answer."""

import functools
import math

import torch

from circuits.checking import answer_to, exercise, expect, fail, require
from circuits.inputs import (
    generator, integer, normal, orthogonal, random_model, random_patterns, random_tokens, reordered,
)
from circuits.judging import as_a_set, spectrum
from circuits.symmetries import ALL, symmetric
from utils.materials.handmade import rooms, rotation
from utils.model import Config, Transformer, sinusoids
from utils.pretrained import load_model


TWO_LAYERS = (
    "composition_scores", "composed_qk", "find_pair_by_weights", "virtual_head_ov", "path_expansion_2l", "term_importance",
)
COINCIDENCES = {(name, "n_layers is always 2"): "the text says two layers: what one does with the other's" for name in TWO_LAYERS}
COINCIDENCES |= {
    (name, "dest always equals src"): "a pattern from a model has as many sources as destinations"
    for name in ("previous_token_score", "duplicate_token_score", "induction_score")
}

SYMMETRIES = {
    "tokens_behind_score": "its arguments are positions",
    "previous_token_head": "it builds weights for given sizes",
    "two_back_virtual_head": "it builds a model for given sizes",
    "induction_circuit": "it builds a model for given sizes",
    "pointer_induction": "it builds a model for given sizes",
    "repeated_tokens": "it draws tokens for given sizes",
    "per_token_loss": symmetric(ALL),
    "in_context_learning_score": "its arguments are losses by position",
    "previous_token_score": symmetric("heads"),
    "duplicate_token_score": symmetric("heads"),
    "induction_score": symmetric("heads"),
    "find_heads": symmetric(ALL, returns="(layer, head)"),
    "one_layer_shows": "its argument is a claim",
    "phase_change_step": "its argument is a curve",
    "composition_score": symmetric("rotate"),
    "composition_scores": symmetric(ALL),
    "composed_qk": symmetric(ALL, prev_head="head 0", ind_head="head 1"),
    "circuit_eigenvalues": "its matrices are any two, and eigenvalues have no order",
    "find_pair_by_weights": symmetric(ALL, returns=("head 0", "head 1")),
    "virtual_head_ov": symmetric(ALL, head0="head 0", head1="head 1"),
    "path_expansion_2l": symmetric(ALL),
    "term_importance": symmetric(ALL),
    "ablated_loss": symmetric(ALL, heads="(layer, head)"),
}

# Of the two layers that this chapter is about; gradients are on, as in the notebook's model.
two_layers = functools.partial(random_model, n_layers=2, trainable=True)


def patterns(model, tokens):
    """The attention patterns of every layer, [batch n_heads dest src] each."""
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("pattern"))
    return [cache["pattern", layer] for layer in range(model.cfg.n_layers)]


def slow_losses(model, tokens):
    """Loss at each position, [batch pos-1], one prediction at a time."""
    with torch.no_grad():
        logits = model(tokens).double()
    rows = []
    for b in range(len(tokens)):
        of_text = []
        for i in range(tokens.shape[1] - 1):
            row = logits[b, i]
            of_text.append(torch.logsumexp(row, 0) - row[tokens[b, i + 1]])
        rows.append(torch.stack(of_text))
    return torch.stack(rows)


@functools.cache
def shipped(name):
    return load_model(name)


# What two right or wrong constructions share, whatever gains and heads they use; by it a mistake is known.


def wiring(model):
    """Which dimensions a model by hand reads and writes, where each layer looks, and what it says."""
    used = {}
    for layer, block in enumerate(model.blocks):
        attn = block.attn
        for name, M in (("QK", attn.W_Q @ attn.W_K.mT), ("OV", attn.W_V @ attn.W_O)):
            strong = M.abs() > 1e-6 * M.abs().max()
            used |= {f"{name}{layer} in": strong.any((0, 2)), f"{name}{layer} out": strong.any((0, 1))}
    for name, W, dim in (("W_E", model.W_E, 0), ("W_U", model.W_U, 1), ("W_pos", model.W_pos, 0)):
        used[name] = (W != 0).any(dim)
    d_vocab, n_ctx = model.cfg.d_vocab, model.cfg.n_ctx
    period = min(6, d_vocab - 1)
    tokens = periodic(torch.Generator().manual_seed(0), d_vocab, period, min(n_ctx, 2 * period + 2), batch=2)
    looks = []
    for pattern in patterns(model, tokens):
        weight, place = pattern.max(1).values.max(-1)
        looks.append(torch.where(weight > 0.9, place, -1))
    with torch.no_grad():
        best, said = model(tokens).topk(2)
    clear = best[..., 0] - best[..., 1] > 1e-3 * best.abs().max()
    return [used, looks, torch.where(clear, said[..., 0], -1)]


def glances(W):
    """Where a head of positions looks from each place, and whether it is sure."""
    W_Q, W_K = (M.double() for M in W)
    w = sinusoids(40, W_Q.shape[0]).double()
    scores = (w @ W_Q @ W_K.T @ w.T).masked_fill(torch.ones(40, 40, dtype=torch.bool).triu(1), -torch.inf)
    weight, place = (scores / W_Q.shape[0] ** 0.5).softmax(-1).max(-1)
    return [place, bool(weight.mean() > 0.9)]


BEHAVIOUR = {
    "tokens_behind_score": as_a_set, "find_heads": as_a_set, "previous_token_head": glances,
    "two_back_virtual_head": wiring, "induction_circuit": wiring, "pointer_induction": wiring,
    "circuit_eigenvalues": spectrum,
}  # fmt: skip


# tokens_behind_score ------------------------------------------------------------------------


def measured_tokens(rng, n_layers, dest, src):
    """Change each token in turn in a fresh model and see whether the score moves."""
    model = random_model(rng, n_layers=n_layers, n_ctx=dest + 3).double()
    name = f"blocks.{n_layers - 1}.attn.hook_attn_scores"
    tokens = random_tokens(rng, model, 1, dest + 3)

    def score(tokens):
        return model.run_with_cache(tokens, names_filter=name)[1][name][0, 0, dest, src].item()

    base, moved = score(tokens), []
    for i in range(dest + 3):
        changed = tokens.clone()
        changed[0, i] = (changed[0, i] + 1) % model.cfg.d_vocab
        if abs(score(changed) - base) > 1e-9:
            moved.append(i)
    return moved


def pairs(rng):
    """Positions that look at any earlier one, at the first, and at the one before."""
    dest = [integer(rng, low, low + 3) for low in (4, 8, 12)]
    yield from zip(dest, (integer(rng, 1, dest[0] - 2), 0, dest[2] - 1), strict=True)


def check_tokens_behind(submission, rng, cases):
    for n_layers, dest, src in cases:
        got = submission.tokens_behind_score(n_layers, dest, src)
        try:
            got = sorted({int(p) for p in got})
        except (TypeError, ValueError):
            fail(f"The answer should be a list of positions; it is {got!r}.")
        want = measured_tokens(rng, n_layers, dest, src)
        case = f"With {n_layers} layer{'s' * (n_layers > 1)}, for the score from {dest} to {src}"
        idle, missing = sorted(set(got) - set(want)), sorted(set(want) - set(got))
        require(not idle, f"{case}, you name {idle}; in a fresh model, changing the token there moves nothing.")
        require(not missing, f"{case}, positions {missing} are missing; in a fresh model, changing the token there moves the score.")


@exercise("tokens_behind_score", points=1)
def test_is_right_for_one_layer(submission, rng):
    check_tokens_behind(submission, rng, [(1, dest, src) for dest, src in pairs(rng)])


@exercise("tokens_behind_score", points=1, explains=True)  # so is who always names all
def test_is_right_for_two_layers(submission, rng):
    check_tokens_behind(submission, rng, [(2, dest, src) for dest, src in pairs(rng)])


@exercise("tokens_behind_score", points=1)
def test_is_right_where_a_position_looks_at_itself_and_for_three_layers(submission, rng):
    a, b, dest = integer(rng, 3, 9), integer(rng, 3, 9), integer(rng, 5, 12)
    check_tokens_behind(submission, rng, [(1, a, a), (2, b, b), (3, dest, integer(rng, 1, dest - 2)), (1, 0, 0)])


# previous_token_head ------------------------------------------------------------------------


def check_looks_back(submission, n_ctx, d_model):
    W_Q, W_K = submission.previous_token_head(n_ctx, d_model)
    w = sinusoids(n_ctx, d_model).double()
    scores = (w @ W_Q.double()) @ (w @ W_K.double()).T / d_model**0.5
    future = torch.ones(n_ctx, n_ctx, dtype=torch.bool).triu(1)
    pattern = scores.masked_fill(future, -torch.inf).softmax(-1)
    require(bool(pattern.isfinite().all()), "Some attention weights are NaN: are there infinite weights?")
    back = pattern.diagonal(-1)
    for place in (back <= 0.99).nonzero()[:1, 0].tolist():  # the first, where the rest of the text is not yet in the way
        p, most = place + 1, int(pattern[place + 1].argmax())
        fail(
            f"For n_ctx = {n_ctx} and d_model = {d_model}, position {p} should give more than 0.99 of its "
            f"attention to position {place}; it gives {back[place]:.3f}. It gives most, "
            f"{pattern[p, most]:.3f}, to position {most}."
        )


@exercise("previous_token_head", points=1)
def test_every_position_looks_one_back(submission, rng):
    check_looks_back(submission, integer(rng, 20, 60), 32)


@exercise("previous_token_head", points=1)
def test_whatever_the_width_of_the_stream(submission, rng):
    for half in (4, integer(rng, 5, 20), integer(rng, 21, 48)):
        check_looks_back(submission, 24, 2 * half)


@exercise("previous_token_head", points=1)
def test_also_far_into_a_long_text(submission, rng):
    check_looks_back(submission, integer(rng, 200, 260), 2 * integer(rng, 16, 40))


# Models by hand -----------------------------------------------------------------------------


def made(submission, name, d_vocab, n_ctx):
    """A model that an answer has built, if it is what was asked for."""
    model = getattr(submission, name)(d_vocab, n_ctx)
    cfg = model.cfg
    for what, got, want in (("d_vocab", cfg.d_vocab, d_vocab), ("n_ctx", cfg.n_ctx, n_ctx), ("n_layers", cfg.n_layers, 2)):
        require(got == want, f"The model should have {what} = {want}; yours has {got}.")
    return model


def cut(model, tokens, wire):
    """Logits when layer 1's q, k or v does not see what layer 0 wrote."""
    name = f"blocks.1.attn.hook_{wire}"
    remove = [("blocks.0.hook_attn_out", lambda out, hook: torch.zeros_like(out))]
    with model.hooks(fwd_hooks=remove):
        _, without = model.run_with_cache(tokens, names_filter=name)
    return model.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: without[name])])


def share(right):
    return right.double().mean().item()


def look(pattern, p):
    """Where the sharpest head of one text's patterns [n_heads dest src] looks from p, and how much."""
    best = pattern[:, p].max(0).values
    return int(best.argmax()), best.max().item()


def said_nothing(logits, p):
    return bool((logits[p] == logits[p, 0]).all())


# two_back_virtual_head ----------------------------------------------------------------------


def check_two_back(submission, rng, d_vocab, n_ctx):
    model = made(submission, "two_back_virtual_head", d_vocab, n_ctx)
    tokens = torch.randint(d_vocab, (4, n_ctx), generator=rng)
    with torch.no_grad():
        logits = model(tokens)
    said = logits.argmax(-1)[:, 2:]
    right = said == tokens[:, :-2]
    if share(right) > 0.99:
        return model, tokens
    b, i = (~right).nonzero()[0].tolist()
    p, text = i + 2, tokens[b].tolist()
    where = [look(pattern[b], p) for pattern in patterns(model, tokens)]
    told = "All its logits there are equal." if said_nothing(logits[b], p) else f"The model predicts {said[b, i]}."
    advice = f"each should look at position {p - 1}."
    if all(place == p - 1 and weight > 0.9 for place, weight in where):
        advice = "both right: look at what each takes from there, where it puts it, and where the logits are read."
    fail(
        f"With d_vocab = {d_vocab} and n_ctx = {n_ctx}, the tokens at positions {p - 2}, {p - 1}, {p} are {text[p - 2]}, "
        f"{text[p - 1]}, {text[p]}, so {text[p - 2]} should be predicted at position {p}. {told} There, the first head looks "
        f"mostly at position {where[0][0]} (weight {where[0][1]:.2f}), the second at position {where[1][0]} "
        f"(weight {where[1][1]:.2f}); {advice} Right in {share(right):.0%} of all places."
    )


@exercise("two_back_virtual_head", points=2)
def test_predicts_the_token_two_back(submission, rng):
    check_two_back(submission, rng, integer(rng, 8, 20), integer(rng, 20, 40))


@exercise("two_back_virtual_head", points=1)
def test_predicts_it_for_other_vocabularies_and_lengths(submission, rng):
    check_two_back(submission, rng, 5, integer(rng, 10, 20))
    check_two_back(submission, rng, integer(rng, 40, 60), integer(rng, 60, 90))
    check_two_back(submission, rng, integer(rng, 40, 60), integer(rng, 20, 30))


@exercise("two_back_virtual_head", points=1)
def test_each_head_looks_one_back(submission, rng):
    d_vocab, n_ctx = integer(rng, 8, 30), integer(rng, 20, 40)
    model = made(submission, "two_back_virtual_head", d_vocab, n_ctx)
    tokens = torch.randint(d_vocab, (2, n_ctx), generator=rng)
    for layer, pattern in enumerate(patterns(model, tokens)):
        back = pattern.diagonal(-1, dim1=-2, dim2=-1).mean((0, -1)).max().item()
        require(
            back > 0.9,
            f"The head of layer {layer} should look one back; on average it gives the token before {back:.2f} "
            f"of its attention. (From position 6 it looks mostly at position {look(pattern[0], 6)[0]}.)",
        )


@exercise("two_back_virtual_head", points=1)
def test_the_second_head_moves_on_what_the_first_has_moved(submission, rng):
    model, tokens = check_two_back(submission, rng, integer(rng, 10, 30), integer(rng, 20, 40))
    with torch.no_grad():
        right = share(cut(model, tokens, "v").argmax(-1)[:, 2:] == tokens[:, :-2])
    require(
        right < 0.6,
        "The second head's values should carry what the first head wrote; when they do not see it, the model "
        f"should fail, but it is still right in {right:.0%} of all places.",
    )


# induction_circuit and pointer_induction ----------------------------------------------------


def periodic(rng, d_vocab, period, length, batch=4):
    """Token 0, then random different tokens that come again and again."""
    rows = [1 + torch.randperm(d_vocab - 1, generator=rng)[:period] for _ in range(batch)]
    copies = -(-(length - 1) // period)
    text = torch.stack(rows).repeat(1, copies)[:, : length - 1]
    return torch.cat([torch.zeros(batch, 1, dtype=torch.long), text], dim=1)


def share_continued(logits, tokens, period):
    """How often the next token is predicted, from the second period on."""
    said, want = logits.argmax(-1)[:, period + 1 : -1], tokens[:, period + 2 :]
    return share(said == want)


def check_continues(submission, rng, name, d_vocab, n_ctx, period, length):
    model = made(submission, name, d_vocab, n_ctx)
    tokens = periodic(rng, d_vocab, period, length)
    with torch.no_grad():
        logits = model(tokens)
    said, want = logits.argmax(-1)[:, :-1], tokens[:, 1:]
    right = (said == want)[:, period + 1 :]
    if share(right) > 0.99:
        return model, tokens
    b, i = (~right).nonzero()[0].tolist()
    p = i + period + 1
    text, q = tokens[b].tolist(), p - period
    first, second = (pattern[b] for pattern in patterns(model, tokens))
    (s0, weight0), (s1, weight1) = look(first, p), look(second, p)
    told = "All its logits there are equal" if said_nothing(logits[b], p) else f"The model predicts {said[b, p]} instead"
    there = f"token {text[s1]}" + (f", after token {text[s1 - 1]}" if s1 else ", the first of all")
    if s1 % period == (q + 1) % period and s1 > 0 and weight1 > 0.9:
        advice = "That is the right place: look at what the head takes from there, and where the logits are read."
    elif s1 % period == (q + 1) % period and s1 > 0:
        advice = "That is the right place, but its score is too close to the others: make what is compared louder."
    else:
        advice = f"It should look at position {q + 1}."
    fail(
        f"With d_vocab = {d_vocab}, n_ctx = {n_ctx}, period {period}: position {p} holds token {text[p]}, as position "
        f"{q} did, and there {text[q + 1]} came next: {text[q + 1]} should be predicted. {told}. The second head looks mostly at "
        f"position {s1} (weight {weight1:.2f}), which holds {there}. {advice} (The first head looks "
        f"mostly at position {s0}, weight {weight0:.2f}.) Right in {share(right):.0%} of all places."
    )


def check_wire(submission, rng, name, wire, other):
    """The second head uses what the first wrote by its keys ("k") or its queries ("q"), not the other."""
    words = {"q": "queries", "k": "keys"}
    period = integer(rng, 8, 12)
    model, tokens = check_continues(submission, rng, name, integer(rng, 18, 40), 3 * period, period, 3 * period)
    with torch.no_grad():
        dead = share_continued(cut(model, tokens, wire), tokens, period)
        alive = share_continued(cut(model, tokens, other), tokens, period)
    require(
        dead < 0.6,
        f"When the second head's {words[wire]} do not see what the first head wrote, the circuit should fail; "
        f"yours still predicts {dead:.0%}.",
    )
    require(
        alive > 0.99,
        f"When the second head's {words[other]} do not see what the first head wrote, nothing should change: "
        f"this circuit goes by the {words[wire]}. Yours then predicts {alive:.0%}.",
    )


@exercise("induction_circuit", points=2)
def test_continues_repeated_sequences(submission, rng):
    period = integer(rng, 8, 14)
    check_continues(submission, rng, "induction_circuit", integer(rng, 18, 30), 40, period, 2 * period + 1)


@exercise("induction_circuit", points=2)
def test_continues_them_for_other_vocabularies_periods_and_lengths(submission, rng):
    for d_vocab, n_ctx, period in ((6, 30, 5), (integer(rng, 30, 60), 70, 20), (64, 128, 60), (50, 30, 12)):
        length = integer(rng, 2 * period, n_ctx)
        check_continues(submission, rng, "induction_circuit", d_vocab, n_ctx, period, length)


@exercise("induction_circuit", points=1)
def test_first_head_looks_back_and_second_after_the_earlier_occurrence(submission, rng):
    period, d_vocab = integer(rng, 8, 14), integer(rng, 18, 30)
    model = made(submission, "induction_circuit", d_vocab, 40)
    tokens = periodic(rng, d_vocab, period, 2 * period + 1)
    first, second = patterns(model, tokens)
    back = first.diagonal(-1, dim1=-2, dim2=-1).mean((0, -1)).max().item()
    require(
        back > 0.9,
        f"The head of layer 0 should look one back; on average it gives the token before {back:.2f} of its "
        f"attention. (From position 6 it looks mostly at position {look(first[0], 6)[0]}.)",
    )
    after = second.diagonal(-(period - 1), dim1=-2, dim2=-1)[..., 2:].mean((0, -1)).max().item()
    p = period + 3
    place = look(second[0], p)[0]
    soft = " The place is right, but its score is too close to the others: embed the tokens louder."
    require(
        after > 0.9,
        "The head of layer 1 should look at the token after the earlier occurrence; on average it gives that "
        f"{after:.2f} of its attention. (From position {p}, it should look at position {p - period + 1}; it looks mostly "
        f"at position {place}.){soft * (place == p - period + 1)}",
    )


@exercise("induction_circuit", points=1)
def test_second_head_reads_the_first_through_its_keys(submission, rng):
    check_wire(submission, rng, "induction_circuit", "k", "q")


@exercise("pointer_induction", points=2)
def test_pointer_continues_repeated_sequences(submission, rng):
    period = integer(rng, 8, 14)
    check_continues(submission, rng, "pointer_induction", integer(rng, 18, 30), 40, period, 2 * period + 1)


@exercise("pointer_induction", points=1)
def test_pointer_continues_them_for_other_vocabularies_periods_and_lengths(submission, rng):
    for d_vocab, n_ctx, period in ((6, 30, 5), (integer(rng, 30, 50), 70, 20), (50, 97, 48), (90, 40, 15)):
        length = integer(rng, 2 * period, n_ctx)
        check_continues(submission, rng, "pointer_induction", d_vocab, n_ctx, period, length)


@exercise("pointer_induction", points=1)
def test_first_head_finds_where_the_token_stood(submission, rng):
    period, d_vocab = integer(rng, 8, 14), integer(rng, 18, 30)
    model = made(submission, "pointer_induction", d_vocab, 40)
    tokens = periodic(rng, d_vocab, period, 2 * period + 1)
    first, _ = patterns(model, tokens)
    earlier = first.diagonal(-period, dim1=-2, dim2=-1)[..., 1:].mean((0, -1)).max().item()
    itself = first.diagonal(0, dim1=-2, dim2=-1)[..., period + 1 :].mean((0, -1)).max().item()
    p = period + 3
    require(
        earlier > 0.45 and earlier + itself > 0.9,
        "From the second period on, the head of layer 0 should look at the earlier place of the same token (and, if it likes, as "
        f"much at its own place); on average it gives those {earlier:.2f} and {itself:.2f} of its attention. (From position {p}, it "
        f"should look at position {p - period}; it looks mostly at position {look(first[0], p)[0]}.)",
    )


@exercise("pointer_induction", points=1)
def test_second_head_reads_the_first_through_its_queries(submission, rng):
    check_wire(submission, rng, "pointer_induction", "q", "k")


# repeated_tokens ----------------------------------------------------------------------------


def drawn(submission, d_vocab, batch, length, g):
    """The tokens of an answer, if they are whole numbers in the right shape."""
    tokens = torch.as_tensor(submission.repeated_tokens(d_vocab, batch, length, g))
    want = [batch, 2 * length]
    require(
        list(tokens.shape) == want,
        f"For batch {batch} and length {length} the tokens should have shape {want}, {length} tokens twice in each row; "
        f"yours have {list(tokens.shape)}.",
    )
    require(not tokens.is_floating_point(), f"Token ids are whole numbers (dtype torch.int64); yours have dtype {tokens.dtype}.")
    return tokens


@exercise("repeated_tokens", points=1)
def test_the_second_half_is_the_first_again(submission, rng):
    batch, length = integer(rng, 3, 5), integer(rng, 6, 11)
    tokens = drawn(submission, 50, batch, length, generator(rng))
    expect(tokens[:, length:], tokens[:, :length].clone(), "the second half of each sequence")
    neighbours = (tokens[:, 1:length] == tokens[:, : length - 1]).double().mean().item()
    require(neighbours < 0.4, f"{neighbours:.0%} of neighbours in the first copy are equal tokens.")


@exercise("repeated_tokens", points=1)
def test_all_tokens_are_equally_likely(submission, rng):
    n = 30 * 40
    tokens = drawn(submission, 5, 30, 40, generator(rng))[:, :40]
    lowest, highest = int(tokens.min()), int(tokens.max())
    require(0 <= lowest and highest < 5, f"With d_vocab = 5, tokens should lie in 0 ... 4; yours go from {lowest} to {highest}.")
    counts = torch.bincount(tokens.flatten(), minlength=5).tolist()
    limit = 5 * (n * 0.2 * 0.8) ** 0.5
    require(
        all(abs(c - n / 5) < limit for c in counts),
        f"Each of 5 tokens should come up about {n // 5} times in {n} draws; yours came up {counts} times.",
    )
    for i in range(40):
        require(len(tokens[:, i].unique()) > 1, f"Token {i} is the same in all 30 sequences; each is drawn.")
    alike = (tokens[:, 1:] == tokens[:, :-1]).double().mean().item()
    require(
        0.14 < alike < 0.26,
        f"Of 5 tokens drawn alike, neighbours are equal in about 20% of places; yours in {alike:.0%}. Draw each independently of the others.",
    )
    tokens = drawn(submission, 50, 30, 40, generator(rng))[:, :40]
    require(
        any(len(row.unique()) < 40 for row in tokens),
        "No token comes twice in any of 30 sequences of 40 tokens out of 50. Each is drawn from all, whatever came before it.",
    )


@exercise("repeated_tokens", points=1)
def test_sequences_differ_and_come_from_the_generator(submission, rng):
    seed = integer(rng, 0, 2**40)
    one, again, other = (drawn(submission, 60, 4, 12, torch.Generator().manual_seed(s)) for s in (seed, seed, seed + 1))
    same_rows = any(torch.equal(one[a], one[b]) for a in range(4) for b in range(a))
    require(not same_rows, "Two sequences of one batch are the same: each should have tokens of its own.")
    require(torch.equal(one, again), "The same seed made two different batches: draw from `generator`.")
    require(not torch.equal(one, other), "Two different seeds made the same batch: draw from `generator`.")


# per_token_loss -----------------------------------------------------------------------------


@exercise("per_token_loss", points=1)
def test_each_entry_is_the_loss_of_one_prediction(submission, rng):
    model = random_model(rng, trainable=True)
    tokens = random_tokens(rng, model, batch=3, pos=7)
    expect(submission.per_token_loss(model, tokens), slow_losses(model, tokens), "the losses of 3 texts of 7 tokens")
    with torch.no_grad():
        model.W_U.mul_(300)  # so sure that the softmax of what comes is 0 in float32
    expect(submission.per_token_loss(model, tokens), slow_losses(model, tokens), "the losses of a very confident model")


@exercise("per_token_loss", points=1)
def test_a_model_that_knows_nothing_loses_log_d_vocab_everywhere(submission, rng):
    model = random_model(rng, trainable=True)
    with torch.no_grad():
        model.W_U.zero_()
    tokens = random_tokens(rng, model, batch=6, pos=5)
    expect(submission.per_token_loss(model, tokens), torch.full((6, 4), math.log(11)), "the losses of a model with W_U = 0")


@exercise("per_token_loss", points=1)
def test_a_loss_depends_on_nothing_that_comes_later(submission, rng):
    model = random_model(rng, trainable=True)
    tokens = random_tokens(rng, model, batch=1, pos=9)
    changed = tokens.clone()
    changed[0, 6:] = (changed[0, 6:] + 1) % model.cfg.d_vocab
    want = slow_losses(model, tokens)[:, :5]
    for text in (tokens, changed):
        got = submission.per_token_loss(model, text)
        expect(got[:, :5], want, "the first 5 losses, of tokens 1 to 5,")


# in_context_learning_score ------------------------------------------------------------------


@exercise("in_context_learning_score", points=1, explains=True)
def test_is_late_minus_early(submission, rng):
    rising, falling = [9.0, 1.0, 2.0, 7.0, 5.0, 6.0, 9.0], [9.0, 4.0, 6.0, 1.0, 2.0, 3.0, 9.0]
    for losses, want in ((rising, 5.5 - 1.5), (falling, 2.5 - 5.0)):
        what = f"the score of 9 texts with losses {' '.join(f'{x:g}' for x in losses)} each, for early (1, 3), late (4, 6)"
        expect(submission.in_context_learning_score(torch.tensor([losses] * 9), (1, 3), (4, 6)), want, what)


@exercise("in_context_learning_score", points=1)
def test_averages_over_texts_and_positions(submission, rng):
    losses = 5 * torch.rand(40, 270, generator=rng)  # more texts than a stretch ends at, more positions than the chapter's
    early = [losses[b, i].item() for b in range(40) for i in range(3, 8)]
    late = [losses[b, i].item() for b in range(40) for i in range(20, 29)]
    want = sum(late) / len(late) - sum(early) / len(early)
    expect(submission.in_context_learning_score(losses, (3, 8), (20, 29)), want, "the score of 40 texts for early (3, 8), late (20, 29)")


@exercise("in_context_learning_score", points=1)
def test_is_zero_when_reading_on_does_not_help(submission, rng):
    by_text = 5 * torch.rand(24, 1, generator=rng)
    expect(submission.in_context_learning_score(by_text.expand(24, 20).clone(), (2, 6), (10, 19)), 0.0, "the score of losses that do not change along a text")
    slope = by_text - 0.1 * torch.arange(20.0)
    expect(submission.in_context_learning_score(slope, (2, 6), (10, 19)), -0.1 * (14 - 3.5), "the score of losses that fall by 0.1 at each position")


# Scores of heads ----------------------------------------------------------------------------


def stripe(rng, batch, n_heads, pos, head, back, start):
    """Patterns of which one head gives 0.9 to `back` positions back, from `start` on."""
    pattern = random_patterns(rng, batch, n_heads, pos, pos)
    for d in range(start, pos):
        pattern[:, head, d] *= 0.1
        pattern[:, head, d, d - back] += 0.9
    return pattern


def slow_score(pattern, back, start):
    """Mean weight that each head gives `back` positions back, over destinations from `start` on."""
    batch, n_heads, pos, _ = pattern.shape
    scores = []
    for h in range(n_heads):
        weights = [pattern[b, h, d, d - back].item() for b in range(batch) for d in range(start, pos)]
        scores.append(sum(weights) / len(weights))
    return torch.tensor(scores)


@exercise("previous_token_score", points=1)
def test_is_one_for_a_head_that_looks_one_back(submission, rng):
    n = integer(rng, 5, 12)
    self, back, first = torch.randperm(3, generator=rng).tolist()
    pattern, want = torch.zeros(2, 3, n, n), torch.zeros(3)
    pattern[:, self] = torch.eye(n)
    pattern[:, back, 0, 0] = 1
    pattern[:, back, torch.arange(1, n), torch.arange(n - 1)] = 1
    pattern[:, first, :, 0] = 1
    want[back], want[first] = 1, 1 / (n - 1)
    what = f"the scores of three heads on {n} tokens, of which {self} looks at itself, {back} one back, {first} at the first token,"
    expect(submission.previous_token_score(pattern), want, what)


@exercise("previous_token_score", points=1)
def test_is_the_mean_over_texts_and_positions(submission, rng):
    pattern = random_patterns(rng, 5, 3, 7, 7)
    expect(submission.previous_token_score(pattern), slow_score(pattern, 1, 1), "the scores of 3 heads on 5 texts of 7 tokens")


@exercise("previous_token_score", points=1)
def test_each_head_has_a_score_of_its_own(submission, rng):
    head = integer(rng, 0, 4)
    pattern = stripe(rng, 2, 5, 9, head, 1, 1)
    got = submission.previous_token_score(pattern)
    expect(got, slow_score(pattern, 1, 1), f"the scores of 5 heads, of which head {head} looks back,")


@exercise("duplicate_token_score", points=1, explains=True)
def test_is_one_for_a_head_that_finds_the_same_token(submission, rng):
    pattern = torch.zeros(1, 2, 8, 8)
    pattern[:, 0, :4] = torch.eye(8)[:4]
    pattern[:, 0, torch.arange(4, 8), torch.arange(4)] = 1
    pattern[:, 1] = torch.eye(8)
    expect(submission.duplicate_token_score(pattern, 4), [1.0, 0.0], "the scores of a head that looks at the same token in the first copy, and of one that looks at itself,")


@exercise("duplicate_token_score", points=1)
def test_averages_over_the_second_copy(submission, rng):
    pattern = random_patterns(rng, 3, 6, 10, 10)
    expect(submission.duplicate_token_score(pattern, 5), slow_score(pattern, 5, 5), "the scores of 6 heads for length 5")


@exercise("duplicate_token_score", points=1)
def test_goes_by_the_length_it_is_given(submission, rng):
    for length in (3, integer(rng, 6, 9)):
        pattern = stripe(rng, 2, 3, 2 * length, 1, length, length)
        expect(submission.duplicate_token_score(pattern, length), slow_score(pattern, length, length), f"the scores of 3 heads for length {length}")


@exercise("induction_score", points=1, explains=True)
def test_is_one_for_a_head_that_looks_after_the_same_token(submission, rng):
    pattern = torch.zeros(1, 3, 8, 8)
    pattern[:, :, :4, 0] = 1
    second = torch.arange(4, 8)
    pattern[:, 0, second, second - 3] = 1  # one after the same token
    pattern[:, 1, second, second - 4] = 1  # the same token
    pattern[:, 2, second, second - 5 + (second == 4)] = 1  # one before it
    expect(submission.induction_score(pattern, 4), [1.0, 0.0, 0.0], "the scores of heads that look one after the same token, at it, one before it,")


@exercise("induction_score", points=1)
def test_averages_over_the_second_copy_alone(submission, rng):
    pattern = random_patterns(rng, 3, 5, 8, 8)
    pattern[:, :, 3, 0] = 1.0  # the last token of the first copy looks at the first: that is no induction
    expect(submission.induction_score(pattern, 4), slow_score(pattern, 3, 4), "the scores of 5 heads for length 4, over destinations 4 to 7,")


@exercise("induction_score", points=1)
def test_induction_goes_by_the_length_it_is_given(submission, rng):
    for length in (3, integer(rng, 6, 9)):
        pattern = stripe(rng, 2, 3, 2 * length, 2, length - 1, length)
        expect(submission.induction_score(pattern, length), slow_score(pattern, length - 1, length), f"the scores of 3 heads for length {length}")


# find_heads ---------------------------------------------------------------------------------

KINDS = {"previous": (lambda L: 1, lambda L: 1), "duplicate": (lambda L: L, lambda L: L), "induction": (lambda L: L - 1, lambda L: L)}


def check_found(submission, model, tokens, kind):
    got = submission.find_heads(model, tokens, kind)
    try:
        got = {(int(layer), int(head)) for layer, head in got}
    except (TypeError, ValueError):
        fail(f"The heads should be a list of pairs (layer, head); yours is {got!r}.")
    back, start = (f(tokens.shape[1] // 2) for f in KINDS[kind])
    scores = {}
    for layer, pattern in enumerate(patterns(model, tokens)):
        for head, score in enumerate(slow_score(pattern, back, start).tolist()):
            scores[layer, head] = score
    for where in sorted(got):
        layers = f"{model.cfg.n_layers} layer{'s' * (model.cfg.n_layers > 1)}"
        require(where in scores, f"There is no head {where} in a model of {layers} with {model.cfg.n_heads} heads in each.")
        require(scores[where] > 0.39, f"Head {where} is among your {kind} heads; its mean weight, over the positions of its kind, is {scores[where]:.2f}, not above 0.4.")
    for where, score in scores.items():
        require(score < 0.41 or where in got, f"Head {where} is missing among your {kind} heads; its mean weight, over the positions of its kind, is {score:.2f}, above 0.4.")


def planted(rng, n_heads=4, d_vocab=24, n_ctx=32):
    """A model with two previous-token heads, one for duplicates and one for induction, in random places;
    all other heads look everywhere."""
    room = rooms(position=32, token=d_vocab, previous=d_vocab)
    cfg = Config(d_vocab=d_vocab, d_model=room.d_model, n_layers=2, n_heads=n_heads, d_head=64, n_ctx=n_ctx)
    model = Transformer(cfg)
    each = torch.eye(d_vocab)
    frequencies = 10_000 ** (-torch.arange(0, 32, 2) / room.d_model)
    first, second = (torch.randperm(n_heads, generator=rng).tolist() for _ in range(2))
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.W_E[:, room.token] = 100 * each
        model.W_U[room.token] = each
        for layer, head in ((0, first[0]), (1, second[0])):
            attn = model.blocks[layer].attn
            attn.W_Q[head, room.position, :32] = 100 * rotation(-frequencies)
            attn.W_K[head, room.position, :32] = torch.eye(32)
        model.blocks[0].attn.W_V[first[0], room.token, :d_vocab] = each
        model.blocks[0].attn.W_O[first[0], :d_vocab, room.previous] = each
        for layer, head, key in ((0, first[1], room.token), (1, second[1], room.previous)):
            attn = model.blocks[layer].attn
            attn.W_Q[head, room.token, :d_vocab] = each
            attn.W_K[head, key, :d_vocab] = each
        duplicate = model.blocks[0].attn  # a token is like itself: look elsewhere if it can
        duplicate.W_Q[first[1], room.position, d_vocab : d_vocab + 32] = -100 * torch.eye(32)
        duplicate.W_K[first[1], room.position, d_vocab : d_vocab + 32] = torch.eye(32)
    return model


def check_kind(submission, rng, kind):
    """Heads where they were planted, those of the shipped model in another order, and none where there are none."""
    once = torch.stack([1 + torch.randperm(23, generator=rng)[:12] for _ in range(3)])
    check_found(submission, planted(rng), once.repeat(1, 2), kind)
    model, _ = reordered(rng, shipped("two_layer"))
    check_found(submission, model, torch.randint(1, 700, (4, 32), generator=rng).repeat(1, 2), kind)
    model = random_model(rng, scale=0.3, trainable=True, d_vocab=30, n_ctx=24)
    check_found(submission, model, torch.randint(30, (3, 12), generator=rng).repeat(1, 2), kind)


@exercise("find_heads", points=1)
def test_finds_previous_token_heads(submission, rng):
    check_kind(submission, rng, "previous")


@exercise("find_heads", points=1)
def test_finds_duplicate_token_heads(submission, rng):
    check_kind(submission, rng, "duplicate")


@exercise("find_heads", points=1)
def test_finds_induction_heads(submission, rng):
    check_kind(submission, rng, "induction")


def looking(rng, weights, back, start, length, n_layers=2, n_heads=5):
    """A model in which some heads, in random places, give `back` positions back what `weights` says, by
    destination from `start` on, and the rest to itself. The others look at all places alike."""
    n, n_rows = 2 * length, len(weights)
    looks = torch.ones(n_layers * n_heads, n, n).tril()
    for at, given in zip(torch.randperm(n_layers * n_heads, generator=rng)[:n_rows].tolist(), weights, strict=True):
        looks[at, start:] = 0
        for d, weight in zip(range(start, n), given, strict=True):
            looks[at, d, d - back] = weight
            looks[at, d, d] = 1 - weight
    model = Transformer(
        Config(d_vocab=7, d_model=n, n_layers=n_layers, n_heads=n_heads, d_head=n, n_ctx=n, positional_embedding_type="standard")
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.W_pos.copy_(torch.eye(n))  # and nothing else in the stream: queries are rows of scores
        for block, scores in zip(model.blocks, looks.clamp(min=1e-12).log().view(n_layers, n_heads, n, n), strict=True):
            block.attn.W_Q.copy_(scores * n**0.5)
            block.attn.W_K.copy_(torch.eye(n))
    return model


def unlike(n, share, high, mean):
    """`n` weights of which a share is high and the others are low, so that the mean is as told."""
    n_high = int(share * n) + 1
    return [high] * n_high + [(mean - high * n_high / n) * n / (n - n_high)] * (n - n_high)


@exercise("find_heads", points=1)
def test_finds_heads_that_are_only_just_ones_and_no_others(submission, rng):
    model, _ = reordered(rng, shipped("one_layer"))
    check_found(submission, model, torch.randint(1, 700, (12, 32), generator=rng).repeat(1, 2), "previous")
    for kind in KINDS:
        length = integer(rng, 8, 11)
        back, start = (f(length) for f in KINDS[kind])
        n, near = 2 * length - start, integer(rng, 15, 30) / 1000
        weights = [[0.4 + near] * n, [0.4 - near] * n]  # a head, and none
        # A head whose weights are mostly small, and none whose weights are mostly large.
        weights += [unlike(n, 0.3, 0.96, 0.43), unlike(n, 0.55, 0.56, 0.37)]
        if kind == "previous":  # the first copy counts as well
            early, late = [0.6] * (length - 1), [0.28] * length
            weights += [early + late, [0.2] * (length - 1) + [0.55] * length]
        tokens = torch.randint(7, (3, length), generator=rng).repeat(1, 2)
        check_found(submission, looking(rng, weights, back, start, length), tokens, kind)


@exercise("find_heads", points=1)
def test_takes_the_mean_over_all_texts(submission, rng):
    """A head of the last of three layers that looks at all tokens like its own: half of its weight is
    on the duplicate in a text of different tokens, and little of it in a text of one token alone."""
    model = Transformer(Config(d_vocab=8, d_model=8, n_layers=3, n_heads=2, d_head=8, n_ctx=8, positional_embedding_type="standard"))
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.W_E.copy_(torch.eye(8))
        head = integer(rng, 0, 1)
        model.blocks[2].attn.W_Q[head] = 100 * torch.eye(8)
        model.blocks[2].attn.W_K[head] = torch.eye(8)
    different = torch.stack([torch.randperm(8, generator=rng)[:4] for _ in range(12)])
    same = torch.randint(8, (2, 1), generator=rng).expand(2, 4)
    for place in (2, 1, 0):  # one text in three: too few
        once = torch.cat([same[:place], different[:1], same[place:]])
        check_found(submission, model, once.repeat(1, 2), "duplicate")
    place = integer(rng, 0, 12)  # twelve in thirteen: enough
    once = torch.cat([different[:place], same[:1], different[place:]])
    check_found(submission, model, once.repeat(1, 2), "duplicate")


@exercise("find_heads", points=1)
def test_counts_the_second_copy_alone(submission, rng):
    """Sequences a b a b. A head that looks at every `a` does what induction would at the first `b`, which
    is in the first copy, and not in the second; a head that looks at every `b` the other way round."""
    model = Transformer(Config(d_vocab=8, d_model=8, n_layers=2, n_heads=4, d_head=8, n_ctx=8, positional_embedding_type="standard"))
    sees_a, sees_b = torch.randperm(4, generator=rng)[:2].tolist()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.W_E.copy_(torch.eye(8))
        for head, liked in ((sees_a, slice(0, 4)), (sees_b, slice(4, 8))):
            attn = model.blocks[integer(rng, 0, 1)].attn
            attn.W_Q[head, :, 0] = 1000
            attn.W_K[head, liked, 0] = 1
    once = torch.stack([torch.randint(4, (6,), generator=rng), torch.randint(4, 8, (6,), generator=rng)], dim=1)
    check_found(submission, model, once.repeat(1, 2), "induction")
    # All of the second copy: a head that always looks at position 0 finds the duplicate of `a`, and not of `b`.
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.W_E[:, 0] = 1
        model.W_pos[0, 1] = 1
        model.blocks[1].attn.W_Q[sees_a, 0, 0] = 1000
        model.blocks[1].attn.W_K[sees_a, 1, 0] = 1
    check_found(submission, model, once.repeat(1, 2), "duplicate")


# one_layer_shows ----------------------------------------------------------------------------


@functools.cache
def one_layer_facts():
    """What the shipped one-layer model does, measured."""
    model = shipped("one_layer")
    tokens = torch.randint(1, 700, (8, 48), generator=torch.Generator().manual_seed(0)).repeat(1, 2)
    (pattern,) = patterns(model, tokens)
    previous = pattern.diagonal(-1, dim1=-2, dim2=-1).mean((0, -1)).max().item()
    induction = pattern.diagonal(-47, dim1=-2, dim2=-1)[..., 1:].mean((0, -1)).max().item()
    with torch.no_grad():
        left, right = model.W_E @ model.W_V[0], model.W_O[0] @ model.W_U  # [n_heads d_vocab r], [n_heads r d_vocab]
        values = torch.linalg.eigvals(right @ left)
        copying = (values.sum(-1).real / values.abs().sum(-1)).max().item()
        log_probs = model(tokens).log_softmax(-1)
        losses = -log_probs[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
    gain = (losses[:, :47].mean() - losses[:, 48:].mean()).item()
    return {
        "previous": (previous > 0.3, f"its best previous-token head has a mean weight of {previous:.2f}"),
        "induction": (induction > 0.3, f"the best induction score of its heads is {induction:.2f}"),
        "copying": (copying > 0.7, f"its best copying head has an eigenvalue score of {copying:.2f}"),
        "second copy": (gain > 1, f"its second copy costs {gain:.2f} nats per token less than the first"),
    }


def check_claims(submission, *claims):
    for claim in claims:
        got = answer_to(claim, submission.one_layer_shows, list(one_layer_facts()))
        want, measured = one_layer_facts()[claim]
        require(
            isinstance(got, bool | int) or getattr(got, "dtype", None) == torch.bool,
            f"For {claim!r} the answer should be True or False; it is {got!r}.",
        )
        require(bool(got) == want, f"For {claim!r} you say {bool(got)}. In the shipped one-layer model, {measured}.")


@exercise("one_layer_shows", points=1)
def test_is_right_about_where_heads_look(submission, rng):
    check_claims(submission, "previous", "induction")


@exercise("one_layer_shows", points=1)
def test_is_right_about_copying(submission, rng):
    check_claims(submission, "copying")


@exercise("one_layer_shows", points=1)
def test_does_not_take_looking_back_for_looking_up(submission, rng):
    check_claims(submission, "second copy")


# phase_change_step --------------------------------------------------------------------------


def curve_with_drop(rng, n, every, size, noise, slope, start=0):
    """A noisy curve with a gentle slope in its first third and one sharp drop after that; and the step
    of the drop, and how far from it an answer may be, in steps."""
    place = integer(rng, int(0.5 * n), int(0.85 * n))
    width = max(0.6, n / 120)
    i = torch.arange(n).double()
    values = 6 - slope * (i / (0.4 * n)).clamp(max=1) - size * torch.sigmoid((i - place) / width)
    values += noise * normal(rng, n).double()
    steps = [start + every * int(k) for k in range(n)]
    return list(zip(steps, values.tolist(), strict=True)), steps[place], every * max(2, n // 50)


def check_phase(submission, curve, want, tolerance, what):
    got = submission.phase_change_step(curve)
    try:
        got = float(got)
    except (TypeError, ValueError):
        fail(f"The answer should be a step, one whole number; it is {got!r}.")
    require(
        abs(got - want) <= tolerance,
        f"{what}: the curve of {len(curve)} points, from step {curve[0][0]} to {curve[-1][0]}, falls most steeply near step "
        f"{want}; you say {got:g}.",
    )


@exercise("phase_change_step", points=1)
def test_finds_a_clean_drop(submission, rng):
    for n, every in ((60, 25), (200, 1)):
        curve, want, width = curve_with_drop(rng, n, every, size=2.0, noise=0.0, slope=0.2)
        check_phase(submission, curve, want, width, "A drop without noise")
    # From 9 to 6, and then from 6 to 3.5: steeper in proportion, not in nats.
    first, second = integer(rng, 60, 80), integer(rng, 130, 150)
    curve = [(i, 9 - 3 * (i >= first) - 2.5 * (i >= second)) for i in range(200)]
    check_phase(submission, curve, first, 4, "A drop of 3 nats, then one of 2.5")
    drop = integer(rng, 4, 9)
    curve = [(50 * i, 7 - 0.01 * i - 3 * (i >= drop)) for i in range(integer(rng, 12, 17))]
    check_phase(submission, curve, 50 * drop, 100, "A drop of 3 nats in a short curve")
    rise, fall = integer(rng, 60, 80), integer(rng, 130, 150)  # a loss can jump up, too: that is no fall
    curve = [(i, 5 + 3 * (i >= rise) - 2 * (i >= fall)) for i in range(200)]
    check_phase(submission, curve, fall, 4, "A rise of 3 nats, then a drop of 2")


@exercise("phase_change_step", points=1)
def test_is_not_misled_by_noise(submission, rng):
    for spike in (0, 0, 3.0, 3.0):
        curve, want, width = curve_with_drop(rng, 800, 1, size=2.0, noise=0.25, slope=0.3)
        i = integer(rng, 100, 300)
        curve[i] = (i, curve[i][1] + spike)
        what = f"A drop in noise, and a single point that is {spike:g} too high" if spike else "A drop in noise"
        check_phase(submission, curve, want, width, what)


@exercise("phase_change_step", points=1)
def test_is_not_misled_by_a_long_gentle_slope(submission, rng):
    for n in (400, 400, 80):
        curve, want, width = curve_with_drop(rng, n, 5, size=1.5, noise=0.02, slope=3.0)
        check_phase(submission, curve, want, width, "A gentle slope of 3, then a drop of 1.5")


@exercise("phase_change_step", points=1)
def test_returns_a_step_and_not_an_index(submission, rng):
    curve, want, width = curve_with_drop(rng, 80, 50, size=2.0, noise=0.02, slope=0.2, start=500)
    check_phase(submission, curve, want, width, "Measured every 50 steps, from step 500 on")


# composition_score --------------------------------------------------------------------------


@exercise("composition_score", points=1)
def test_is_one_when_everything_is_read_and_zero_when_nothing_is(submission, rng):
    u, v, w = orthogonal(rng, 6, 3).T
    expect(submission.composition_score(torch.outer(u, v), torch.outer(v, w)), 1.0, "the score of a writer of one direction and a reader of the same", atol=1e-4)
    expect(submission.composition_score(torch.outer(u, v), torch.outer(w, u)), 0.0, "the score of a writer of one direction and a reader of another", atol=1e-4)


@exercise("composition_score", points=1)
def test_does_not_depend_on_how_loud_the_heads_are(submission, rng):
    A, B = normal(rng, 5, 5), normal(rng, 5, 5)
    want = sum(x * x for row in (A @ B).tolist() for x in row) ** 0.5
    want /= sum(x * x for row in A.tolist() for x in row) ** 0.5 * sum(x * x for row in B.tolist() for x in row) ** 0.5
    for a, b in ((1.0, 1.0), (10.0, 1.0), (0.1, 20.0)):
        expect(submission.composition_score(a * A, b * B), want, f"the score of two random matrices, times {a:g} and {b:g},")


@exercise("composition_score", points=1, explains=True)
def test_two_matrices_by_hand(submission, rng):
    A, B = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    want = (9 + 64) ** 0.5 / (5 * 5**0.5)
    expect(submission.composition_score(A, B), want, "the score of A = [[3, 4], [0, 0]] and B = [[1, 0], [0, 2]]")


# composition_scores -------------------------------------------------------------------------


def naive_composition(model, kind):
    W_Q, W_K, W_V, W_O = (W.detach().double() for W in (model.W_Q, model.W_K, model.W_V, model.W_O))
    n, rows = model.cfg.n_heads, []
    for i in range(n):
        A = W_V[0, i] @ W_O[0, i]
        row = []
        for j in range(n):
            QK = W_Q[1, j] @ W_K[1, j].T
            B = {"Q": QK, "K": QK.T, "V": W_V[1, j] @ W_O[1, j]}[kind]
            row.append((A @ B).norm() / (A.norm() * B.norm()))
        rows.append(torch.stack(row))
    return torch.stack(rows) - model.cfg.d_model**-0.5


def check_composition(submission, model, kind):
    what = f'the table of composition_scores(model, "{kind}") of a model with {model.cfg.n_heads} heads and {model.cfg.d_model} dimensions'
    expect(submission.composition_scores(model, kind), naive_composition(model, kind), what, rtol=1e-3, atol=1e-4)


@exercise("composition_scores", points=1)
def test_keys_against_full_matrices(submission, rng):
    check_composition(submission, two_layers(rng, d_model=12, d_head=3), "K")


@exercise("composition_scores", points=1)
def test_queries_and_values_against_full_matrices(submission, rng):
    check_composition(submission, two_layers(rng, n_heads=3, d_model=12, d_head=5), "Q")
    check_composition(submission, two_layers(rng, n_heads=3, d_model=14, d_head=2), "V")


@exercise("composition_scores", points=1)
def test_loud_heads_score_no_more_than_soft_ones(submission, rng):
    for kind in "QKV":
        model = two_layers(rng, n_heads=3)
        with torch.no_grad():
            for block in model.blocks:
                for W in (block.attn.W_Q, block.attn.W_K, block.attn.W_V, block.attn.W_O):
                    W.mul_(3 ** normal(rng, 3, 1, 1))
        check_composition(submission, model, kind)


@exercise("composition_scores", points=1)
def test_is_quick_enough_for_a_wide_model(submission, rng):
    model = two_layers(rng, n_heads=8, d_model=2048, d_head=6, d_vocab=5, n_ctx=3)
    got = torch.as_tensor(submission.composition_scores(model, "K")).double()
    i, j = integer(rng, 0, 7), integer(rng, 0, 7)
    A1, A2, B1, B2 = (W.detach().double() for W in (model.W_V[0, i], model.W_O[0, i], model.W_K[1, j], model.W_Q[1, j].T))

    def norm(*factors):
        """Of a product with two thin ends, through their triangular factors."""
        left, right = torch.linalg.qr(factors[0])[1], torch.linalg.qr(factors[-1].T)[1].T
        for middle in factors[1:-1]:
            left = left @ middle
        return (left @ right).norm()

    want = norm(A1, A2 @ B1, B2) / (norm(A1, A2) * norm(B1, B2)) - 2048**-0.5
    expect(got[i, j], want, f"the score of head {i} with the keys of head {j} in a model of 2,048 dimensions", rtol=1e-2, atol=1e-4)


# composed_qk --------------------------------------------------------------------------------


@exercise("composed_qk", points=1)
def test_each_entry_is_a_query_times_a_key(submission, rng):
    model = two_layers(rng)
    i, j = (0, 4) if integer(rng, 0, 1) else (3, 1)
    got = submission.composed_qk(model, i, j)
    W = {name: getattr(model, name).detach().double() for name in ("W_E", "W_Q", "W_K", "W_V", "W_O")}
    want = torch.zeros(11, 11).double()
    for a in range(11):
        for b in range(11):
            query = W["W_E"][a] @ W["W_Q"][1, j]
            key = ((W["W_E"][b] @ W["W_V"][0, i]) @ W["W_O"][0, i]) @ W["W_K"][1, j]
            want[a, b] = query @ key
    expect(got, want, f"the table of composed_qk(model, {i}, {j})", rtol=1e-3, atol=1e-4)


@exercise("composed_qk", points=1)
def test_matches_the_scores_of_the_circuit_built_by_hand(submission, rng):
    model = planted(rng)
    with torch.no_grad():
        i = int(model.W_V[0].flatten(1).norm(dim=1).argmax())  # the only head of layer 0 that writes
        j = int((model.W_O[0, i] @ model.W_K[1]).flatten(1).norm(dim=1).argmax())  # the one that reads it
    got = submission.composed_qk(model, i, j)
    want = 100 * 100 * torch.eye(24)
    expect(got, want, "the composed QK circuit of an induction head built by hand", rtol=1e-3, atol=1e-2)


@exercise("composed_qk", points=1)
def test_is_what_the_first_head_adds_to_the_score(submission, rng):
    model = two_layers(rng, d_vocab=8)
    i, j = integer(rng, 0, 4), integer(rng, 0, 4)
    tokens = torch.tensor([[integer(rng, 0, 3), integer(rng, 4, 7)]])
    name = "blocks.1.attn.hook_attn_scores"
    with torch.no_grad():
        # Give the keys at position 0 what head i would write if it copied token b from there.
        b, a = tokens[0].tolist()
        written = model.W_E[b] @ model.W_V[0, i] @ model.W_O[0, i]

        def key_with(k, hook):
            k[:, 0, j] += written @ model.W_K[1, j]
            return k

        before = model.run_with_cache(tokens, names_filter=name)[1][name][0, j, 1, 0]
        with model.hooks(fwd_hooks=[("blocks.0.hook_attn_out", lambda out, hook: torch.zeros_like(out))]):
            plain = model.run_with_cache(tokens, names_filter=name)[1][name][0, j, 1, 0]
            with model.hooks(fwd_hooks=[("blocks.1.attn.hook_k", key_with), ("blocks.1.attn.hook_q", lambda q, hook: q)]):
                more = model.run_with_cache(tokens, names_filter=name)[1][name][0, j, 1, 0]
        position = model.W_pos[1] @ model.W_Q[1, j] @ model.W_K[1, j].T @ written  # of the query's position
    assert before.isfinite()
    want = (more - plain) * model.cfg.d_head**0.5 - position
    got = submission.composed_qk(model, i, j)
    expect(got[a, b], want, f"entry [{a}, {b}] of composed_qk(model, {i}, {j})", rtol=1e-3, atol=1e-3)


# circuit_eigenvalues ------------------------------------------------------------------------


def as_numbers(values):
    """Complex numbers as pairs, for messages and comparison."""
    return torch.view_as_real(torch.as_tensor(values).to(torch.complex128))


def of_small_product(submission, left, right):
    """The r eigenvalues of an answer. Those of left @ right itself would be n."""
    values = torch.as_tensor(submission.circuit_eigenvalues(left, right))
    n, r = left.shape
    require(
        list(values.shape) == [r],
        f"For left [{n} {r}] and right [{r} {n}] there should be {r} eigenvalues, shape [{r}], those of a matrix [{r} {r}]; "
        f"yours have shape {list(values.shape)}.",
    )
    return values.to(torch.complex128)


def check_power_sums(z, left, right, what):
    """The eigenvalues of M add up to its trace, their squares to that of M², and so on."""
    M, power = left.double() @ right.double(), torch.eye(len(left)).double()
    for k in range(1, 5):
        power = power @ M
        got = (z**k).sum()
        sizes = (z.abs() ** k).sum().item()
        require(
            abs(got - power.trace()) <= 1e-3 * max(sizes, abs(power.trace().item())) + 1e-6,
            f"{what}: the eigenvalues to the power {k} should add up to {power.trace():.4f}, the trace of the matrix to the power "
            f"{k}; yours add up to {got.real:.4f}{got.imag:+.4f}i.",
        )


@exercise("circuit_eigenvalues", points=1, explains=True)
def test_eigenvalues_by_hand(submission, rng):
    left = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    right = torch.tensor([[2.0, 1.0, 0.0], [0.0, -1.0, 3.0]])  # right @ left = [[2, 1], [3, -1]]
    got = of_small_product(submission, left, right)
    order = got.real.argsort()
    want = [(1 - 21**0.5) / 2, (1 + 21**0.5) / 2]
    expect(as_numbers(got[order])[:, 0], want, "the eigenvalues, smaller first, of [[2, 1, 0], [0, -1, 3], [2, 1, 0]]", atol=1e-4)


@exercise("circuit_eigenvalues", points=1)
def test_their_powers_add_up_to_traces(submission, rng):
    for n, r in ((9, 3), (12, 5)):
        left, right = normal(rng, n, r), normal(rng, r, n)
        check_power_sums(of_small_product(submission, left, right), left, right, f"A random matrix [{n} {n}] of rank {r}")


@exercise("circuit_eigenvalues", points=1)
def test_a_rotation_has_complex_ones(submission, rng):
    angle = 0.5 + torch.rand(1, generator=rng).item()
    left = torch.zeros(5, 2)
    left[1, 0] = left[3, 1] = 1.0
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    got = of_small_product(submission, left @ turn, left.T.clone())
    pairs = as_numbers(got)
    order = pairs[:, 1].argsort()
    want = [[math.cos(angle), -math.sin(angle)], [math.cos(angle), math.sin(angle)]]
    expect(pairs[order], want, f"real and imaginary parts of the eigenvalues of a rotation by {angle:.2f}")


@exercise("circuit_eigenvalues", points=1)
def test_is_quick_for_a_whole_vocabulary(submission, rng):
    for n in (300, 3000):  # the small one first: who takes the eigenvalues of left @ right learns it at once
        left, right = normal(rng, n, 5) / n**0.5, normal(rng, 5, n) / n**0.5
        got = of_small_product(submission, left, right)
        want = (left.double() * right.double().T).sum()
        what = f"the sum of the eigenvalues of a matrix [{n} {n}] of rank 5"
        expect(as_numbers(got.sum()[None])[0], [want.item(), 0.0], what, rtol=1e-3, atol=1e-4)


# find_pair_by_weights -----------------------------------------------------------------------


def pair_of(submission, model):
    got = submission.find_pair_by_weights(model)
    try:
        i, j = (int(h) for h in got)
    except (TypeError, ValueError):
        fail(f"The answer should be two head numbers (i, j); it is {got!r}.")
    n = model.cfg.n_heads
    require(0 <= i < n and 0 <= j < n, f"Heads are numbered 0 to {n - 1}; you say ({i}, {j}).")
    return i, j


def plant_pair(rng, model, kind, i, j, d_shared=6):
    """Let head i of layer 0 write where the q, k or v of head j of layer 1 reads."""
    d, r = model.cfg.d_model, model.cfg.d_head
    space = orthogonal(rng, d, d_shared)
    write, read = (normal(rng, a, b) / d_shared**0.5 for a, b in ((r, d_shared), (d_shared, r)))
    with torch.no_grad():
        model.blocks[0].attn.W_O[i].copy_(write @ space.T)
        getattr(model.blocks[1].attn, f"W_{kind}")[j].copy_(space @ read)


@exercise("find_pair_by_weights", points=1)
def test_finds_the_pair_of_the_shipped_model_in_another_order(submission, rng):
    for _ in range(2):
        model, _ = reordered(rng, shipped("two_layer"))
        i, j = pair_of(submission, model)
        tokens = torch.randint(1, 700, (3, 32), generator=rng).repeat(1, 2)
        first, second = patterns(model, tokens)
        back, after = slow_score(first, 1, 1), slow_score(second, 31, 32)
        require(
            int(back.argmax()) == i,
            f"You say head {i} of layer 0 is the previous-token head; it gives the token before {back[i]:.2f} of its attention. "
            f"Another gives {back.max():.2f}.",
        )
        require(
            after[j] > 0.35,
            f"You say head {j} of layer 1 is the induction head; it gives {after[j]:.2f} of its attention to what followed last time. "
            f"The best gives {after.max():.2f}.",
        )


def check_planted_pair(submission, rng, loud):
    model = two_layers(rng, n_heads=5, d_model=48, d_head=8, d_vocab=6)
    writers, readers = (torch.randperm(5, generator=rng).tolist() for _ in range(2))
    for kind, i, j in zip("KQV", writers, readers, strict=False):
        plant_pair(rng, model, kind, i, j)
    if loud:
        with torch.no_grad():
            model.blocks[0].attn.W_O[writers[3]] *= 30
            model.blocks[1].attn.W_K[readers[3]] *= 30
            model.blocks[1].attn.W_V[readers[4]] *= 30
    else:
        # A pair that is strong only for who leaves out W_V: it makes little of what W_O writes most.
        written = orthogonal(rng, model.cfg.d_model, 1)[:, 0]
        with torch.no_grad():
            model.blocks[0].attn.W_O[writers[4], 0] = 8 * written
            model.blocks[0].attn.W_V[writers[4], :, 0] /= 24
            model.blocks[1].attn.W_K[readers[4], :, 0] = 8 * written
    got, want = pair_of(submission, model), (writers[0], readers[0])
    other = {(writers[1], readers[1]): " Those compose through the queries.", (writers[2], readers[2]): " Those compose through the values."}
    note = other.get(got, " Those are merely loud." if loud and got == (writers[3], readers[3]) else "")
    require(got == want, f"In a model made for this check, heads {want} compose through the keys; you say {got}.{note}")


@exercise("find_pair_by_weights", points=1)
def test_tells_keys_from_queries_and_values(submission, rng):
    for _ in range(2):
        check_planted_pair(submission, rng, loud=False)


@exercise("find_pair_by_weights", points=1)
def test_is_not_misled_by_loud_heads(submission, rng):
    for _ in range(2):
        check_planted_pair(submission, rng, loud=True)


def key_scores(model):
    """K-composition of every pair of heads, [writer reader]."""
    W_Q, W_K, W_V, W_O = (W.detach().double() for W in (model.W_Q[1], model.W_K[1], model.W_V[0], model.W_O[0]))
    OV, KQ = W_V @ W_O, W_K @ W_Q.mT
    return (OV[:, None] @ KQ).norm(dim=(-1, -2)) / (OV.norm(dim=(-1, -2))[:, None] * KQ.norm(dim=(-1, -2)))


def check_strongest_pair(submission, model, what):
    got, scores = pair_of(submission, model), key_scores(model)
    want = divmod(int(scores.argmax()), len(scores))
    require(
        scores[got] > 0.999 * scores[want],
        f"In {what}, heads {want} have the largest K-composition score, {scores[want]:.2f}; yours, {got}, have {scores[got]:.2f}.",
    )


@exercise("find_pair_by_weights", points=1)
def test_wants_the_strongest_pair_not_heads_that_do_a_little_with_many(submission, rng):
    for _ in range(2):
        while True:
            model = two_layers(rng, n_heads=5, d_model=48, d_head=8, d_vocab=6)
            writers, readers = (torch.randperm(5, generator=rng).tolist() for _ in range(2))
            plant_pair(rng, model, "K", writers[0], readers[0])
            space = orthogonal(rng, 48, 6)
            with torch.no_grad():
                W_O, W_K = model.blocks[0].attn.W_O, model.blocks[1].attn.W_K
                W_O[writers[1:4]] += 2.2 * W_O[writers[1:4]] @ space @ space.T
                W_K[readers[1:4]] += 2.2 * space @ (space.T @ W_K[readers[1:4]])
            scores = key_scores(model)
            most = scores.flatten().topk(2)
            sums = int(scores.sum(1).argmax()), int(scores.sum(0).argmax())
            want = divmod(int(most.indices[0]), 5)
            if most.values[0] > 1.1 * most.values[1] and sums[0] != want[0] and sums[1] != want[1]:
                break
        check_strongest_pair(submission, model, "a model made for this check")
    for _ in range(3):  # where scores are nearly alike, another idea of strength finds another pair
        check_strongest_pair(submission, two_layers(rng), "a model of random weights")


# virtual_head_ov ----------------------------------------------------------------------------


@exercise("virtual_head_ov", points=1)
def test_is_what_the_second_head_writes_of_what_the_first_wrote(submission, rng):
    model = two_layers(rng)
    x = normal(rng, 10).double()
    W_V, W_O = model.W_V.detach().double(), model.W_O.detach().double()
    for i, j in ((0, 4), (1, 0), (3, 1)):
        want = (((x @ W_V[0, i]) @ W_O[0, i]) @ W_V[1, j]) @ W_O[1, j]
        got = x @ submission.virtual_head_ov(model, i, j).double()
        expect(got, want, f"what heads 0.{i} and 1.{j} make of a random vector", rtol=1e-3, atol=1e-4)


@exercise("virtual_head_ov", points=1)
def test_has_the_rank_of_one_head(submission, rng):
    model = two_layers(rng, d_model=12, d_head=3)
    got = submission.virtual_head_ov(model, 1, 2).double()
    rank = int(torch.linalg.matrix_rank(got, rtol=1e-4))
    require(rank == 3, f"With d_head = 3, the OV circuit of a virtual head has rank 3; yours has rank {rank}.")


@exercise("virtual_head_ov", points=1)
def test_is_nothing_when_the_second_head_reads_elsewhere(submission, rng):
    model = two_layers(rng, d_model=8, d_head=2, n_heads=2)
    with torch.no_grad():
        model.blocks[0].attn.W_O[1, :, 4:] = 0  # head 0.1 writes into the first half
        model.blocks[1].attn.W_V[0, :4] = 0  # head 1.0 reads the second half
    expect(submission.virtual_head_ov(model, 1, 0), torch.zeros(8, 8), "the virtual head of a head and one that reads nothing of it")
    want = model.W_V[0, 1] @ model.W_O[0, 1] @ model.W_V[1, 1] @ model.W_O[1, 1]
    expect(submission.virtual_head_ov(model, 1, 1), want.detach(), "the virtual head of 0.1 and 1.1")


# path_expansion_2l --------------------------------------------------------------------------


def expanded(submission, model, tokens, judged=("direct path", "single heads", "pairs of heads")):
    """The three kinds of terms; those that are judged have their shapes."""
    terms, n = submission.path_expansion_2l(model, tokens), model.cfg.n_heads
    logits = [*tokens.shape, model.cfg.d_vocab]
    wanted = {"direct path": logits, "single heads": [2, n, *logits], "pairs of heads": [n, n, *logits]}
    require(len(terms) == 3, f"There should be three values: the direct path, the single heads and the pairs; yours are {len(terms)}.")
    for (what, want), term in zip(wanted.items(), terms, strict=True):
        shape = list(getattr(term, "shape", []))
        require(shape == want or what not in judged, f"The {what} should have shape {want} for {n} heads and {tokens.shape[0]} texts; yours have {shape}.")
    return terms


@exercise("path_expansion_2l", points=1)
def test_paths_add_up_to_the_logits(submission, rng):
    model = two_layers(rng)
    tokens = random_tokens(rng, model, batch=3, pos=8)
    direct, singles, pairs = expanded(submission, model, tokens)
    with torch.no_grad():
        want = model(tokens)
    expect(direct + singles.sum((0, 1)) + pairs.sum((0, 1)), want, "the sum of all paths", rtol=1e-3, atol=1e-4)


def weights_by_hand(model, tokens):
    """The patterns of both layers on one text, its tokens as rows, and the weights that carry them on."""
    A = [p[0].double() for p in patterns(model, tokens)]
    W_E, W_U, W_V, W_O = (W.detach().double() for W in (model.W_E, model.W_U, model.W_V, model.W_O))
    return A, W_E[tokens[0]], W_U, W_V @ W_O


@exercise("path_expansion_2l", points=1)
def test_the_direct_path_and_each_single_head_are_in_their_places(submission, rng):
    model = two_layers(rng, n_heads=3, d_vocab=6)
    tokens = random_tokens(rng, model, batch=1, pos=5)
    direct, singles, _ = expanded(submission, model, tokens, ["direct path", "single heads"])
    A, x, W_U, OV = weights_by_hand(model, tokens)
    expect(direct[0], x @ W_U, "the direct path", rtol=1e-3, atol=1e-4)
    for layer in range(2):
        for h in range(3):
            want = A[layer][h] @ x @ OV[layer, h] @ W_U
            expect(singles[layer, h, 0], want, f"the path through head {layer}.{h} alone", rtol=1e-3, atol=1e-4)


@exercise("path_expansion_2l", points=1)
def test_each_pair_of_heads_has_its_own_path(submission, rng):
    model = two_layers(rng, n_heads=3, d_vocab=6)
    tokens = random_tokens(rng, model, batch=1, pos=5)
    _, _, pairs = expanded(submission, model, tokens, ["pairs of heads"])
    A, x, W_U, OV = weights_by_hand(model, tokens)
    for i in range(3):
        for j in range(3):
            want = A[1][j] @ A[0][i] @ x @ OV[0, i] @ OV[1, j] @ W_U
            expect(pairs[i, j, 0], want, f"the path through heads 0.{i} and 1.{j}", rtol=1e-3, atol=1e-4)
    # A model that has one path alone.
    model = two_layers(rng)
    i, j = integer(rng, 0, 4), integer(rng, 0, 4)
    with torch.no_grad():
        for h in range(5):
            if h != i:
                model.blocks[0].attn.W_O[h] = 0
            if h != j:
                model.blocks[1].attn.W_O[h] = 0
    tokens = random_tokens(rng, model, batch=3, pos=6)
    _, _, pairs = expanded(submission, model, tokens, ["pairs of heads"])
    size = pairs.abs().amax((2, 3, 4))
    others = size.clone()
    others[i, j] = 0
    require(bool(size[i, j] > 1e-4), f"Heads 0.{i} and 1.{j} are the only ones that write; yours has nothing on their path [{i}, {j}].")
    expect(others, torch.zeros(5, 5), f"the largest logit of each pair [i, j] other than [{i}, {j}], where the other heads write nothing,")


# term_importance ----------------------------------------------------------------------------


def slow_orders(model, tokens):
    """The losses of paths through at most 0, 1 and 2 heads, path by path, patterns as they are."""
    A = [p.double() for p in patterns(model, tokens)]
    W_E, W_U, W_V, W_O = (W.detach().double() for W in (model.W_E, model.W_U, model.W_V, model.W_O))
    x = W_E[tokens]
    heads = range(model.cfg.n_heads)
    order1 = sum(A[layer][:, h] @ x @ W_V[layer, h] @ W_O[layer, h] for layer in range(2) for h in heads)
    order2 = sum(
        A[1][:, j] @ A[0][:, i] @ x @ W_V[0, i] @ W_O[0, i] @ W_V[1, j] @ W_O[1, j] for i in heads for j in heads
    )
    losses = []
    for resid in (x, x + order1, x + order1 + order2):
        log_probs = (resid @ W_U).log_softmax(-1)
        losses.append(-log_probs[:, :-1].gather(-1, tokens[:, 1:, None]).mean())
    return torch.stack(losses)


@exercise("term_importance", points=1)
def test_losses_of_paths_up_to_each_order(submission, rng):
    model = two_layers(rng)
    tokens = random_tokens(rng, model, batch=3, pos=8)
    expect(submission.term_importance(model, tokens), slow_orders(model, tokens), "the losses of orders 0, up to 1, up to 2", rtol=1e-3, atol=1e-4)


@exercise("term_importance", points=1)
def test_the_last_is_the_loss_of_the_whole_model_and_the_first_of_no_layer(submission, rng):
    model = two_layers(rng, n_heads=3)
    tokens = random_tokens(rng, model, batch=5, pos=9)
    got = submission.term_importance(model, tokens)
    expect(got[2], slow_losses(model, tokens).mean(), "the loss with paths up to order 2, which is the whole model's,", rtol=1e-3)
    bare = Transformer(Config(d_vocab=11, d_model=10))
    with torch.no_grad():
        bare.W_E.copy_(model.W_E)
        bare.W_U.copy_(model.W_U)
    expect(got[0], slow_losses(bare, tokens).mean(), "the loss of order 0, the direct path alone,", rtol=1e-3)


@exercise("term_importance", points=1)
def test_without_v_composition_order_two_adds_nothing(submission, rng):
    model = two_layers(rng, d_model=12)
    with torch.no_grad():
        model.blocks[0].attn.W_O[:, :, 6:] = 0  # layer 0 writes into the first half,
        model.blocks[1].attn.W_V[:, :6] = 0  # layer 1's values are read from the second
    tokens = random_tokens(rng, model, batch=3, pos=8)
    want = slow_losses(model, tokens).mean()
    got = submission.term_importance(model, tokens)
    expect(got[1:], want.expand(2), "the losses up to order 1 and 2, where no head's values see another head,", rtol=1e-3)


# ablated_loss -------------------------------------------------------------------------------


def silenced(model, heads):
    """The model with these heads' output weights set to 0."""
    new = Transformer(model.cfg)
    new.load_state_dict(model.state_dict())
    with torch.no_grad():
        for layer, head in heads:
            new.blocks[layer].attn.W_O[head] = 0
    return new


def check_ablated(submission, rng, heads):
    model = random_model(rng, trainable=True)
    tokens = random_tokens(rng, model)
    want = slow_losses(silenced(model, heads), tokens)
    expect(submission.ablated_loss(model, tokens, heads), want, f"the losses without the heads {heads}", rtol=1e-3)


@exercise("ablated_loss", points=1)
def test_removes_one_head_of_one_layer(submission, rng):
    check_ablated(submission, rng, [(0, 4)])
    check_ablated(submission, rng, [(2, 0)])


@exercise("ablated_loss", points=1)
def test_removes_several_heads_at_once(submission, rng):
    check_ablated(submission, rng, [(0, 1), (0, 3), (1, 2)])
    check_ablated(submission, rng, [(2, 3), (2, 0)])


@exercise("ablated_loss", points=1, explains=True)
def test_removes_nothing_when_told_so(submission, rng):
    check_ablated(submission, rng, [])


@exercise("ablated_loss", points=1, explains=True, in_place=True)
def test_leaves_the_model_as_it_was(submission, rng):
    model = random_model(rng, trainable=True)
    tokens = random_tokens(rng, model)
    before = slow_losses(model, tokens)
    submission.ablated_loss(model, tokens, [(0, 0), (1, 1)])
    expect(slow_losses(model, tokens), before, "the losses of the model after your function has run")
