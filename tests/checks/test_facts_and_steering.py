"""Checks of chapter 7. Each says in its name what must be true of an answer."""

import copy
import functools
import math

import torch

from circuits.checking import answer_to, exercise, expect, fail, require
from circuits.inputs import integer, normal, orthogonal, random_model, random_tokens
from circuits.symmetries import FULL, symmetric
from utils.materials import assistant, facts, functions
from utils.model import get_act_name
from utils.worlds import encode, load_world, next_logits

MATRICES = symmetric("rotate neurons")
SYMMETRIES = {
    "isolated_trace": symmetric(FULL),
    "associative_memory": "its arguments are lists of vectors, in no part of a model",
    "hardest_size": "its argument is a word",
    "subject_key": symmetric(FULL, positions=None),
    "target_value": symmetric(FULL, subject=None, last=None, target="token"),
    "rank_one_edit": MATRICES,
    "changes_along": "its argument is a word",
    "edit_many": MATRICES,
    "tracing_gain": "its arguments are measurements",
    "difference_of_means": symmetric("rotate"),
    "add_direction": symmetric(FULL),
    "project_out": symmetric(FULL),
    "orthogonalise_weights": symmetric(FULL),
    "after_change": "its argument is a word",
    "average_indirect_effect": symmetric(FULL),
    "function_vector": symmetric(FULL, heads="(layer, head)"),
    "vector_heads": "it has no argument",
    "paired_direction": symmetric("rotate"),
}

COVARIANCE = "the text says what C is: a mean of kᵀk, which is symmetric"
COINCIDENCES = {
    ("rank_one_edit", "C is always symmetric"): COVARIANCE,
    ("edit_many", "C is always symmetric"): COVARIANCE,
}

MLPS = dict(attn_only=False, d_mlp=13, act_fn="relu", biases=True)


def full_model(rng, **shape):
    """A small model with ReLU MLPs, LayerNorm and biases, in which no weight is at its start."""
    return random_model(rng, **MLPS | dict(normalization_type="LN") | shape)


def mlp_model(rng, **shape):
    """The same without LayerNorm."""
    return random_model(rng, **MLPS | shape)


def uniform(rng, low, high, *shape):
    return low + (high - low) * torch.rand(shape, generator=rng)


def run(model, tokens, embed=None, fix=lambda kind, layer, x: x):
    """Logits, block by block and without hooks; `fix` may change what each part adds, and the stream."""
    resid = model.W_E[tokens] if embed is None else embed
    pos = model.W_pos[: tokens.shape[1]]
    if model.cfg.positional_embedding_type == "standard":
        resid, pos = resid + pos, 0.0
    for layer, block in enumerate(model.blocks):
        resid = fix("resid_pre", layer, resid)
        x = block.ln1(resid)
        out = block.attn(x + pos, x, lambda name, x: x, lambda name: False)
        resid = resid + fix("attn_out", layer, out)
        if block.mlp is not None:
            resid = fix("resid_mid", layer, resid)
            resid = resid + fix("mlp_out", layer, block.mlp(block.ln2(resid), lambda name, x: x))
        resid = fix("resid_post", layer, resid)
    return model.unembed(model.ln_final(resid))


def kept(model, tokens, embed=None):
    """What all parts add, and the stream, by (kind, layer)."""
    found = {}

    def keep(kind, layer, x):
        found[kind, layer] = x
        return x

    return run(model, tokens, embed, keep), found


def p_answer(logits, answer):
    return logits[:, -1].softmax(-1)[torch.arange(len(answer)), answer]


# isolated_trace -----------------------------------------------------------------------------


def slow_trace(model, tokens, embed, answer, kind, reach, severed):
    (_, clean), (_, disturbed) = kept(model, tokens), kept(model, tokens, embed)
    n_layers, n_pos = model.cfg.n_layers, tokens.shape[1]
    cells = torch.zeros(len(tokens), n_layers, n_pos)
    for layer in range(n_layers):
        for pos in range(n_pos):

            def fix(what, i, x):
                source = clean if what == kind and abs(i - layer) <= reach else None
                source = disturbed if what == severed and i >= layer else source
                if source is None:
                    return x
                return torch.cat([x[:, :pos], source[what, i][:, pos : pos + 1], x[:, pos + 1 :]], 1)

            cells[:, layer, pos] = p_answer(run(model, tokens, embed, fix), answer)
    return cells


def traced(rng, disturb=2.0, **shape):
    """A model, texts, their embeddings disturbed at two positions, and answers."""
    model = full_model(rng, **shape)
    tokens = random_tokens(rng, model, batch=3, pos=5 + (model.cfg.n_layers == 5))
    embed = model.W_E[tokens].clone()
    at = integer(rng, 1, 2)
    embed[:, at : at + 2] += normal(rng, *embed[:, at : at + 2].shape, scale=disturb)
    return model, tokens, embed, torch.randint(model.cfg.d_vocab, (len(tokens),), generator=rng)


def check_trace(submission, rng, kind, reach, severed, **shape):
    model, tokens, embed, answer = traced(rng, **shape)
    got = submission.isolated_trace(model, tokens, embed, answer, kind, reach, severed)
    want = slow_trace(model, tokens, embed, answer, kind, reach, severed)
    cut = f", {severed} severed," if severed else ""
    expect(got, want, f"P(answer) with {kind} restored, reach {reach}{cut}", rtol=1e-3, atol=1e-4)


@exercise("isolated_trace", points=1, explains=True)
def test_what_was_not_disturbed_stays_as_it_is(submission, rng):
    model, tokens, embed, answer = traced(rng, disturb=0.0)
    want = p_answer(model(tokens), answer)[:, None, None].expand(-1, model.cfg.n_layers, tokens.shape[1])
    got = submission.isolated_trace(model, tokens, embed, answer, "mlp_out", 0, "attn_out")
    expect(got, want, "P(answer) where nothing is disturbed", rtol=1e-3, atol=1e-4)


@exercise("isolated_trace", points=2)
def test_one_kind_in_one_layer_at_one_position(submission, rng):
    for kind in ("attn_out", "mlp_out", "resid_post"):
        check_trace(submission, rng, kind, 0, "")


@exercise("isolated_trace", points=1)
def test_all_layers_within_reach_are_restored(submission, rng):
    check_trace(submission, rng, "mlp_out", 1, "", n_layers=5)
    check_trace(submission, rng, "attn_out", 2, "", n_layers=5)


@exercise("isolated_trace", points=1)
def test_what_is_severed_stays_disturbed_from_there_on(submission, rng):
    check_trace(submission, rng, "mlp_out", 1, "attn_out")
    check_trace(submission, rng, "resid_post", 0, "mlp_out")


# associative_memory -------------------------------------------------------------------------


@exercise("associative_memory", points=1)
def test_few_keys_give_their_values_exactly(submission, rng):
    for n, d, e in ((5, 9, 7), (3, 8, 10)):
        K, V = normal(rng, n, d), normal(rng, n, e)
        W = torch.as_tensor(submission.associative_memory(K, V))
        expect(W.to(K.dtype).T @ K.T if W.shape != (d, e) else K @ W.to(K.dtype), V, "K W", rtol=1e-3, atol=1e-3)
        outside = torch.eye(d) - torch.linalg.qr(K.T)[0] @ torch.linalg.qr(K.T)[0].T
        expect(outside @ W.to(K.dtype), torch.zeros(d, e), "what W answers to keys at right angles to all of K (the smallest W answers 0)", atol=1e-3)


@exercise("associative_memory", points=1)
def test_too_many_keys_leave_errors_that_no_key_explains(submission, rng):
    for n, d, e in ((17, 6, 9), (23, 7, 5)):
        K, V = normal(rng, n, d) + normal(rng, d), normal(rng, n, e)
        W = torch.as_tensor(submission.associative_memory(K, V)).double()
        require(W.shape == (d, e), f"W should have shape [{d}, {e}]; yours has {list(W.shape)}.")
        expect(K.double().T @ (K.double() @ W - V.double()), torch.zeros(d, e), "Kᵀ (K W - V), which is 0 at the least squares", atol=2e-3)


@exercise("associative_memory", points=1)
def test_a_key_with_several_values_gets_their_mean(submission, rng):
    Q, V = orthogonal(rng, 9)[:4], normal(rng, 7, 5)
    K = Q[[0, 1, 2, 3, 0, 0, 2]] * float(uniform(rng, 0.5, 2, 1))
    W = torch.as_tensor(submission.associative_memory(K, V)).to(K.dtype)
    require(W.shape == (9, 5), f"W should have shape [9, 5]; yours has {list(W.shape)}.")
    want = torch.stack([V[[0, 4, 5]].mean(0), V[1], V[[2, 6]].mean(0), V[3]])
    expect(K[:4] @ W, want, "the answers to four keys, two of which have several values", rtol=1e-3, atol=1e-3)


# hardest_size -------------------------------------------------------------------------------

MEMORIES = ("sum of pairs", "least squares", "least squares, disturbed")
SIZES = {"half": 0.5, "equal": 1, "triple": 3}


@functools.lru_cache(maxsize=64)
def recalled(seed, memory, d=48, n_memories=12):
    """By size, the share of values that memories of random pairs give back, as the text describes them."""
    rng, found = torch.Generator().manual_seed(seed), {}
    for size, times in SIZES.items():
        shape = n_memories, int(times * d), d
        K, V = (torch.nn.functional.normalize(torch.randn(shape, generator=rng), dim=-1) for _ in range(2))
        W = K.mT @ V if memory == "sum of pairs" else torch.linalg.pinv(K) @ V
        asked = K + 0.2 * torch.randn(shape, generator=rng) / d**0.5 if memory.endswith("disturbed") else K
        found[size] = ((asked @ W @ V.mT).argmax(-1) == torch.arange(shape[1])).float().mean().item()
    return found


def check_size(submission, rng, memory):
    said = answer_to(memory, submission.hardest_size, MEMORIES)
    require(said in list(SIZES), f'Say "half", "equal" or "triple" of {memory!r}; you said {said!r}.')
    shares = recalled(integer(rng, 0, 2**62), memory)
    table = ", ".join(f"{size} {share:.1%}" for size, share in shares.items())
    require(said == min(shares, key=shares.get), f"Of {memory!r} you say {said!r}. Recalled by twelve memories of 48 dimensions: {table}.")


@exercise("hardest_size", points=1)
def test_is_right_about_the_sum_of_pairs(submission, rng):
    check_size(submission, rng, "sum of pairs")


@exercise("hardest_size", points=1)
def test_is_right_about_least_squares(submission, rng):
    check_size(submission, rng, "least squares")


@exercise("hardest_size", points=1)
def test_is_right_about_disturbed_keys(submission, rng):
    check_size(submission, rng, "least squares, disturbed")


# subject_key --------------------------------------------------------------------------------


def slow_key(model, layer, tokens, positions):
    _, found = kept(model, tokens)
    block, rows = model.blocks[layer], []
    for i, pos in enumerate(positions.tolist()):
        x = block.ln2(found["resid_mid", layer][i, pos])
        rows.append((x @ block.mlp.W_in + block.mlp.b_in).clamp(min=0))
    return sum(rows) / len(rows)


def check_key(submission, rng, model, layer, positions=None):
    tokens = random_tokens(rng, model)
    positions = torch.randint(tokens.shape[1], (len(tokens),), generator=rng) if positions is None else positions
    want = slow_key(model, layer, tokens, positions)
    expect(submission.subject_key(model, layer, tokens, positions), want, f"the key in layer {layer}", rtol=1e-3, atol=1e-4)


@exercise("subject_key", points=1)
def test_is_the_mean_of_the_neurons_at_each_texts_own_position(submission, rng):
    for layer in (0, 2):
        check_key(submission, rng, full_model(rng), layer)


@exercise("subject_key", points=1)
def test_layers_read_what_earlier_ones_wrote(submission, rng):
    check_key(submission, rng, mlp_model(rng), 1)
    check_key(submission, rng, mlp_model(rng, n_layers=5), 4)


@exercise("subject_key", points=1)
def test_first_and_last_positions_are_positions_too(submission, rng):
    check_key(submission, rng, full_model(rng), 1, torch.tensor([0, 7, 0, 7, 7, 3]))


# target_value -------------------------------------------------------------------------------


def objective(model, layer, tokens, subject, last, target, weight, decay):
    """J as a function of v, and v0."""
    rows = torch.arange(len(tokens))
    logits, found = kept(model, tokens)
    before, v0 = logits[rows, last].log_softmax(-1).detach(), found["mlp_out", layer][0, subject[0]].detach()

    def J(v):
        def fix(kind, i, x):
            if (kind, i) != ("mlp_out", layer):
                return x
            mask = torch.zeros(x.shape[:2]).index_put((rows, subject), torch.ones(len(rows)))[..., None]
            return x * (1 - mask) + v * mask

        log_p = run(model, tokens, None, fix)[rows, last].log_softmax(-1)
        value = -log_p[0, target] + decay * (v - v0).pow(2).sum()
        if len(tokens) > 1:
            value = value + weight * (before.exp() * (before - log_p)).sum(-1)[1:].mean()
        return value

    return J, v0


def lowest(J, v0, steps=25):
    """The lowest value that a quasi-Newton method finds from v0."""
    v = v0.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([v], lr=1.0, max_iter=steps, line_search_fn="strong_wolfe")
    best = [math.inf]

    def closure():
        loss = J(v)
        v.grad = torch.autograd.grad(loss, v)[0]
        best[0] = min(best[0], float(loss.detach()))
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return best[0]


def check_value(submission, rng, model, layer, n, weight, decay, at_the_end, share=0.05):
    tokens = random_tokens(rng, model, batch=n, pos=8)
    last = torch.randint(4, 8, (n,), generator=rng)
    subject = last.clone() if at_the_end else torch.randint(1, 4, (n,), generator=rng)
    (J, v0), likely = objective(model, layer, tokens, subject, last, 0, weight, decay), model(tokens)[0, last[0]]
    target = int(likely.argsort()[integer(rng, 2, 5)])  # one that takes some work
    J, v0 = objective(model, layer, tokens, subject, last, target, weight, decay)
    start, end = float(J(v0)), lowest(J, v0)
    got = torch.as_tensor(submission.target_value(model, layer, tokens, subject, last, target, weight, decay))
    require(got.shape == v0.shape, f"v should have shape {list(v0.shape)}; yours has {list(got.shape)}.")
    value = float(J(got.to(v0.dtype)))
    allowed = end + share * (start - end) + 1e-3
    require(
        value <= allowed,
        f"With {n} text{'s' * (n > 1)}, weight {weight:g} and decay {decay:g}, J is {start:.3f} at v0, and {end:.3f} was reached; "
        f"at your v it is {value:.3f}.",
    )


@exercise("target_value", points=1)
def test_one_text_alone_goes_on_with_the_target(submission, rng):
    check_value(submission, rng, mlp_model(rng, n_layers=2), 1, 1, 1.0, 0.03, True)
    check_value(submission, rng, mlp_model(rng, n_layers=2), 1, 1, 1.0, 0.5, True)


@exercise("target_value", points=1)
def test_the_essence_holds_the_others_where_they_are(submission, rng):
    check_value(submission, rng, mlp_model(rng, n_layers=2), 1, 3, 6.0, 0.02, True)
    check_value(submission, rng, mlp_model(rng, n_layers=2), 1, 2, 9.0, 0.05, True)


@exercise("target_value", points=2)
def test_it_works_through_later_layers_too(submission, rng):
    # Here J has several valleys, and which one is found depends on the way down.
    check_value(submission, rng, mlp_model(rng), 1, 3, 2.0, 0.05, False, 0.5)
    check_value(submission, rng, full_model(rng), 0, 3, 3.0, 0.1, False, 0.5)


# rank_one_edit, edit_many -------------------------------------------------------------------


def covariance(rng, d):
    keys = normal(rng, 3 * d, d) * uniform(rng, 0.3, 1.5, d) + normal(rng, d, scale=0.5)
    return keys.T @ keys / len(keys) + 0.05 * torch.eye(d)


def c_norm(D, C):
    return float((D.double().T @ C.double() @ D.double()).trace())


@exercise("rank_one_edit", points=1)
def test_the_key_gives_the_value_by_a_change_of_rank_one(submission, rng):
    for d, e in ((9, 6), (7, 10)):
        W, C, k, v = normal(rng, d, e), covariance(rng, d), normal(rng, d), normal(rng, e)
        new = torch.as_tensor(submission.rank_one_edit(W, C, k, v))
        require(new.shape == W.shape, f"The new matrix should have shape {list(W.shape)}; yours has {list(new.shape)}.")
        new = new.to(W.dtype)
        expect(k @ new, v, "k W'", rtol=1e-3, atol=1e-3)
        S = torch.linalg.svdvals(new - W)
        require(float(S[1]) < 1e-3 * float(S[0]), f"The change should have rank one; its singular values begin {S[0]:.3g}, {S[1]:.3g}.")
        least = float((v - k @ W).pow(2).sum()) / float(k.double() @ torch.linalg.inv(C.double()) @ k.double())
        require(c_norm(new - W, C) < 1.01 * least, f"The change has a squared C-norm of {c_norm(new - W, C):.4f}; {least:.4f} is enough.")


@exercise("rank_one_edit", points=2)
def test_no_other_rank_one_change_that_does_it_is_smaller(submission, rng):
    W, C, k, v = normal(rng, 8, 5), covariance(rng, 8), normal(rng, 8), normal(rng, 5)
    new = torch.as_tensor(submission.rank_one_edit(W, C, k, v))
    require(new.shape == W.shape, f"The new matrix should have shape {list(W.shape)}; yours has {list(new.shape)}.")
    D = new.to(W.dtype) - W
    expect(k @ (W + D), v, "k W'", rtol=1e-3, atol=1e-3)
    u0 = D @ (v - k @ W) / (v - k @ W).pow(2).sum()
    others = [u0 + scale * normal(rng, 8) for scale in (0.01, 0.03, 0.1, 0.3, 1.0) for _ in range(40)] + [k, C @ k]
    for u in others:
        other = torch.outer(u, v - k @ W) / (k @ u)
        require(
            c_norm(other, C) > c_norm(D, C) * (1 - 1e-4),
            f"The change has a squared C-norm of {c_norm(D, C):.4f}. Another one of rank one gives k W' = v with {c_norm(other, C):.4f}.",
        )


@exercise("rank_one_edit", points=1)
def test_keys_that_c_holds_apart_keep_their_values(submission, rng):
    W, C, k, v = normal(rng, 10, 7), covariance(rng, 10), normal(rng, 10), normal(rng, 7)
    new = torch.as_tensor(submission.rank_one_edit(W, C, k, v))
    require(new.shape == W.shape, f"The new matrix should have shape {list(W.shape)}; yours has {list(new.shape)}.")
    inv = torch.linalg.inv(C.double())
    others = normal(rng, 5, 10).double()
    others -= (others @ inv @ k.double())[:, None] * k.double() / (k.double() @ inv @ k.double())
    expect(others @ new.double(), others @ W.double(), "what is given for keys with k2 C⁻¹ kᵀ = 0", rtol=1e-3, atol=2e-3)
    expect(k @ new.to(W.dtype), v, "k W'", rtol=1e-3, atol=1e-3)


def check_many(submission, rng, n, d, e):
    W, C, K, V = normal(rng, d, e), covariance(rng, d), normal(rng, n, d), normal(rng, n, e)
    new = torch.as_tensor(submission.edit_many(W, C, K, V))
    require(new.shape == W.shape, f"The new matrix should have shape {list(W.shape)}; yours has {list(new.shape)}.")
    expect(K @ new.to(W.dtype), V, "K W'", rtol=2e-3, atol=2e-3)
    return W, C, K, V, new.to(W.dtype) - W


@exercise("edit_many", points=1)
def test_every_key_gives_its_value(submission, rng):
    check_many(submission, rng, 3, 9, 6)
    check_many(submission, rng, 5, 11, 7)


@exercise("edit_many", points=2)
def test_no_other_change_that_does_it_is_smaller(submission, rng):
    W, C, K, V, D = check_many(submission, rng, 3, 10, 6)
    free = torch.eye(10) - torch.linalg.pinv(K) @ K  # what K does not see
    for scale in (0.003, 0.01, 0.03, 0.1, 0.3):
        for _ in range(40):
            other = D + scale * free @ normal(rng, 10, 6)
            require(
                c_norm(other, C) > c_norm(D, C) * (1 - 1e-4),
                f"The change has a squared C-norm of {c_norm(D, C):.4f}. Another one gives K W' = V with {c_norm(other, C):.4f}.",
            )


@exercise("edit_many", points=1)
def test_keys_that_have_their_values_already_ask_for_nothing(submission, rng):
    W, C, K = normal(rng, 12, 7), covariance(rng, 12), normal(rng, 5, 12)
    V = K @ W
    V[2] += normal(rng, 7)
    new = torch.as_tensor(submission.edit_many(W, C, K, V))
    require(new.shape == W.shape, f"The new matrix should have shape {list(W.shape)}; yours has {list(new.shape)}.")
    expect(K @ new.to(W.dtype), V, "K W' where one of five keys gets a new value", rtol=2e-3, atol=2e-3)
    S = torch.linalg.svdvals(new.to(W.dtype) - W)
    require(float(S[1]) < 1e-2 * float(S[0]), "One value of five is new: the change has rank one; yours has more.")


# changes_along ------------------------------------------------------------------------------

ASKED = ("other words", "reversed", "essence", "no essence")


@functools.lru_cache(maxsize=1)
def people():
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first optimizer of a process imports 800 modules
    return load_world("facts").requires_grad_(False)


def named_places(names, texts):
    """Tokens of texts (those of the first name, then those of the second, ...), where last names stand, where texts end."""
    tokens, each = encode(facts.WORDS, texts), len(texts) // len(names)
    last_names = torch.tensor([facts.WORDS.index(name.split()[1]) for name in names for _ in range(each)])
    return tokens, (tokens == last_names[:, None]).int().argmax(1), torch.tensor([len(text.split()) for text in texts])


@functools.lru_cache(maxsize=2)
def edits(seed, held, n=6, layer=0):
    """Of n people who move by an edit of layer 0: the number in `facts.PEOPLE`, the new city, the model's new W_out. `held`
    says whether job and animal were held while the values were sought."""
    model, name, rng = people(), get_act_name("mlp_out", layer), torch.Generator().manual_seed(seed)
    numbers = torch.randperm(len(facts.PEOPLE), generator=rng)[:n].tolist()
    cities, names = facts.VALUES["city"], [facts.PEOPLE[i] for i in numbers]
    new = [cities[(cities.index(facts.ANSWERS["city"][i]) + integer(rng, 1, len(cities) - 1)) % len(cities)] for i in numbers]
    target = torch.tensor([facts.WORDS.index(city) for city in new])
    relations = ("city", "job", "pet") if held else ("city",)
    tokens, subject, last = named_places(names, [facts.ask(who, r, 0) for who in names for r in relations])
    rows, each = torch.arange(len(tokens)), len(relations)
    logits, cache = model.run_with_cache(tokens, names_filter=name)
    before, v = logits[rows, last].log_softmax(-1), cache[name][rows, subject][::each].clone().requires_grad_()
    v0, optimizer = v.detach().clone(), torch.optim.Adam([v], lr=0.1)

    def put(x, hook):
        return x.index_put((rows, subject), v.repeat_interleave(each, 0))

    for step in range(40):
        log_p = model.run_with_hooks(tokens, fwd_hooks=[(name, put)])[rows, last].log_softmax(-1)
        kept = (before.exp() * (before - log_p)).sum(-1).unflatten(0, (n, each))[:, 1:]
        loss = -log_p[::each].gather(1, target[:, None]).sum() + 0.001 * (v - v0).pow(2).sum() + kept.sum() / max(1, each - 1)
        v.grad = torch.autograd.grad(loss, v)[0]
        optimizer.param_groups[0]["lr"] = 0.1 * min(1.0, 2 * (1 - step / 40))
        optimizer.step()
    name = get_act_name("post", layer)
    tokens, subject, _ = named_places(names, [facts.ask(who, r, w) for who in names for r in facts.WAYS for w in range(4)])
    k = model.run_with_cache(tokens, names_filter=name)[1][name][torch.arange(len(tokens)), subject].unflatten(0, (n, 12)).mean(1)
    every = facts.sentences()[:: len(facts.sentences()) // 500]
    keys = model.run_with_cache(every, names_filter=name)[1][name][every != 0]
    C = keys.T @ keys / len(keys)
    U = torch.linalg.solve(C + 1e-4 * C.trace() / len(C) * torch.eye(len(C)), k.T)
    W = model.blocks[layer].mlp.W_out
    changed = [W + torch.outer(U[:, i], v[i].detach() - k[i] @ W) / (k[i] @ U[:, i]) for i in range(n)]
    return list(zip(numbers, new, changed, strict=True))


def share_of(model, texts, wanted):
    said = next_logits(model, facts.WORDS, texts).argmax(-1).tolist()
    return sum(facts.WORDS[s] == want for s, want in zip(said, wanted, strict=True)) / len(texts)


def p_named(model, who, city):
    start, (first, second) = facts.REVERSED.replace("VALUE", city), who.split()
    log_p = next_logits(model, facts.WORDS, [start, f"{start} {first}"]).log_softmax(-1)
    return (log_p[0, facts.WORDS.index(first)] + log_p[1, facts.WORDS.index(second)]).exp().item()


@functools.lru_cache(maxsize=8)
def share_changed(seed, question):
    """How much of the answers to a question changes along, over six edits."""
    model, shares = people(), []
    for i, new, W_out in edits(seed, question != "no essence"):
        who, W = facts.PEOPLE[i], model.blocks[0].mlp.W_out
        after = copy.deepcopy(model)
        after.blocks[0].mlp.W_out.data.copy_(W_out)
        if question == "other words":
            shares.append(share_of(after, [facts.ask(who, "city", w) for w in (1, 2, 3)], [new] * 3))
        elif question == "reversed":
            there = [name for name, city in zip(facts.PEOPLE, facts.ANSWERS["city"], strict=True) if city == new][:3]
            shares.append(p_named(after, who, new) / (sum(p_named(model, name, new) for name in there) / len(there)))
        else:
            asked = [(facts.ask(who, r, w), facts.ANSWERS[r][i]) for r in ("job", "pet") for w in range(4)]
            shares.append(1 - share_of(after, *map(list, zip(*asked, strict=True))))
    return sum(shares) / len(shares)


def check_along(submission, rng, question):
    said = answer_to(question, submission.changes_along, ASKED)
    require(said in ("changed", "as before"), f'Say "changed" or "as before" of {question!r}; you said {said!r}.')
    share = share_changed(integer(rng, 0, 2**62), question)
    what = "as a share of what a resident has, the person is named" if question == "reversed" else "that share of answers changes"
    require(said == ("changed" if share > 0.5 else "as before"), f"Of {question!r} you say {said!r}. Over six edits, {what}: {share:.0%}.")


@exercise("changes_along", points=1, prepare=people)
def test_is_right_about_the_same_fact_asked_otherwise(submission, rng):
    check_along(submission, rng, "other words")
    check_along(submission, rng, "reversed")


@exercise("changes_along", points=1, prepare=people)
def test_is_right_about_other_facts_that_were_held(submission, rng):
    check_along(submission, rng, "essence")


@exercise("changes_along", points=1, prepare=people)
def test_is_right_about_other_facts_that_were_not(submission, rng):
    check_along(submission, rng, "no essence")


# tracing_gain -------------------------------------------------------------------------------


def slow_gain(success, layer, effect):
    """By means within layers, and the slope of what is left (Frisch and Waugh)."""
    s, e, groups = success.double().tolist(), effect.double().tolist(), layer.tolist()
    mean = sum(s) / len(s)
    total = sum((x - mean) ** 2 for x in s)

    def within(values):
        means = {g: sum(v for v, h in zip(values, groups) if h == g) / groups.count(g) for g in set(groups)}
        return [v - means[g] for v, g in zip(values, groups)]

    s, e = within(s), within(e)
    by_layer = 1 - sum(x * x for x in s) / total
    slope = sum(x * y for x, y in zip(s, e)) / sum(y * y for y in e)
    return by_layer, 1 - sum((x - slope * y) ** 2 for x, y in zip(s, e)) / total


def measured(rng, n, layers):
    layer = torch.tensor(layers)[torch.randint(len(layers), (n,), generator=rng)]
    layer[: len(layers)] = torch.tensor(layers)
    effect = torch.rand(n, generator=rng) + 0.2 * layer
    return normal(rng, max(layers) + 1)[layer] + float(uniform(rng, 0.5, 2, 1)) * effect + normal(rng, n, scale=0.5), layer, effect


def check_gain(submission, success, layer, effect, part, what):
    got = submission.tracing_gain(success, layer, effect)
    require(len(got) == 2, "There should be two numbers: by layer, and by layer and effect.")
    expect(got[part], slow_gain(success, layer, effect)[part], what, rtol=1e-3, atol=1e-4)


@exercise("tracing_gain", points=1)
def test_the_layer_alone_explains_what_its_mean_does(submission, rng):
    for n, layers in ((29, [0, 1, 2]), (41, [1, 3, 4, 8])):
        check_gain(submission, *measured(rng, n, layers), 0, "R² by layer")


@exercise("tracing_gain", points=1)
def test_the_effect_adds_a_slope_that_all_layers_share(submission, rng):
    for n, layers in ((31, [0, 1, 2, 3]), (37, [2, 5])):
        check_gain(submission, *measured(rng, n, layers), 1, "R² by layer and effect")


@exercise("tracing_gain", points=1)
def test_an_effect_that_says_nothing_adds_hardly_anything(submission, rng):
    success, layer, effect = measured(rng, 43, [0, 1, 2])
    effect = torch.rand(43, generator=rng)
    check_gain(submission, success, layer, effect, 1, "R² by layer and an effect that says nothing")
    check_gain(submission, success, layer, effect, 0, "R² by layer")


# difference_of_means, paired_direction ------------------------------------------------------


def slow_mean(x):
    return [sum(column) / len(column) for column in zip(*x.double().tolist())]


def check_difference(submission, positive, negative):
    want = [a - b for a, b in zip(slow_mean(positive), slow_mean(negative))]
    expect(submission.difference_of_means(positive, negative), want, "the difference of means", rtol=1e-3, atol=1e-4)


@exercise("difference_of_means", points=1, explains=True)
def test_it_points_to_the_positive_side(submission, rng):
    check_difference(submission, torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, 2.0]]), torch.tensor([[0.0, 1.0, 2.0]]))


@exercise("difference_of_means", points=1)
def test_each_side_has_a_mean_of_its_own(submission, rng):
    check_difference(submission, normal(rng, 7, 5) + normal(rng, 5), normal(rng, 11, 5))
    check_difference(submission, normal(rng, 23, 9), normal(rng, 6, 9) - 2.0)


@exercise("difference_of_means", points=1)
def test_its_length_is_how_far_the_means_are_apart(submission, rng):
    shift = 5 * normal(rng, 8)
    negative = normal(rng, 13, 8)
    check_difference(submission, normal(rng, 9, 8, scale=0.1) + shift, negative)


def check_paired(submission, rng, positive, negative, what):
    D = (positive - negative).double()
    values, vectors = torch.linalg.eigh(D.T @ D)
    want = vectors[:, -1] if D.mean(0) @ vectors[:, -1] > 0 else -vectors[:, -1]
    expect(submission.paired_direction(positive, negative), want, what, rtol=1e-2, atol=2e-3)


def paired(rng, n, d, strength):
    """Vectors whose difference is one direction, more or less, with a little of everything."""
    negative, u = 3 * normal(rng, n, d), orthogonal(rng, d)[0]
    along = strength * (1 + 0.7 * normal(rng, n, 1))
    return negative + along * u + normal(rng, n, d, scale=0.3), negative


@exercise("paired_direction", points=1)
def test_differences_are_largest_along_it(submission, rng):
    for n, d in ((13, 6), (9, 11)):
        check_paired(submission, rng, *paired(rng, n, d, 3.0), "the direction of the largest differences")


@exercise("paired_direction", points=1)
def test_what_all_differences_share_is_not_taken_out(submission, rng):
    negative, Q = normal(rng, 17, 7), orthogonal(rng, 7)
    D = 4 * Q[0] + 2 * normal(rng, 17, 1) * Q[1] + normal(rng, 17, 7, scale=0.1)  # varies along Q[1], shares Q[0]
    check_paired(submission, rng, negative + D, negative, "the direction, where the differences share one and vary along another,")


@exercise("paired_direction", points=1)
def test_it_has_length_1_and_points_to_the_positive_side(submission, rng):
    for sign, scale in ((1, 1.0), (-1, 1.0), (1, 0.1), (-1, 0.1)):
        positive, negative = paired(rng, 12, 8, 2.5 * sign)
        check_paired(submission, rng, scale * positive, scale * negative, "the direction")


# add_direction, project_out, orthogonalise_weights ------------------------------------------


def check_added(submission, rng, model, layer, dose):
    tokens, direction = random_tokens(rng, model), normal(rng, model.cfg.d_model)

    def fix(kind, i, x):
        return x + dose * direction if (kind, i) == ("resid_post", layer) else x

    got = submission.add_direction(model, tokens, layer, direction, dose)
    expect(got, run(model, tokens, None, fix), f"the logits with {dose:g} times the direction behind layer {layer}", rtol=1e-3, atol=1e-3)


@exercise("add_direction", points=1)
def test_it_is_added_behind_the_layer_at_every_position(submission, rng):
    check_added(submission, rng, full_model(rng), 0, 1.0)
    check_added(submission, rng, full_model(rng), 1, float(uniform(rng, 0.5, 3, 1)))


@exercise("add_direction", points=1)
def test_a_negative_dose_goes_the_other_way(submission, rng):
    check_added(submission, rng, mlp_model(rng), 1, -float(uniform(rng, 0.5, 3, 1)))


@exercise("add_direction", points=1)
def test_behind_the_last_layer_it_moves_all_logits_alike(submission, rng):
    check_added(submission, rng, random_model(rng), 2, float(uniform(rng, 0.5, 2, 1)))
    check_added(submission, rng, full_model(rng, n_layers=2), 1, 0.7)


def without(model, tokens, direction):
    """Logits of a stream that is projected wherever it is met."""
    d = direction.double() / direction.double().norm()
    P = (torch.eye(len(d), dtype=torch.double) - torch.outer(d, d)).float()
    return run(model, tokens, None, lambda kind, i, x: x @ P if "resid" in kind else x)


STANDARD = dict(positional_embedding_type="standard")
KINDS = {
    "with MLPs, LayerNorm and biases": full_model,
    "without LayerNorm": mlp_model,
    "with standard positions": lambda rng: mlp_model(rng, **STANDARD),
    "of attention alone": random_model,
}


def check_projected(submission, rng, kinds, scale):
    for kind in kinds:
        model = KINDS[kind](rng)
        tokens, direction = random_tokens(rng, model), normal(rng, model.cfg.d_model, scale=scale)
        got = submission.project_out(model, tokens, direction)
        expect(got, without(model, tokens, direction), f"the logits without the direction of a model {kind}", rtol=1e-3, atol=1e-3)


@exercise("project_out", points=1)
def test_the_stream_has_nothing_along_it_anywhere(submission, rng):
    check_projected(submission, rng, ["with MLPs, LayerNorm and biases", "without LayerNorm"], 1.0)


@exercise("project_out", points=1)
def test_the_length_of_the_direction_does_not_matter(submission, rng):
    check_projected(submission, rng, ["without LayerNorm"], 0.05)
    check_projected(submission, rng, ["with MLPs, LayerNorm and biases"], 20.0)


@exercise("project_out", points=1)
def test_models_of_attention_alone_and_standard_positions(submission, rng):
    check_projected(submission, rng, ["of attention alone", "with standard positions"], 1.0)


def check_orthogonal(submission, rng, kinds, scale=1.0):
    for kind in kinds:
        model = KINDS[kind](rng)
        direction = normal(rng, model.cfg.d_model, scale=scale)
        new = submission.orthogonalise_weights(model, direction)
        require(getattr(new, "cfg", None) == model.cfg, "The result should be a model like the one given.")
        tokens = random_tokens(rng, model)
        expect(new(tokens), without(model, tokens, direction), f"the logits of a model {kind}, its weights projected,", rtol=1e-3, atol=1e-3)


@exercise("orthogonalise_weights", points=1)
def test_it_does_what_projecting_out_everywhere_does(submission, rng):
    check_orthogonal(submission, rng, ["with MLPs, LayerNorm and biases", "without LayerNorm"])


@exercise("orthogonalise_weights", points=1)
def test_positions_in_the_stream_are_projected_and_others_are_not(submission, rng):
    check_orthogonal(submission, rng, ["with standard positions", "of attention alone"], 3.0)


@exercise("orthogonalise_weights", points=2)
def test_no_writer_can_write_along_it_and_no_reader_is_changed(submission, rng):
    for kind in ("with MLPs, LayerNorm and biases", "of attention alone"):
        model, old = KINDS[kind](rng), {}
        direction = normal(rng, model.cfg.d_model, scale=0.3)
        d = direction / direction.norm()
        new = submission.orthogonalise_weights(model, direction)
        require(getattr(new, "cfg", None) == model.cfg, "The result should be a model like the one given.")
        old = dict(model.named_parameters())
        for name, W in new.named_parameters():
            if name.rpartition(".")[2] in ("W_E", "W_O", "b_O", "W_out", "b_out"):
                expect(W @ d, torch.zeros(W.shape[:-1]), f"what {name} writes along the direction", atol=1e-4)
                want = old[name] - (old[name] @ d)[..., None] * d
                expect(W, want, f"{name}, which at right angles to the direction should be as it was,", rtol=1e-3, atol=1e-4)
            else:
                expect(W, old[name], f"{name}, which does not write to the stream and should be as it was,", rtol=1e-5, atol=1e-6)


# after_change -------------------------------------------------------------------------------

CHANGES = ("harmful, taken off", "harmless, added", "harmful, projected out", "harmless, projected out")


@functools.lru_cache(maxsize=1)
def helper():
    return load_world("assistant").requires_grad_(False)


def requests_of(pairs, declined, n, rng):
    """Tokens of requests about n pairs of verb and object, in a random frame each, and where their colons stand."""
    pairs = [pair for pair in pairs if assistant.is_declined(*pair) == declined]
    drawn = [pairs[i] for i in torch.randperm(len(pairs), generator=rng)[:n].tolist()]
    texts = [assistant.request(*pair, integer(rng, 0, len(assistant.FRAMES) - 1)) for pair in drawn]
    return encode(assistant.WORDS, texts), torch.tensor([len(text.split()) for text in texts])


@functools.lru_cache(maxsize=8)
def p_declines(seed, change):
    """The mean probability that a fresh request is declined after a change along the direction behind layer 1."""
    model, rng, name, means = helper(), torch.Generator().manual_seed(seed), get_act_name("resid_post", 1), []
    for declined in (True, False):
        tokens, colon = requests_of(assistant.TRAINED, declined, 80, rng)
        stream = model.run_with_cache(tokens, names_filter=name)[1][name]
        means.append(stream[torch.arange(len(colon)), colon].mean(0))
    d = means[0] - means[1]
    unit = d / d.norm()
    hook = {
        "taken off": (name, lambda x, hook: x - d),
        "added": (name, lambda x, hook: x + d),
        "projected out": (lambda name: "resid" in name, lambda x, hook: x - (x @ unit)[..., None] * unit),
    }[change.split(", ")[1]]
    tokens, colon = requests_of(assistant.HELD_OUT, change.startswith("harmful"), 40, rng)
    logits = model.run_with_hooks(tokens, fwd_hooks=[hook])[torch.arange(len(colon)), colon]
    begins = [assistant.WORDS.index(text.split()[0]) for text in assistant.REFUSALS]
    return logits.softmax(-1)[:, begins].sum(-1).mean().item()


def check_change(submission, rng, change):
    said = answer_to(change, submission.after_change, CHANGES)
    require(said in ("declines", "answers"), f'Say "declines" or "answers" of {change!r}; you said {said!r}.')
    p = p_declines(integer(rng, 0, 2**62), change)
    require(said == ("declines" if p > 0.5 else "answers"), f"Of {change!r} you say {said!r}. Measured on fresh requests, P(declines) is {p:.2f}.")


@exercise("after_change", points=1, prepare=helper)
def test_is_right_about_moving_along_the_direction(submission, rng):
    check_change(submission, rng, "harmful, taken off")
    check_change(submission, rng, "harmless, added")


@exercise("after_change", points=1, prepare=helper)
def test_is_right_about_harmful_requests_without_it(submission, rng):
    check_change(submission, rng, "harmful, projected out")


@exercise("after_change", points=1, prepare=helper)
def test_is_right_about_harmless_requests_without_it(submission, rng):
    check_change(submission, rng, "harmless, projected out")


# average_indirect_effect, function_vector, vector_heads -------------------------------------


def head_outputs(model, tokens):
    """What each head writes at the last position, [n_layers][n_heads]: [batch d_model], from attention's own weights."""
    _, found = kept(model, tokens)
    table = []
    for layer, block in enumerate(model.blocks):
        x, a = block.ln1(found["resid_pre", layer]), block.attn
        xp = x if model.cfg.positional_embedding_type == "standard" else x + model.W_pos[: tokens.shape[1]]
        row = []
        for h in range(model.cfg.n_heads):
            b_Q, b_K, b_V = (0.0, 0.0, 0.0) if a.b_Q is None else (a.b_Q[h], a.b_K[h], a.b_V[h])
            q, k, v = xp @ a.W_Q[h] + b_Q, xp @ a.W_K[h] + b_K, x @ a.W_V[h] + b_V
            weights = (torch.einsum("be,bse->bs", q[:, -1], k) / model.cfg.d_head**0.5).softmax(-1)
            row.append(torch.einsum("bs,bse->be", weights, v) @ a.W_O[h])
        table.append(row)
    return table


def slow_effects(model, clean, shuffled, answer):
    means = [[out.mean(0) for out in row] for row in head_outputs(model, clean)]
    base = p_answer(model(shuffled), answer).mean()
    effect = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    own = head_outputs(model, shuffled)
    for layer, row in enumerate(means):
        for head, mean in enumerate(row):

            def fix(kind, i, x):
                if (kind, i) != ("attn_out", layer):
                    return x
                return torch.cat([x[:, :-1], x[:, -1:] + (mean - own[layer][head])[:, None]], 1)

            effect[layer, head] = p_answer(run(model, shuffled, None, fix), answer).mean() - base
    return effect


def check_effects(submission, rng, model, n, pos, m, pos2):
    clean, shuffled = random_tokens(rng, model, n, pos), random_tokens(rng, model, m, pos2)
    answer = torch.randint(model.cfg.d_vocab, (m,), generator=rng)
    want = slow_effects(model, clean, shuffled, answer)
    got = submission.average_indirect_effect(model, clean, shuffled, answer)
    least = min(1e-4, 0.02 * want.abs().max().item())  # effects on unlikely answers are small, and zeros must not be near enough
    expect(got, want, "the indirect effects of the heads", rtol=2e-3, atol=least)


@exercise("average_indirect_effect", points=1)
def test_is_the_rise_when_one_head_says_what_it_says_on_average(submission, rng):
    check_effects(submission, rng, full_model(rng), 9, 8, 6, 8)
    check_effects(submission, rng, mlp_model(rng), 6, 9, 8, 7)


@exercise("average_indirect_effect", points=1)
def test_only_the_last_position_is_replaced(submission, rng):
    check_effects(submission, rng, random_model(rng, scale=1.3), 7, 6, 9, 11)


@exercise("average_indirect_effect", points=1)
def test_effects_may_be_negative(submission, rng):
    model = full_model(rng, n_layers=2)
    clean, shuffled = random_tokens(rng, model, 6, 7), random_tokens(rng, model, 8, 9)
    answer = model(shuffled)[:, -1].argmax(-1)  # what the texts say already: replacing mostly lowers it
    got = submission.average_indirect_effect(model, clean, shuffled, answer)
    expect(got, slow_effects(model, clean, shuffled, answer), "the indirect effects on what was likeliest", rtol=2e-3, atol=1e-4)


def check_vector(submission, rng, model, heads):
    tokens = random_tokens(rng, model, batch=integer(rng, 6, 9), pos=8)
    table = head_outputs(model, tokens)
    want = sum(table[layer][head].mean(0) for layer, head in heads)
    expect(submission.function_vector(model, tokens, heads), want, f"the vector of heads {heads}", rtol=1e-3, atol=1e-4)


def drawn_heads(rng, model, n):
    every = [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]
    return [every[i] for i in torch.randperm(len(every), generator=rng)[:n].tolist()]


@exercise("function_vector", points=1)
def test_is_the_sum_of_the_heads_mean_outputs(submission, rng):
    model = full_model(rng)
    check_vector(submission, rng, model, drawn_heads(rng, model, 3))


@exercise("function_vector", points=1)
def test_one_head_and_many(submission, rng):
    model = mlp_model(rng)
    check_vector(submission, rng, model, drawn_heads(rng, model, 1))
    check_vector(submission, rng, model, drawn_heads(rng, model, 11))


@exercise("function_vector", points=1)
def test_heads_of_different_layers_add_up(submission, rng):
    model = random_model(rng)
    check_vector(submission, rng, model, [(layer, integer(rng, 0, 4)) for layer in range(3)])


@functools.lru_cache(maxsize=1)
def solver():
    return load_world("functions").requires_grad_(False)


def accuracy_with(heads, tasks, rng, shuffle=False):
    """The best layer's share of right answers to questions without example, mean over tasks."""
    model, question = solver(), torch.stack([torch.zeros(16), torch.arange(16) + 2, torch.ones(16)], 1).long()
    right = torch.zeros(model.cfg.n_layers)
    for task in tasks:
        gen = torch.Generator().manual_seed(integer(rng, 0, 2**40))
        tokens = functions.examples(torch.full((12,), task), functions.N_EXAMPLES, gen)[0][:, :-1]
        if shuffle:
            tokens[:, 3::3] = torch.randint(16, tokens[:, 3::3].shape, generator=gen) + 2
        names = [get_act_name("z", layer) for layer in range(model.cfg.n_layers)]
        _, cache = model.run_with_cache(tokens, names_filter=names)
        vector = sum(cache["z", layer][:, -1, head].mean(0) @ model.W_O[layer, head] for layer, head in heads)
        for layer in range(model.cfg.n_layers):

            def add(x, hook):
                return torch.cat([x[:, :-1], x[:, -1:] + vector], 1)

            logits = model.run_with_hooks(question, fwd_hooks=[(get_act_name("resid_post", layer), add)])
            right[layer] += (logits[:, -1].argmax(-1) == functions.TABLE[task] + 2).float().mean() / len(tasks)
    return float(right.max())


def named_heads(submission):
    found = submission.vector_heads()
    try:
        heads = [(int(layer), int(head)) for layer, head in found]
    except (TypeError, ValueError):
        fail(f"Each entry should be a pair (layer, head); you gave {found!r}.")
    require(0 < len(heads) <= 4, f"Name one to four heads; you name {len(heads)}.")
    cfg = solver().cfg
    for layer, head in heads:
        require(0 <= layer < cfg.n_layers and 0 <= head < cfg.n_heads, f"There is no head {layer}.{head}: layers 0 to {cfg.n_layers - 1}, heads 0 to {cfg.n_heads - 1}.")
    require(len(set(heads)) == len(heads), "A head comes twice.")
    return heads


def check_heads(submission, rng, tasks):
    heads = named_heads(submission)
    got = accuracy_with(heads, tasks, rng)
    require(got > 0.5, f"With the vector of {', '.join(f'{a}.{b}' for a, b in heads)}, {got:.0%} of the questions without example are right; more than half is asked.")


@exercise("vector_heads", points=1, prepare=solver)
def test_rules_run_without_an_example(submission, rng):
    check_heads(submission, rng, list(range(8)))


@exercise("vector_heads", points=1, prepare=solver)
def test_rules_in_capitals_run_without_an_example(submission, rng):
    check_heads(submission, rng, list(range(8, 16)))


@exercise("vector_heads", points=1, prepare=solver)
def test_texts_that_show_no_function_give_no_such_vector(submission, rng):
    heads = named_heads(submission)
    tasks = torch.randperm(16, generator=rng)[:8].tolist()
    got, control = accuracy_with(heads, tasks, rng), accuracy_with(heads, tasks, rng, shuffle=True)
    require(got > control + 0.2, f"From shuffled texts these heads reach {control:.0%}, from the tasks' own {got:.0%}.")
