"""Other right answers to chapter 3, in other styles. Each must pass."""

import copy
import math

import numpy as np
import torch
from einops import einsum, rearrange

from circuits.checking import variant
from utils.materials.handmade import empty_model, rooms, rotation
from utils.model import Config, Transformer, sinusoids


@variant("tokens_behind_score")
def as_a_set_of_positions(n_layers, dest, src):
    return {src, dest} if n_layers < 2 else set(range(dest + 1))


@variant("tokens_behind_score")
def by_passing_on_what_each_position_knows(n_layers, dest, src):
    known = [{p} for p in range(dest + 1)]
    for _ in range(n_layers - 1):
        known = [set().union(*known[: p + 1]) for p in range(dest + 1)]
    return torch.tensor(list(known[dest] | known[src]))


@variant("previous_token_head")
def turns_the_keys_forward(n_ctx, d_model):
    frequencies = 10_000 ** (-torch.arange(0, d_model, 2) / d_model)
    return 30 * torch.eye(d_model), 30 * rotation(frequencies)


@variant("previous_token_head")
def block_by_block_in_float64(n_ctx, d_model):
    W_Q = torch.zeros(d_model, d_model, dtype=torch.float64)
    for i in range(0, d_model, 2):
        angle = -(10_000 ** (-i / d_model))
        W_Q[i : i + 2, i : i + 2] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return 500 * W_Q, torch.eye(d_model, dtype=torch.float64)


@variant("previous_token_head")
def least_squares_step(n_ctx, d_model):
    w = sinusoids(n_ctx, d_model).double()
    step = torch.linalg.lstsq(w[1:], w[:-1], driver="gelsd").solution
    return 200 * step.float(), torch.eye(d_model)


@variant("two_back_virtual_head")
def keys_turned_forward_and_values_scaled(d_vocab, n_ctx):
    room = rooms(position=32, token=d_vocab, one_back=d_vocab, two_back=d_vocab)
    model = empty_model(d_vocab, room.d_model, d_head=max(32, d_vocab), n_ctx=n_ctx)
    forward = rotation(10_000 ** (-torch.arange(0, 32, 2) / room.d_model))
    model.W_E[:, room.token] = 2 * torch.eye(d_vocab)
    reads = [room.token, room.one_back, room.two_back]
    for layer, block in enumerate(model.blocks):
        block.attn.W_Q[0, room.position, :32] = 20 * torch.eye(32)
        block.attn.W_K[0, room.position, :32] = 20 * forward
        block.attn.W_V[0, reads[layer], :d_vocab] = 3 * torch.eye(d_vocab)
        block.attn.W_O[0, :d_vocab, reads[layer + 1]] = torch.eye(d_vocab)
    model.W_U[room.two_back] = torch.eye(d_vocab)
    return model


@variant("two_back_virtual_head")
def a_model_of_its_own_with_positions_in_the_stream(d_vocab, n_ctx):
    d = n_ctx + 3 * d_vocab
    cfg = Config(
        d_vocab=d_vocab, d_model=d, n_layers=2, n_heads=1, d_head=max(n_ctx, d_vocab), n_ctx=n_ctx,
        positional_embedding_type="standard",
    )
    model = Transformer(cfg)
    place, token, one, two = torch.eye(d).split([n_ctx, d_vocab, d_vocab, d_vocab])  # each [size d_model]
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.W_pos.copy_(place)
        model.W_E.copy_(token)
        back = torch.diag(torch.ones(n_ctx - 1), -1)
        for block, source, goal in zip(model.blocks, (token, one), (one, two), strict=True):
            block.attn.W_Q[0, :, :n_ctx] = 1000 * place.T @ back
            block.attn.W_K[0, :, :n_ctx] = place.T
            block.attn.W_V[0, :, :d_vocab] = source.T
            block.attn.W_O[0, :d_vocab] = goal
        model.W_U.copy_(two.T)
    return model


@variant("induction_circuit")
def smaller_steps_of_everything(d_vocab, n_ctx):
    room = rooms(position=32, token=d_vocab, previous=d_vocab, answer=d_vocab)
    model = empty_model(d_vocab, room.d_model, d_head=max(32, d_vocab), n_ctx=n_ctx)
    each = torch.eye(d_vocab)
    first, second = (block.attn for block in model.blocks)
    model.W_E[:, room.token] = 60 * each
    first.W_Q[0, room.position, :32] = 200 * rotation(-(10_000 ** (-torch.arange(0, 32, 2) / room.d_model)))
    first.W_K[0, room.position, :32] = torch.eye(32)
    first.W_V[0, room.token, :d_vocab] = each
    first.W_O[0, :d_vocab, room.previous] = 2 * each
    second.W_Q[0, room.token, :d_vocab] = 3 * each
    second.W_K[0, room.previous, :d_vocab] = each
    second.W_V[0, room.token, :d_vocab] = each
    second.W_O[0, :d_vocab, room.answer] = each
    model.W_U[room.answer] = each
    return model


@variant("induction_circuit")
def in_a_rotated_stream(d_vocab, n_ctx):
    """Tokens as random orthogonal directions, outside the positions' dimensions, instead of rooms."""
    d = 32 + 3 * d_vocab
    model = empty_model(d_vocab, d, d_head=max(32, d_vocab), n_ctx=n_ctx)
    turned = torch.linalg.qr(torch.randn(3 * d_vocab, 3 * d_vocab, generator=torch.Generator().manual_seed(0)))[0]
    token, previous, answer = torch.cat([torch.zeros(3 * d_vocab, 32), turned], dim=1).split(d_vocab)
    back = rotation(-(10_000 ** (-torch.arange(0, 32, 2) / d)))
    first, second = (block.attn for block in model.blocks)
    model.W_E.copy_(100 * token)
    first.W_Q[0, :32, :32] = 100 * back
    first.W_K[0, :32, :32] = torch.eye(32)
    for attn, source, goal in ((first, token, previous), (second, token, answer)):
        attn.W_V[0, :, :d_vocab] = source.T
        attn.W_O[0, :d_vocab] = goal
    second.W_Q[0, :, :d_vocab] = token.T
    second.W_K[0, :, :d_vocab] = previous.T
    model.W_U.copy_(answer.T)
    return model


@variant("pointer_induction")
def steps_in_the_key(d_vocab, n_ctx):
    room = rooms(position=n_ctx, token=d_vocab, found=n_ctx, answer=d_vocab)
    model = empty_model(d_vocab, room.d_model, d_head=d_vocab + n_ctx, n_ctx=n_ctx, positions="standard")
    model.W_pos[:, room.position] = torch.eye(n_ctx)
    model.W_E[:, room.token] = torch.eye(d_vocab)
    first, second = (block.attn for block in model.blocks)
    first.W_Q[0, room.token, :d_vocab] = 500 * torch.eye(d_vocab)
    first.W_K[0, room.token, :d_vocab] = torch.eye(d_vocab)
    first.W_Q[0, room.position, d_vocab:] = 800 * torch.eye(n_ctx)
    first.W_K[0, room.position, d_vocab:] = -torch.eye(n_ctx)
    first.W_V[0, room.position, :n_ctx] = torch.eye(n_ctx)
    first.W_O[0, :n_ctx, room.found] = torch.eye(n_ctx)
    for p in range(1, n_ctx):  # position p answers to the pointer p - 1
        second.W_K[0, p, p - 1] = 1
    second.W_Q[0, room.found, :n_ctx] = 500 * torch.eye(n_ctx)
    second.W_V[0, room.token, :d_vocab] = torch.eye(d_vocab)
    second.W_O[0, :d_vocab, room.answer] = torch.eye(d_vocab)
    model.W_U[room.answer] = torch.eye(d_vocab)
    return model


@variant("pointer_induction")
def steps_in_what_is_written(d_vocab, n_ctx):
    room = rooms(position=n_ctx, token=d_vocab, found=n_ctx, answer=d_vocab)
    model = empty_model(d_vocab, room.d_model, d_head=d_vocab + n_ctx, n_ctx=n_ctx, positions="standard")
    each_token, each_position = torch.eye(d_vocab), torch.eye(n_ctx)
    model.W_pos[:, room.position], model.W_E[:, room.token] = each_position, each_token
    first, second = (block.attn for block in model.blocks)
    both = torch.eye(n_ctx + d_vocab)  # position and token are neighbours
    stream = slice(0, n_ctx + d_vocab)
    first.W_K[0, stream] = both
    first.W_Q[0, stream] = 2000 * torch.block_diag(-2 * each_position, each_token)
    first.W_V[0, room.position, :n_ctx] = each_position
    first.W_O[0, :n_ctx, room.found] = each_position.roll(1, dims=1)
    second.W_Q[0, room.found, :n_ctx] = 2000 * each_position
    second.W_K[0, room.position, :n_ctx] = each_position
    second.W_V[0, room.token, :d_vocab] = each_token
    second.W_O[0, :d_vocab, room.answer] = each_token
    model.W_U[room.answer] = each_token
    return model


@variant("repeated_tokens")
def one_token_at_a_time(d_vocab, batch, length, generator):
    rows = []
    for _ in range(batch):
        row = [int(torch.randint(d_vocab, (1,), generator=generator)) for _ in range(length)]
        rows.append(row + row)
    return torch.tensor(rows)


@variant("repeated_tokens")
def by_repeat_of_small_integers(d_vocab, batch, length, generator):
    return torch.randint(0, d_vocab, (batch, length), generator=generator, dtype=torch.int32).repeat(1, 2)


@variant("per_token_loss")
def by_cross_entropy(model, tokens):
    logits = rearrange(model(tokens)[:, :-1], "batch pos vocab -> batch vocab pos")
    return torch.nn.functional.cross_entropy(logits, tokens[:, 1:], reduction="none")


@variant("per_token_loss")
def by_logsumexp_in_float64(model, tokens):
    logits = model(tokens).double()
    right = torch.stack([logits[b, torch.arange(tokens.shape[1] - 1), row[1:]] for b, row in enumerate(tokens)])
    return logits[:, :-1].logsumexp(-1) - right


@variant("in_context_learning_score")
def position_by_position(losses, early, late):
    def mean(stretch):
        values = [losses[b, i].item() for b in range(len(losses)) for i in range(*stretch)]
        return sum(values) / len(values)

    return mean(late) - mean(early)


@variant("in_context_learning_score")
def by_position_first(losses, early, late):
    by_position = losses.double().mean(0).numpy()
    return np.mean(by_position[slice(*late)]) - np.mean(by_position[slice(*early)])


@variant("previous_token_score")
def with_two_index_lists(pattern):
    d = torch.arange(1, pattern.shape[-1])
    return pattern[:, :, d, d - 1].mean((0, 2))


@variant("previous_token_score")
def in_a_loop_over_heads(pattern):
    pos = pattern.shape[-1]
    scores = torch.zeros(pattern.shape[1])
    for h in range(pattern.shape[1]):
        scores[h] = sum(pattern[:, h, d, d - 1].mean() for d in range(1, pos)) / (pos - 1)
    return scores


@variant("duplicate_token_score")
def duplicates_with_a_mask(pattern, length):
    mask = torch.ones(length).diag(-length)
    return (pattern * mask).sum((-1, -2)).mean(0) / length


@variant("duplicate_token_score")
def duplicates_in_a_quarter(pattern, length):
    return einsum(pattern[:, :, length:, :length].double(), "b h i i -> h") / (len(pattern) * length)


@variant("induction_score")
def induction_with_two_index_lists(pattern, length):
    d = torch.arange(length, 2 * length)
    return pattern[..., d, d - length + 1].mean((0, -1))


@variant("induction_score")
def second_copy_first(pattern, length):
    return pattern[:, :, length:].double().diagonal(1, dim1=-2, dim2=-1)[..., :length].mean(0).mean(-1)


@variant("find_heads")
def head_by_head(model, tokens, kind):
    length = tokens.shape[1] // 2
    _, cache = model.run_with_cache(tokens)
    found = []
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            pattern = cache["pattern", layer][:, head].mean(0)
            if kind == "previous":
                weights = [pattern[d, d - 1] for d in range(1, 2 * length)]
            else:
                on = 0 if kind == "duplicate" else 1
                weights = [pattern[d, d - length + on] for d in range(length, 2 * length)]
            if sum(weights) / len(weights) > 0.4:
                found.append([layer, head])
    return found


@variant("find_heads")
def as_a_tensor_of_pairs(model, tokens, kind):
    length = tokens.shape[1] // 2
    d = torch.arange(1 if kind == "previous" else length, 2 * length)
    back = {"previous": 1, "duplicate": length, "induction": length - 1}[kind]
    _, cache = model.run_with_cache(tokens)
    scores = torch.stack([cache["pattern", i][:, :, d, d - back].mean((0, 2)) for i in range(model.cfg.n_layers)])
    return torch.nonzero(scores > 0.4)


@variant("one_layer_shows")
def by_what_it_takes(claim):
    layers_needed = {"previous": 1, "copying": 1, "induction": 2, "second copy": 2}
    return layers_needed[claim] <= 1


@variant("one_layer_shows")
def as_a_number(claim):
    return int(claim == "previous" or claim.startswith("cop"))


@variant("one_layer_shows")
def as_a_truth_value_of_torch(claim):
    return torch.tensor(claim in ("previous", "copying"))


@variant("phase_change_step")
def by_convolution(curve):
    steps, values = np.array(curve, dtype=float).T
    k = max(2, len(values) // 20)
    kernel = np.concatenate([-np.ones(k), np.ones(k)])  # the later half is subtracted
    falls = np.convolve(values, kernel, mode="valid")
    return int(steps[k + falls.argmax()])


@variant("phase_change_step")
def by_fitting_lines(curve):
    k = max(2, len(curve) // 20)
    steps, values = np.array(curve, dtype=float).T
    slopes = [np.polyfit(steps[i : i + 2 * k], values[i : i + 2 * k], 1)[0] for i in range(len(values) - 2 * k + 1)]
    return float(steps[int(np.argmin(slopes)) + k])


@variant("composition_score")
def by_singular_values(W_A, W_B):
    A, B, AB = (torch.linalg.svdvals(M.double()).square().sum() for M in (W_A, W_B, W_A @ W_B))
    return float((AB / (A * B)).sqrt())


@variant("composition_score")
def by_traces(W_A, W_B):
    def size(M):
        return torch.trace(M.T @ M) ** 0.5

    return size(W_A @ W_B) / size(W_A) / size(W_B)


@variant("composition_scores")
def pair_by_pair(model, kind):
    n = model.cfg.n_heads
    scores = torch.zeros(n, n)
    for i in range(n):
        for j in range(n):
            A1, A2 = model.W_V[0, i], model.W_O[0, i]
            B1, B2 = {
                "Q": (model.W_Q[1, j], model.W_K[1, j].T),
                "K": (model.W_K[1, j], model.W_Q[1, j].T),
                "V": (model.W_V[1, j], model.W_O[1, j]),
            }[kind]
            M, G, H = A2 @ B1, A1.T @ A1, B2 @ B2.T
            above = ((G @ M) * (M @ H)).sum()
            below = (G * (A2 @ A2.T)).sum() * ((B1.T @ B1) * H).sum()
            scores[i, j] = (above / below).sqrt()
    return scores - model.cfg.d_model**-0.5


@variant("composition_scores")
def through_triangles(model, kind):
    """With A = Q R, the norm of A M is that of R M: an orthogonal Q changes no norm."""
    first = {"Q": model.W_Q, "K": model.W_K, "V": model.W_V}[kind][1]
    last = {"Q": model.W_K.mT, "K": model.W_Q.mT, "V": model.W_O}[kind][1]
    left = torch.linalg.qr(model.W_V[0])[1] @ model.W_O[0]  # [n_heads r d_model]
    right = first @ torch.linalg.qr(last.mT)[1].mT  # [n_heads d_model r]
    products = einsum(left, right, "i r d, j d s -> i j r s")
    sizes = left.flatten(1).norm(dim=1)[:, None] * right.flatten(1).norm(dim=1)
    return products.flatten(2).norm(dim=2) / sizes - 1 / math.sqrt(model.cfg.d_model)


@variant("composed_qk")
def by_one_einsum(model, prev_head, ind_head):
    OV = model.W_V[0, prev_head].double() @ model.W_O[0, prev_head].double()
    QK = model.W_Q[1, ind_head].double() @ model.W_K[1, ind_head].double().T
    return einsum(model.W_E.double(), QK, OV, model.W_E.double(), "a m, m n, k n, b k -> a b")


@variant("composed_qk")
def row_by_row_of_queries(model, prev_head, ind_head):
    written = model.W_E @ model.W_V[0, prev_head] @ model.W_O[0, prev_head]
    QK = model.W_Q[1, ind_head] @ model.W_K[1, ind_head].T
    return torch.stack([written @ (x @ QK) for x in model.W_E])


@variant("circuit_eigenvalues")
def of_the_transposed_product(left, right):
    return torch.linalg.eigvals(left.double().T @ right.double().T)


@variant("circuit_eigenvalues")
def with_numpy_largest_first(left, right):
    values = np.linalg.eig(right.numpy() @ left.numpy())[0].astype(np.complex128)
    return values[np.argsort(-np.abs(values))]


@variant("find_pair_by_weights")
def by_the_factors(model):
    A1, A2, B1, B2 = model.W_V[0], model.W_O[0], model.W_K[1], model.W_Q[1].mT
    left, right = torch.linalg.qr(A1)[1] @ A2, B1 @ torch.linalg.qr(B2.mT)[1].mT
    best, pair = -1.0, (0, 0)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            score = float((a @ b).norm() / a.norm() / b.norm())
            if score > best:
                best, pair = score, (i, j)
    return pair


@variant("find_pair_by_weights")
def with_full_matrices_as_a_list(model):
    n = model.cfg.n_heads
    scores = torch.zeros(n, n)
    for i in range(n):
        A = model.W_V[0, i] @ model.W_O[0, i]
        for j in range(n):
            B = model.W_Q[1, j] @ model.W_K[1, j].T
            scores[i, j] = (B @ A.T).norm() / (A.norm() * B.norm())
    return (scores == scores.max()).nonzero()[0].tolist()


@variant("virtual_head_ov")
def by_einsum_over_both(model, head0, head1):
    W_V, W_O = model.W_V.double(), model.W_O.double()
    return einsum(W_V[0, head0], W_O[0, head0], W_V[1, head1], W_O[1, head1], "a r, r m, m s, s b -> a b")


@variant("virtual_head_ov")
def middle_first(model, head0, head1):
    middle = model.W_O[0, head0] @ model.W_V[1, head1]
    return model.W_V[0, head0] @ (middle @ model.W_O[1, head1])


@variant("path_expansion_2l")
def all_at_once(model, tokens):
    _, cache = model.run_with_cache(tokens)
    A0, A1 = cache["pattern", 0], cache["pattern", 1]
    OV = model.W_V @ model.W_O  # [layer head d_model d_model]
    x = model.W_E[tokens]
    first = einsum(A0, x, OV[0], "b h d s, b s m, h m n -> h b d n")
    second = einsum(A1, x, OV[1], "b h d s, b s m, h m n -> h b d n")
    pairs = einsum(A1, first, OV[1], "b j d s, i b s m, j m n -> i j b d n")
    return x @ model.W_U, torch.stack([first, second]) @ model.W_U, pairs @ model.W_U


@variant("path_expansion_2l")
def by_virtual_patterns_and_circuits(model, tokens):
    _, cache = model.run_with_cache(tokens)
    n, x = model.cfg.n_heads, model.W_E[tokens].double()
    W_V, W_O, W_U = model.W_V.double(), model.W_O.double(), model.W_U.double()
    A = [cache["pattern", layer].double() for layer in range(2)]
    singles = [[A[layer][:, h] @ x @ W_V[layer, h] @ W_O[layer, h] @ W_U for h in range(n)] for layer in range(2)]
    pairs = []
    for i in range(n):
        row = []
        for j in range(n):
            circuit = W_V[0, i] @ W_O[0, i] @ W_V[1, j] @ W_O[1, j]
            row.append((A[1][:, j] @ A[0][:, i]) @ x @ circuit @ W_U)
        pairs.append(torch.stack(row))
    return x @ W_U, torch.stack([torch.stack(row) for row in singles]), torch.stack(pairs)


@variant("term_importance")
def by_algebra(model, tokens):
    _, cache = model.run_with_cache(tokens)

    def layer(x, i):
        return einsum(cache["pattern", i], x, model.W_V[i] @ model.W_O[i], "b h d s, b s m, h m n -> b d n")

    def loss(x):
        return torch.nn.functional.cross_entropy((x @ model.W_U)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())

    x = model.W_E[tokens]
    first = layer(x, 0)
    up_to_one = x + first + layer(x, 1)
    return torch.tensor([loss(x), loss(up_to_one), loss(up_to_one + layer(first, 1))])


@variant("term_importance")
def by_the_procedure_in_words(model, tokens):
    _, cache = model.run_with_cache(tokens)
    frozen = [(f"blocks.{i}.attn.hook_pattern", lambda pattern, hook: cache[hook.name]) for i in range(2)]
    outputs = [torch.zeros_like(cache["attn_out", i]) for i in range(2)]
    losses = torch.zeros(3, dtype=torch.float64)
    for order in range(3):
        new = [None, None]

        def put(out, hook, new=new, outputs=outputs):
            new[hook.layer()] = out.clone()
            return outputs[hook.layer()]

        hooks = frozen + [(f"blocks.{i}.hook_attn_out", put) for i in range(2)]
        log_probs = model.run_with_hooks(tokens, fwd_hooks=hooks).double().log_softmax(-1)
        losses[order] = -log_probs[:, :-1].gather(-1, tokens[:, 1:, None]).mean()
        outputs = new
    return losses


@variant("ablated_loss")
def in_a_copy_of_the_model(model, tokens, heads):
    other = copy.deepcopy(model)
    with torch.no_grad():
        for layer, head in heads:
            other.blocks[layer].attn.W_O[head] = 0
    logits = other(tokens)[:, :-1].transpose(1, 2)
    return torch.nn.functional.cross_entropy(logits, tokens[:, 1:], reduction="none")


@variant("ablated_loss")
def by_the_pattern(model, tokens, heads):
    def blind(pattern, hook):
        gone = [head for layer, head in heads if layer == hook.layer()]
        pattern = pattern.clone()
        pattern[:, gone] = 0
        return pattern

    hooks = [(f"blocks.{layer}.attn.hook_pattern", blind) for layer in {layer for layer, _ in heads}]
    log_probs = model.run_with_hooks(tokens, fwd_hooks=hooks).log_softmax(-1)
    return -log_probs[:, :-1].gather(-1, tokens[:, 1:, None]).squeeze(-1)


@variant("ablated_loss")
def by_a_mask_at_the_result(model, tokens, heads):
    keep = torch.ones(model.cfg.n_layers, model.cfg.n_heads, 1)
    for layer, head in heads:
        keep[layer, head] = 0
    hooks = [(f"blocks.{i}.attn.hook_result", lambda r, hook: r * keep[hook.layer()]) for i in range(model.cfg.n_layers)]
    logits = model.run_with_hooks(tokens, fwd_hooks=hooks)
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return losses.reshape(len(tokens), -1)


@variant("previous_token_score")
def previous_as_a_list(pattern):
    return [float(p.diagonal(-1, dim1=-2, dim2=-1).mean()) for p in pattern.unbind(1)]


@variant("duplicate_token_score")
def duplicate_as_a_list(pattern, length):
    return [float(p.diagonal(-length, dim1=-2, dim2=-1).mean()) for p in pattern.unbind(1)]


@variant("induction_score")
def induction_as_a_list_of_tensors(pattern, length):
    return [p.diagonal(1 - length, dim1=-2, dim2=-1)[:, 1:].mean() for p in pattern.unbind(1)]


@variant("term_importance")
def losses_as_a_list(model, tokens):
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
        x = model.W_E[tokens]
        OV = model.W_V @ model.W_O

        def moved(stream, layer):
            return sum(cache["pattern", layer][:, h] @ stream @ OV[layer, h] for h in range(model.cfg.n_heads))

        first, second = moved(x, 0), moved(x, 1)
        streams = [x, x + first + second, x + first + second + moved(first, 1)]
        log_probs = [(stream @ model.W_U).log_softmax(-1)[:, :-1] for stream in streams]
    return [-p.gather(-1, tokens[:, 1:, None]).mean().item() for p in log_probs]
