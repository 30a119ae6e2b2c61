"""Mutants that no check can tell from the answer, and why: (exercise, "line before -> line after").

`circuits mutants` (circuits/mutants.py) makes them. It fails on a survivor that does not stand here, and
on a line here that explains none.
"""

AXIS = "The tensor has as many axes as make both numbers name the same one."
ORDER_OF_AXES = "The order in which axes are summed or averaged over does not matter."
ORDER = "The text does not ask for an order."
SET = "A name is among them in any order."
ONE_LAYER = "The text says one layer: the first is the last."
ONE_HEAD = "The model has one head a layer: the first is the last."
SCALE = "The same factor everywhere: it divides out, or leaves the order as it is."
FRESH = "The tensor is the answer's own in this run, and nobody reads it again as it was."
ALONE = "There is one entry along this axis: the first is the last."
SAME_SIZE = "Both have the same size."
SQUARE = "A square matrix has no other singular vectors."
LIMIT = "Differs only where a computed float32 number is the limit to its last bit, which rounding decides."
LARGE = "Any number as large does: the softmax is sharp with either."
FREQUENCY = "Nearly the frequencies of the positions: what is turned so still lies nearest to the position before."
FIRST_ROOM = "`room.position` is `[:32]` or `[:n_ctx]`, the first room: both indices are the same slice."
WIDER = "Columns of a head that stay 0 do nothing."
GATHER = "`gather` takes as many positions as the index has, and the last one is not among them."
LIST = "The annotation allows a list as well as a tensor."
HOOKS = "The hooks are at different places: the model's order counts."
GUESS = "The text asks for up to three, in no order, and what is left is right."
SYMMETRIC = "The matrix is its own transpose."
WINDOW = "The text asks for *about* a twentieth: a window a little wider or narrower does as well."
ENDS = "Windows at the very end: for a fall there the step moves by two points at most, and the check allows two."
SVD_K = "The first k singular vectors are the same, and k is at most the number of rows and of columns."
ONE_TOKEN = "There is one text of one token: any first or last of it is that one."
NUMBER = "A tensor of one number is taken for the number."
FLOOR = "The floor only keeps weights of 0 from a division by 0; any one as small does."
MODEL_BATCH = "A model gives a single text its batch axis."
NAN = "The NaN of a token that never occurs is overwritten in the end."
FREQ_TEXT = "A token follows as often as it is followed, but for the ends of the text: either sum is its frequency."
REAL = "The annotation allows whole numbers."
MASK = "A mask for every text (and head) instead of one for all: `triu` works on the last two axes."
ORDER_T = "Exchanging two axes is the same in either order."
AB_BA = "A @ B and B @ A have the same eigenvalues, but for zeros, which add nothing (it only takes longer)."
TOTAL = "The mean of sums over one axis and over the other is the same total, as the pattern is square."
COLON = "A last `:` in an index changes nothing."
ZERO_WEIGHT = "Where the weight is 0 the head adds nothing, and its cost is 0 (it only takes longer)."
BOTH_NONE = "Layer and head are None together."
LOOP = "Each pass of the loop writes weights of its own."
FLOAT32 = "float32 is exact enough for losses."
NORM_T = "A matrix and its transpose have the same norm."
LAYER0 = "The pattern of layer 0 depends on the tokens alone, so it is what it was without being held."
ONE_TOKEN_NAME = "Each half of a name is one token, as the text says: the first is the last."
DICT = "The result is a dictionary: its order says nothing."
DETACH = "What is returned has the same numbers, with or without gradients to follow."
ALL_HOOKED = "Every q, k and v is set by a hook, and the logits of this run are not used: its tokens do not count."
DOT = "The dot product of two vectors is the sum of their products."
KEPT = "An axis of one entry, which changes nothing in what follows."
BOTH_WAYS = "The two may exchange their roles: the formula is the same for both."
EITHER_SIGN = "Only the size counts, and the difference has the same size either way round."
EVEN = "The even numbers below 31 are those below 32."

SAME_SHAPE = "All of them have the same shape."
ONE_FIRING = "A denominator of 1 has one firing or one token of the class, and nothing in common: F1 is 0 with either."
ORDER_NAMES = "The cache holds what is named, in whatever order."
SCALE_EPS = "Nearly the same factor everywhere: it leaves the order as it is."
MARGIN = "A better drive is better by far more than this margin, which only keeps rounding from going on for ever."

EXPLAINED = {
    # 0_foundations
    ("residual_parts", "parts += cache['result', layer].unbind(dim=2) -> parts += cache['result', layer].unbind(dim=-2)"): AXIS,
    ("survives_regauging", "return [name for name in names if name not in ('q', 'k', 'v', 'z')] -> return [name for name in names if name not in ('q', 'k', 'z', 'v')]"): SET,
    ("survives_regauging", "return [name for name in names if name not in ('q', 'k', 'v', 'z')] -> return [name for name in names if name not in ('q', 'v', 'k', 'z')]"): SET,
    ("survives_regauging", "return [name for name in names if name not in ('q', 'k', 'v', 'z')] -> return [name for name in names if name not in ('k', 'q', 'v', 'z')]"): SET,
    ("positions_reached", 'return A[:, source].nonzero()[:, 0].tolist() -> return A[:, source].nonzero()[:, -1].tolist()'): ALONE,
    ("truncate_rank", 'U, S, Vh = torch.linalg.svd(M, full_matrices=False) -> U, S, Vh = torch.linalg.svd(M)'): SVD_K,
    ("truncate_rank", 'U, S, Vh = torch.linalg.svd(M, full_matrices=False) -> U, S, Vh = torch.linalg.svd(M, full_matrices=True)'): SVD_K,
    ("strength_ceiling", 's, t = (torch.linalg.svdvals(W_out), torch.linalg.svdvals(W_in)) -> s, t = (torch.linalg.svdvals(W_in), torch.linalg.svdvals(W_out))'): BOTH_WAYS,
    # 1_bigrams
    ("bigram_log_probs", 'return (smoothed / smoothed.sum(dim=-1, keepdim=True)).log() -> return (smoothed / smoothed.sum(dim=1, keepdim=True)).log()'): AXIS,
    ("conditional_entropy", 'p_next = counts / counts.sum(dim=-1, keepdim=True).clamp(min=1) -> p_next = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)'): AXIS,
    ("top_next", 'logits = model(torch.tensor([[token]]))[0, -1] -> logits = model(torch.tensor([[token]]))[0, 0]'): ONE_TOKEN,
    ("top_next", 'logits = model(torch.tensor([[token]]))[0, -1] -> logits = model(torch.tensor([[token]]))[0, -0]'): ONE_TOKEN,
    ("top_next", 'logits = model(torch.tensor([[token]]))[0, -1] -> logits = model(torch.tensor([[token]]))[-1, 0]'): ONE_TOKEN,
    ("top_next", 'logits = model(torch.tensor([[token]]))[0, -1] -> logits = model(torch.tensor([[token]]))[-1, -1]'): ONE_TOKEN,
    ("train_step", 'return loss.item() -> return loss'): NUMBER,
    ("mean_kl", 'kl = (log_p.exp() * (log_p - log_q)).sum(dim=-1) -> kl = (log_p.exp() * (log_p - log_q)).sum(dim=1)'): AXIS,
    ("mean_kl", 'return (weights * kl).sum() -> return (weights @ kl).sum()'): DOT,
    ("best_rank_k", 'U, S, Vh = torch.linalg.svd(scale * log_probs, full_matrices=False) -> U, S, Vh = torch.linalg.svd(scale * log_probs)'): SQUARE,
    ("best_rank_k", 'U, S, Vh = torch.linalg.svd(scale * log_probs, full_matrices=False) -> U, S, Vh = torch.linalg.svd(scale * log_probs, full_matrices=True)'): SQUARE,
    ("best_rank_k", 'scale = weights.clamp(min=1e-08).sqrt()[:, None] -> scale = weights.clamp(min=2e-08).sqrt()[:, None]'): FLOOR,
    ("best_rank_k", 'scale = weights.clamp(min=1e-08).sqrt()[:, None] -> scale = weights.clamp(min=5e-09).sqrt()[:, None]'): FLOOR,
    ("sample", 'probs = (logits / temperature).softmax(-1) -> probs = (logits / temperature).softmax(-0)'): AXIS,
    ("sample", 'probs = (logits / temperature).softmax(-1) -> probs = (logits / temperature).softmax(0)'): AXIS,
    ("sample", 'logits = model(tokens[None])[0, -1] -> logits = model(tokens[None])[-1, -1]'): ALONE,
    ("sample", 'logits = model(tokens[None])[0, -1] -> logits = model(tokens)[0, -1]'): MODEL_BATCH,
    ("furthest_tokens", 'p = counts / n.clamp(min=1)[:, None] -> p = counts / n[:, None]'): NAN,
    ("furthest_tokens", 'n = counts.sum(dim=-1) -> n = counts.sum(dim=1)'): AXIS,
    ("furthest_tokens", 'log_q = (model.W_E @ model.W_U).log_softmax(-1) -> log_q = (model.W_E @ model.W_U).log_softmax(1)'): AXIS,
    ("furthest_tokens", 'p = counts / n.clamp(min=1)[:, None] -> p = counts / n.clamp(min=0)[:, None]'): NAN,
    ("furthest_tokens", 'kl = (torch.xlogy(p, p) - p * log_q).sum(dim=-1) -> kl = (torch.xlogy(p, p) - p * log_q).mean(dim=-1)'): SCALE,
    ("furthest_tokens", 'kl = (torch.xlogy(p, p) - p * log_q).sum(dim=-1) -> kl = (torch.xlogy(p, p) - p * log_q).sum(dim=1)'): AXIS,
    ("predict_distance", 'return -counts.sum(dim=-1).float() -> return -counts.sum(dim=0).float()'): FREQ_TEXT,
    ("predict_distance", 'return -counts.sum(dim=-1).float() -> return -counts.sum(dim=-0).float()'): FREQ_TEXT,
    ("predict_distance", 'return -counts.sum(dim=-1).float() -> return -counts.sum(dim=-2).float()'): FREQ_TEXT,
    ("predict_distance", 'return -counts.sum(dim=-1).float() -> return -counts.sum(dim=1).float()'): AXIS,
    ("predict_distance", 'return -counts.sum(dim=-1).float() -> return -counts.sum(dim=-1)'): REAL,
    # 2_skip_trigrams
    ("attention_scores", "return einsum(q, k, 'batch dest d_head, batch src d_head -> batch dest src') / W_Q.shape[-1] ** 0.5 -> return einsum(q, k, 'batch dest d_head, batch src d_head -> batch dest src') / W_K.shape[-1] ** 0.5"): SAME_SIZE,
    ("attention_scores", "return einsum(q, k, 'batch dest d_head, batch src d_head -> batch dest src') / W_Q.shape[-1] ** 0.5 -> return einsum(q, k, 'batch dest d_head, batch src d_head -> batch dest src') / W_Q.shape[1] ** 0.5"): AXIS,
    ("causal_pattern", 'future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1) -> future = torch.ones(scores.shape, dtype=torch.bool).triu(1)'): MASK,
    ("causal_pattern", 'future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1) -> future = torch.ones(scores.shape[-3:], dtype=torch.bool).triu(1)'): MASK,
    ("causal_pattern", 'future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1) -> future = torch.ones(scores.shape[:], dtype=torch.bool).triu(1)'): MASK,
    ("attention_layer", 'future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1) -> future = torch.ones(scores.shape, dtype=torch.bool).triu(1)'): MASK,
    ("attention_layer", 'scores = q @ k.transpose(-1, -2) / W_Q.shape[-1] ** 0.5 -> scores = q @ k.transpose(-1, -2) / W_K.shape[-1] ** 0.5'): SAME_SIZE,
    ("attention_layer", 'future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1) -> future = torch.ones(scores.shape[2:], dtype=torch.bool).triu(1)'): AXIS,
    ("attention_layer", 'future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1) -> future = torch.ones(scores.shape[-3:], dtype=torch.bool).triu(1)'): MASK,
    ("attention_layer", 'scores = q @ k.transpose(-1, -2) / W_Q.shape[-1] ** 0.5 -> scores = q @ k.transpose(-1, 2) / W_Q.shape[-1] ** 0.5'): AXIS,
    ("attention_layer", 'future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1) -> future = torch.ones(scores.shape[:], dtype=torch.bool).triu(1)'): MASK,
    ("attention_layer", 'scores = q @ k.transpose(-1, -2) / W_Q.shape[-1] ** 0.5 -> scores = q @ k.transpose(-2, -1) / W_Q.shape[-1] ** 0.5'): ORDER_T,
    ("path_expansion", "moved = cache['pattern', 0][:, head] @ (x @ model.W_V[0, head]) -> moved = cache['pattern', 0][:, head] @ (x @ model.W_V[-1, head])"): ONE_LAYER,
    ("path_expansion", "moved = cache['pattern', 0][:, head] @ (x @ model.W_V[0, head]) -> moved = cache['pattern', -1][:, head] @ (x @ model.W_V[0, head])"): ONE_LAYER,
    ("path_expansion", 'terms.append(moved @ model.W_O[0, head] @ model.W_U) -> terms.append(moved @ model.W_O[-1, head] @ model.W_U)'): ONE_LAYER,
    ("freeze_patterns", "hooks = [('hook_embed', lambda x, hook: embed), (is_pattern, lambda pattern, hook: cache[hook.name])] -> hooks = [(is_pattern, lambda pattern, hook: cache[hook.name]), ('hook_embed', lambda x, hook: embed)]"): HOOKS,
    ("predict_skip_trigrams", "guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', '))', ',']} -> guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': [' as'], '(': [')', '))', ',']}"): GUESS,
    ("predict_skip_trigrams", "guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', '))', ',']} -> guesses = {' try': [' finally', ' except'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', '))', ',']}"): GUESS,
    ("predict_skip_trigrams", "guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', '))', ',']} -> guesses = {' try': [' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', '))', ',']}"): GUESS,
    ("predict_skip_trigrams", "guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', '))', ',']} -> guesses = {' try': [' except'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', '))', ',']}"): GUESS,
    ("predict_skip_trigrams", "guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', '))', ',']} -> guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': ['))', ',']}"): GUESS,
    ("predict_skip_trigrams", "guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', '))', ',']} -> guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n'], '(': [')', '))', ',']}"): GUESS,
    ("predict_skip_trigrams", "guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', '))', ',']} -> guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', ',', '))']}"): GUESS,
    ("predict_skip_trigrams", "guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', '))', ',']} -> guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': ['))', ')', ',']}"): GUESS,
    ("predict_skip_trigrams", "guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', '))', ',']} -> guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', '))']}"): GUESS,
    ("predict_skip_trigrams", "guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', '))', ',']} -> guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': [' as', '\\n'], '(': [')', '))', ',']}"): GUESS,
    ("predict_skip_trigrams", "guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', '))', ',']} -> guesses = {' try': [' except', ' finally'], ' lambda': [':'], ' import': ['\\n', ' as'], '(': [')', ',']}"): GUESS,
    ("skip_trigrams", 'wanted = query @ (key[source] - key.mean(0)) -> wanted = query @ (key[source] - key.mean(-2))'): AXIS,
    ("matching_score", 'eigenvalues = torch.linalg.eigvals(key.T @ query) -> eigenvalues = torch.linalg.eigvals(query @ key.T)'): AB_BA,
    ("diagonal_score", 'diagonal = (value * out.T).sum(-1) -> diagonal = (value * out.T).sum(1)'): AXIS,
    ("diagonal_score", 'diagonal = (value * out.T).sum(-1) -> diagonal = (value * out.T).sum(-1, keepdim=True)'): KEPT,
    ("diagonal_score", 'diagonal = (value * out.T).sum(-1) -> diagonal = (value * out.T).mean(-1)'): SCALE,
    ("top_k_copy_score", 'larger = (M > M.diagonal()[:, None]).sum(dim=-1) -> larger = (M > M.diagonal()[:, None]).sum(dim=1)'): AXIS,
    ("top_k_copy_score", 'larger = (M > M.diagonal()[:, None]).sum(dim=-1) -> larger = (M > M.diagonal()[:, None]).sum(dim=-1, keepdim=True)'): KEPT,
    ("copying_heads", 'if eigenvalues.sum().real > 0.5 * eigenvalues.abs().sum(): -> if eigenvalues.sum().real >= 0.5 * eigenvalues.abs().sum():'): LIMIT,
    ("anti_copying_head", 'scores.append(eigenvalues.sum().real / eigenvalues.abs().sum()) -> scores.append(eigenvalues.mean().real / eigenvalues.abs().sum())'): SCALE,
    ("anti_copying_head", 'scores.append(eigenvalues.sum().real / eigenvalues.abs().sum()) -> scores.append(eigenvalues.sum().real / eigenvalues.abs().mean())'): SCALE,
    ("positional_heads", 'if torch.minimum(pattern[:, head], alone).sum(dim=-1).mean() > 0.7: -> if torch.minimum(pattern[:, head], alone).sum(dim=-1).mean() >= 0.7:'): LIMIT,
    ("positional_heads", 'alone = scores.masked_fill(future, -torch.inf).softmax(dim=-1) -> alone = scores.masked_fill(future, -torch.inf).softmax(dim=1)'): AXIS,
    ("positional_heads", 'if torch.minimum(pattern[:, head], alone).sum(dim=-1).mean() > 0.7: -> if torch.minimum(pattern[:, head], alone).sum(dim=-1, keepdim=True).mean() > 0.7:'): KEPT,
    ("positional_heads", 'if torch.minimum(pattern[:, head], alone).sum(dim=-1).mean() > 0.7: -> if torch.minimum(pattern[:, head], alone).sum(dim=1).mean() > 0.7:'): TOTAL,
    ("positional_heads", 'if torch.minimum(pattern[:, head], alone).sum(dim=-1).mean() > 0.7: -> if torch.minimum(pattern[:, head], alone).sum(dim=-2).mean() > 0.7:'): TOTAL,
    ("forced_skip_trigrams", 'pull = ((key[sources] - key.mean(0)) @ query.T).exp() -> pull = ((key[sources] - key.mean(-2)) @ query.T).exp()'): AXIS,
    ("forced_skip_trigrams", 'pull = ((key[sources] - key.mean(0)) @ query.T).exp() -> pull = ((key[sources] - key.mean(0, keepdim=True)) @ query.T).exp()'): KEPT,
    ("skip_trigram_costs", 'keep = weight > 0 -> keep = weight > -1'): ZERO_WEIGHT,
    ("skip_trigram_costs", 'return torch.zeros(len(ov_row), len(ov_row)).index_add_(0, destination, cost) -> return torch.zeros(len(ov_row), len(ov_row)).index_add_(-2, destination, cost)'): AXIS,
    ("skip_trigram_costs", 'weight = (pattern * (tokens == source)[:, None, :]).sum(dim=-1)[:, :-1] -> weight = (pattern * (tokens == source)[:, None]).sum(dim=-1)[:, :-1]'): COLON,
    ("skip_trigram_costs", 'keep = weight > 0 -> keep = weight >= 0'): ZERO_WEIGHT,
    ("skip_trigram_costs", 'probs = logits[:, :-1][keep].softmax(dim=-1) -> probs = logits[:, :-1][keep].softmax(dim=1)'): AXIS,
    ("worst_crossing", 'badness = torch.minimum(costs.max(dim=0).values, -costs.min(dim=0).values) -> badness = torch.minimum(costs.max(dim=0).values, -costs.min(dim=0, keepdim=True).values)'): KEPT,
    ("worst_crossing", 'badness = torch.minimum(costs.max(dim=0).values, -costs.min(dim=0).values) -> badness = torch.minimum(costs.max(dim=-2).values, -costs.min(dim=0).values)'): AXIS,
    ("worst_crossing", 'badness = torch.minimum(costs.max(dim=0).values, -costs.min(dim=0).values) -> badness = torch.minimum(costs.max(dim=0).values, -costs.min(dim=-2).values)'): AXIS,
    ("worst_crossing", 'badness = torch.minimum(costs.max(dim=0).values, -costs.min(dim=0).values) -> badness = torch.minimum(costs.max(dim=0, keepdim=True).values, -costs.min(dim=0).values)'): KEPT,
    ("ablate_head", 'z = z.clone() -> z = z'): FRESH,
    ("head_importance", 'z = z.clone() -> z = z'): FRESH,
    ("head_importance", "hooks = [] if layer is None else [(f'blocks.{layer}.attn.hook_z', remove)] -> hooks = [] if head is None else [(f'blocks.{layer}.attn.hook_z', remove)]"): BOTH_NONE,
    # 3_induction_heads
    ("tokens_behind_score", 'return sorted({src, dest}) -> return sorted({src, dest}, reverse=True)'): ORDER,
    ("tokens_behind_score", 'return sorted({src, dest}) -> return {src, dest}'): ORDER,
    ("previous_token_head", 'frequencies = 10000 ** (-torch.arange(0, d_model, 2) / d_model) -> frequencies = 9999 ** (-torch.arange(0, d_model, 2) / d_model)'): FREQUENCY,
    ("previous_token_head", 'W_Q = 100 * rotation(-frequencies) -> W_Q = 101 * rotation(-frequencies)'): LARGE,
    ("previous_token_head", 'frequencies = 10000 ** (-torch.arange(0, d_model, 2) / d_model) -> frequencies = 10001 ** (-torch.arange(0, d_model, 2) / d_model)'): FREQUENCY,
    ("previous_token_head", 'W_Q = 100 * rotation(-frequencies) -> W_Q = 99 * rotation(-frequencies)'): LARGE,
    ("two_back_virtual_head", 'attn.W_V[0, read, :d_vocab] = one_each -> attn.W_V[-1, read, :d_vocab] = one_each'): ONE_HEAD,
    ("two_back_virtual_head", 'model = empty_model(d_vocab, room.d_model, d_head=max(32, d_vocab), n_ctx=n_ctx) -> model = empty_model(d_vocab, room.d_model, d_head=max(33, d_vocab), n_ctx=n_ctx)'): WIDER,
    ("two_back_virtual_head", 'frequencies = 10000 ** (-torch.arange(0, 32, 2) / room.d_model) -> frequencies = 10000 ** (-torch.arange(1, 32, 2) / room.d_model)'): FREQUENCY,
    ("two_back_virtual_head", 'attn.W_Q[0, room.position, :32] = 100 * rotation(-frequencies) -> attn.W_Q[-1, room.position, :32] = 100 * rotation(-frequencies)'): ONE_HEAD,
    ("two_back_virtual_head", 'attn.W_Q[0, room.position, :32] = 100 * rotation(-frequencies) -> attn.W_Q[0, room.position, :32] = 99 * rotation(-frequencies)'): LARGE,
    ("two_back_virtual_head", 'attn.W_Q[0, room.position, :32] = 100 * rotation(-frequencies) -> attn.W_Q[0, room.position, :32] = 101 * rotation(-frequencies)'): LARGE,
    ("two_back_virtual_head", 'for layer, read, write in ((0, room.token, room.one_back), (1, room.one_back, room.two_back)): -> for layer, read, write in ((1, room.one_back, room.two_back), (0, room.token, room.one_back)):'): LOOP,
    ("two_back_virtual_head", 'attn.W_K[0, room.position, :32] = torch.eye(32) -> attn.W_K[0, :32, room.position] = torch.eye(32)'): FIRST_ROOM,
    ("two_back_virtual_head", 'attn.W_O[0, :d_vocab, write] = one_each -> attn.W_O[-1, :d_vocab, write] = one_each'): ONE_HEAD,
    ("two_back_virtual_head", 'frequencies = 10000 ** (-torch.arange(0, 32, 2) / room.d_model) -> frequencies = 10001 ** (-torch.arange(0, 32, 2) / room.d_model)'): FREQUENCY,
    ("two_back_virtual_head", 'attn.W_K[0, room.position, :32] = torch.eye(32) -> attn.W_K[-1, room.position, :32] = torch.eye(32)'): ONE_HEAD,
    ("two_back_virtual_head", 'attn.W_Q[0, room.position, :32] = 100 * rotation(-frequencies) -> attn.W_Q[0, :32, room.position] = 100 * rotation(-frequencies)'): FIRST_ROOM,
    ("two_back_virtual_head", 'frequencies = 10000 ** (-torch.arange(0, 32, 2) / room.d_model) -> frequencies = 9999 ** (-torch.arange(0, 32, 2) / room.d_model)'): FREQUENCY,
    ("two_back_virtual_head", 'frequencies = 10000 ** (-torch.arange(0, 32, 2) / room.d_model) -> frequencies = 10000 ** (-torch.arange(0, 31, 2) / room.d_model)'): EVEN,
    ("induction_circuit", 'previous.W_O[0, :d_vocab, room.previous] = one_each -> previous.W_O[-1, :d_vocab, room.previous] = one_each'): ONE_HEAD,
    ("induction_circuit", 'frequencies = 10000 ** (-torch.arange(0, 32, 2) / room.d_model) -> frequencies = 10000 ** (-torch.arange(0, 31, 2) / room.d_model)'): EVEN,
    ("induction_circuit", 'induction.W_V[0, room.token, :d_vocab] = one_each -> induction.W_V[-1, room.token, :d_vocab] = one_each'): ONE_HEAD,
    ("induction_circuit", 'model.W_E[:, room.token] = 100 * one_each -> model.W_E[:, room.token] = 101 * one_each'): LARGE,
    ("induction_circuit", 'induction.W_Q[0, room.token, :d_vocab] = one_each -> induction.W_Q[-1, room.token, :d_vocab] = one_each'): ONE_HEAD,
    ("induction_circuit", 'induction.W_K[0, room.previous, :d_vocab] = one_each -> induction.W_K[-1, room.previous, :d_vocab] = one_each'): ONE_HEAD,
    ("induction_circuit", 'frequencies = 10000 ** (-torch.arange(0, 32, 2) / room.d_model) -> frequencies = 10001 ** (-torch.arange(0, 32, 2) / room.d_model)'): FREQUENCY,
    ("induction_circuit", 'model.W_E[:, room.token] = 100 * one_each -> model.W_E[:, room.token] = 99 * one_each'): LARGE,
    ("induction_circuit", 'previous.W_V[0, room.token, :d_vocab] = one_each -> previous.W_V[-1, room.token, :d_vocab] = one_each'): ONE_HEAD,
    ("induction_circuit", 'frequencies = 10000 ** (-torch.arange(0, 32, 2) / room.d_model) -> frequencies = 10000 ** (-torch.arange(1, 32, 2) / room.d_model)'): FREQUENCY,
    ("induction_circuit", 'previous.W_K[0, room.position, :32] = torch.eye(32) -> previous.W_K[-1, room.position, :32] = torch.eye(32)'): ONE_HEAD,
    ("induction_circuit", 'previous.W_Q[0, room.position, :32] = 100 * rotation(-frequencies) -> previous.W_Q[0, room.position, :32] = 99 * rotation(-frequencies)'): LARGE,
    ("induction_circuit", 'model = empty_model(d_vocab, room.d_model, d_head=max(32, d_vocab), n_ctx=n_ctx) -> model = empty_model(d_vocab, room.d_model, d_head=max(33, d_vocab), n_ctx=n_ctx)'): WIDER,
    ("induction_circuit", 'previous.W_Q[0, room.position, :32] = 100 * rotation(-frequencies) -> previous.W_Q[0, :32, room.position] = 100 * rotation(-frequencies)'): FIRST_ROOM,
    ("induction_circuit", 'previous.W_K[0, room.position, :32] = torch.eye(32) -> previous.W_K[0, :32, room.position] = torch.eye(32)'): FIRST_ROOM,
    ("induction_circuit", 'previous.W_Q[0, room.position, :32] = 100 * rotation(-frequencies) -> previous.W_Q[0, room.position, :32] = 101 * rotation(-frequencies)'): LARGE,
    ("induction_circuit", 'induction.W_O[0, :d_vocab, room.answer] = one_each -> induction.W_O[-1, :d_vocab, room.answer] = one_each'): ONE_HEAD,
    ("induction_circuit", 'frequencies = 10000 ** (-torch.arange(0, 32, 2) / room.d_model) -> frequencies = 9999 ** (-torch.arange(0, 32, 2) / room.d_model)'): FREQUENCY,
    ("induction_circuit", 'previous.W_Q[0, room.position, :32] = 100 * rotation(-frequencies) -> previous.W_Q[-1, room.position, :32] = 100 * rotation(-frequencies)'): ONE_HEAD,
    ("pointer_induction", 'duplicate.W_O[0, :n_ctx, room.found] = each_position -> duplicate.W_O[-1, :n_ctx, room.found] = each_position'): ONE_HEAD,
    ("pointer_induction", 'duplicate.W_Q[0, room.token, :d_vocab] = 1000 * each_token -> duplicate.W_Q[-1, room.token, :d_vocab] = 1000 * each_token'): ONE_HEAD,
    ("pointer_induction", 'duplicate.W_V[0, room.position, :n_ctx] = each_position -> duplicate.W_V[-1, room.position, :n_ctx] = each_position'): ONE_HEAD,
    ("pointer_induction", 'pointer.W_V[0, room.token, :d_vocab] = each_token -> pointer.W_V[-1, room.token, :d_vocab] = each_token'): ONE_HEAD,
    ("pointer_induction", 'duplicate.W_K[0, room.token, :d_vocab] = each_token -> duplicate.W_K[-1, room.token, :d_vocab] = each_token'): ONE_HEAD,
    ("pointer_induction", 'pointer.W_O[0, :d_vocab, room.answer] = each_token -> pointer.W_O[-1, :d_vocab, room.answer] = each_token'): ONE_HEAD,
    ("pointer_induction", 'pointer.W_K[0, room.position, :n_ctx] = each_position -> pointer.W_K[-1, room.position, :n_ctx] = each_position'): ONE_HEAD,
    ("pointer_induction", 'pointer.W_Q[0, room.found, :n_ctx] = 1000 * step -> pointer.W_Q[-1, room.found, :n_ctx] = 1000 * step'): ONE_HEAD,
    ("pointer_induction", 'duplicate.W_Q[0, room.token, :d_vocab] = 1000 * each_token -> duplicate.W_Q[0, room.token, :d_vocab] = 999 * each_token'): LARGE,
    ("pointer_induction", 'pointer.W_Q[0, room.found, :n_ctx] = 1000 * step -> pointer.W_Q[0, room.found, :n_ctx] = 999 * step'): LARGE,
    ("pointer_induction", 'pointer.W_Q[0, room.found, :n_ctx] = 1000 * step -> pointer.W_Q[0, room.found, :n_ctx] = 1001 * step'): LARGE,
    ("pointer_induction", 'duplicate.W_Q[0, room.token, :d_vocab] = 1000 * each_token -> duplicate.W_Q[0, room.token, :d_vocab] = 1001 * each_token'): LARGE,
    ("pointer_induction", 'duplicate.W_V[0, room.position, :n_ctx] = each_position -> duplicate.W_V[0, :n_ctx, room.position] = each_position'): FIRST_ROOM,
    ("pointer_induction", 'pointer.W_K[0, room.position, :n_ctx] = each_position -> pointer.W_K[0, :n_ctx, room.position] = each_position'): FIRST_ROOM,
    ("repeated_tokens", 'return torch.cat([once, once], dim=1) -> return torch.cat([once, once], dim=-1)'): AXIS,
    ("per_token_loss", 'return -log_probs[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0] -> return -log_probs[:, :-1].gather(-1, tokens[:, 1:, None])[..., -1]'): ALONE,
    ("per_token_loss", 'return -log_probs[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0] -> return -log_probs.gather(-1, tokens[:, 1:, None])[..., 0]'): GATHER,
    ("per_token_loss", 'return -log_probs[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0] -> return -log_probs[:, :].gather(-1, tokens[:, 1:, None])[..., 0]'): GATHER,
    ("per_token_loss", 'return -log_probs[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0] -> return -log_probs[:].gather(-1, tokens[:, 1:, None])[..., 0]'): GATHER,
    ("previous_token_score", 'return pattern.diagonal(-1, dim1=-2, dim2=-1).mean((0, -1)) -> return pattern.diagonal(-1, dim1=-2, dim2=-1).mean((-1, 0))'): ORDER_OF_AXES,
    ("previous_token_score", 'return pattern.diagonal(-1, dim1=-2, dim2=-1).mean((0, -1)) -> return pattern.diagonal(-1, dim1=2, dim2=-1).mean((0, -1))'): AXIS,
    ("duplicate_token_score", 'return pattern.diagonal(-length, dim1=-2, dim2=-1).mean((0, -1)) -> return pattern.diagonal(-length, dim1=2, dim2=-1).mean((0, -1))'): AXIS,
    ("duplicate_token_score", 'return pattern.diagonal(-length, dim1=-2, dim2=-1).mean((0, -1)) -> return pattern.diagonal(-length, dim1=-2, dim2=-1).mean((-1, 0))'): ORDER_OF_AXES,
    ("induction_score", 'stripe = pattern.diagonal(-(length - 1), dim1=-2, dim2=-1) -> stripe = pattern.diagonal(-(length - 1), dim1=2, dim2=-1)'): AXIS,
    ("induction_score", 'return stripe[..., 1:].mean((0, -1)) -> return stripe[..., 1:].mean((-1, 0))'): ORDER_OF_AXES,
    ("find_heads", "stripe = cache['pattern', layer].diagonal(-back, dim1=-2, dim2=-1)[..., skip:] -> stripe = cache['pattern', layer].diagonal(-back, dim1=2, dim2=-1)[..., skip:]"): AXIS,
    ("find_heads", 'scores = stripe.mean((0, -1)).tolist() -> scores = stripe.mean((-1, 0)).tolist()'): ORDER_OF_AXES,
    ("find_heads", 'found += [(layer, head) for head, score in enumerate(scores) if score > 0.4] -> found += [(layer, head) for head, score in enumerate(scores) if score >= 0.4]'): LIMIT,
    ("phase_change_step", 'k = max(2, len(values) // 20) -> k = max(2, len(values) // 21)'): WINDOW,
    ("phase_change_step", 'falls = [values[i - k:i].mean() - values[i:i + k].mean() for i in range(k, len(values) - k + 1)] -> falls = [values[i - k:i].mean() - values[i:i + k].mean() for i in range(k, len(values) - k - 1)]'): ENDS,
    ("phase_change_step", 'values = torch.tensor([value for _, value in curve], dtype=torch.float64) -> values = torch.tensor([value for _, value in curve])'): FLOAT32,
    ("phase_change_step", 'falls = [values[i - k:i].mean() - values[i:i + k].mean() for i in range(k, len(values) - k + 1)] -> falls = [values[i - k:i].mean() - values[i:i + k].mean() for i in range(k, len(values) - k)]'): ENDS,
    ("phase_change_step", 'falls = [values[i - k:i].mean() - values[i:i + k].mean() for i in range(k, len(values) - k + 1)] -> falls = [values[i - k:i].mean() - values[i:i + k].mean() for i in range(k, len(values) - k + 0)]'): ENDS,
    ("phase_change_step", 'falls = [values[i - k:i].mean() - values[i:i + k].mean() for i in range(k, len(values) - k + 1)] -> falls = [values[i - k:i].mean() - values[i:i + k].mean() for i in range(k, len(values) - k + 2)]'): ENDS,
    ("phase_change_step", 'k = max(2, len(values) // 20) -> k = max(3, len(values) // 20)'): WINDOW,
    ("phase_change_step", 'k = max(2, len(values) // 20) -> k = max(2, len(values) // 19)'): WINDOW,
    ("phase_change_step", 'k = max(2, len(values) // 20) -> k = max(1, len(values) // 20)'): WINDOW,
    ("composition_scores", 'product = (G[:, None] @ M * (M @ H)).sum((-1, -2)) -> product = (G[:, None] @ M * (M @ H.mT)).sum((-1, -2))'): SYMMETRIC,
    ("composition_scores", 'product = (G[:, None] @ M * (M @ H)).sum((-1, -2)) -> product = (G[:, None].mT @ M * (M @ H)).sum((-1, -2))'): SYMMETRIC,
    ("composition_scores", 'product = (G[:, None] @ M * (M @ H)).sum((-1, -2)) -> product = (G[:, None] @ M * (M @ H)).sum((-1, 2))'): AXIS,
    ("composition_scores", 'product = (G[:, None] @ M * (M @ H)).sum((-1, -2)) -> product = (G[:, None] @ M * (M @ H)).sum((-2, -1))'): ORDER_OF_AXES,
    ("composition_scores", 'norm_A = (G * (A2 @ A2.mT)).sum((-1, -2)) -> norm_A = (G * (A2 @ A2.mT)).sum((-1, 1))'): AXIS,
    ("composition_scores", 'norm_A = (G * (A2 @ A2.mT)).sum((-1, -2)) -> norm_A = (G * (A2 @ A2.mT)).sum((-2, -1))'): ORDER_OF_AXES,
    ("composition_scores", 'norm_B = (B1.mT @ B1 * H).sum((-1, -2)) -> norm_B = (B1.mT @ B1 * H).sum((-2, -1))'): ORDER_OF_AXES,
    ("composition_scores", 'norm_B = (B1.mT @ B1 * H).sum((-1, -2)) -> norm_B = (B1.mT @ B1 * H).sum((-1, 1))'): AXIS,
    ("find_pair_by_weights", "product = einsum(OV, KQ, 'i a b, j b c -> i j a c').norm(dim=(-1, -2)) -> product = einsum(OV, KQ, 'i a b, j b c -> i j a c').norm(dim=(-1, 2))"): AXIS,
    ("find_pair_by_weights", 'scores = product / (OV.norm(dim=(-1, -2))[:, None] * KQ.norm(dim=(-1, -2))) -> scores = product / (OV.norm(dim=(-1, -2))[:, None] * KQ.norm(dim=(-2, -1)))'): ORDER_OF_AXES,
    ("find_pair_by_weights", 'i, j = divmod(scores.argmax().item(), scores.shape[1]) -> i, j = divmod(scores.argmax().item(), scores.shape[0])'): SAME_SIZE,
    ("find_pair_by_weights", 'scores = product / (OV.norm(dim=(-1, -2))[:, None] * KQ.norm(dim=(-1, -2))) -> scores = product / (OV.norm(dim=(-2, -1))[:, None] * KQ.norm(dim=(-1, -2)))'): ORDER_OF_AXES,
    ("find_pair_by_weights", "product = einsum(OV, KQ, 'i a b, j b c -> i j a c').norm(dim=(-1, -2)) -> product = einsum(OV, KQ, 'i a b, j b c -> i j c a').norm(dim=(-1, -2))"): NORM_T,
    ("find_pair_by_weights", 'scores = product / (OV.norm(dim=(-1, -2))[:, None] * KQ.norm(dim=(-1, -2))) -> scores = product / (OV.norm(dim=(-1, 1))[:, None] * KQ.norm(dim=(-1, -2)))'): AXIS,
    ("find_pair_by_weights", 'scores = product / (OV.norm(dim=(-1, -2))[:, None] * KQ.norm(dim=(-1, -2))) -> scores = product / (OV.norm(dim=(-1, -2))[:, None] * KQ.norm(dim=(-1, 1)))'): AXIS,
    ("find_pair_by_weights", "product = einsum(OV, KQ, 'i a b, j b c -> i j a c').norm(dim=(-1, -2)) -> product = einsum(OV, KQ, 'i a b, j b c -> i j a c').norm(dim=(-2, -1))"): ORDER_OF_AXES,
    ("term_importance", "hooks = [(f'blocks.{i}.attn.hook_pattern', freeze) for i in range(2)] -> hooks = [(f'blocks.{i}.attn.hook_pattern', freeze) for i in range(1, 2)]"): LAYER0,
    ("term_importance", 'return torch.stack(losses) -> return losses'): LIST,
    ("ablated_loss", 'z = z.clone() -> z = z'): FRESH,
    ("ablated_loss", 'return -log_probs[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0] -> return -log_probs.gather(-1, tokens[:, 1:, None])[..., 0]'): GATHER,
    ("ablated_loss", 'return -log_probs[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0] -> return -log_probs[:, :].gather(-1, tokens[:, 1:, None])[..., 0]'): GATHER,
    ("ablated_loss", 'return -log_probs[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0] -> return -log_probs[:, :-1].gather(-1, tokens[:, 1:, None])[..., -1]'): ALONE,
    ("ablated_loss", 'return -log_probs[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0] -> return -log_probs[:].gather(-1, tokens[:, 1:, None])[..., 0]'): GATHER,
    # 4_patching
    ("clean_and_corrupted", 'right, wrong = (model.to_tokens([name[half] for name in names], prepend_bos=False)[:, 0] for half in (1, 3)) -> right, wrong = (model.to_tokens([name[half] for name in names], prepend_bos=False)[:, -1] for half in (1, 3))'): ONE_TOKEN_NAME,
    ("changes_that_show", "return ['swap_second', 'new_query'] -> return ['new_query', 'swap_second']"): ORDER,
    ("zero_ablate", 'x = x.clone() -> x = x'): FRESH,
    ("mean_ablate", 'x = x.clone() -> x = x'): FRESH,
    ("resample_ablate", 'x = x.clone() -> x = x'): FRESH,
    ("alarms", "return {'constant': ['zero'], 'shared': ['zero', 'mean', 'other'], 'carrier': ['zero', 'mean', 'other', 'twin']}[kind] -> return {'constant': ['zero'], 'shared': ['zero', 'mean', 'other'], 'carrier': ['zero', 'mean', 'twin', 'other']}[kind]"): ORDER,
    ("alarms", "return {'constant': ['zero'], 'shared': ['zero', 'mean', 'other'], 'carrier': ['zero', 'mean', 'other', 'twin']}[kind] -> return {'constant': ['zero'], 'shared': ['zero', 'other', 'mean'], 'carrier': ['zero', 'mean', 'other', 'twin']}[kind]"): ORDER,
    ("alarms", "return {'constant': ['zero'], 'shared': ['zero', 'mean', 'other'], 'carrier': ['zero', 'mean', 'other', 'twin']}[kind] -> return {'constant': ['zero'], 'shared': ['mean', 'zero', 'other'], 'carrier': ['zero', 'mean', 'other', 'twin']}[kind]"): ORDER,
    ("alarms", "return {'constant': ['zero'], 'shared': ['zero', 'mean', 'other'], 'carrier': ['zero', 'mean', 'other', 'twin']}[kind] -> return {'constant': ['zero'], 'shared': ['zero', 'mean', 'other'], 'carrier': ['mean', 'zero', 'other', 'twin']}[kind]"): ORDER,
    ("alarms", "return {'constant': ['zero'], 'shared': ['zero', 'mean', 'other'], 'carrier': ['zero', 'mean', 'other', 'twin']}[kind] -> return {'constant': ['zero'], 'shared': ['zero', 'mean', 'other'], 'carrier': ['zero', 'other', 'mean', 'twin']}[kind]"): ORDER,
    ("direct_logit_attribution", 'return (embedding, torch.stack(heads, dim=1)) -> return (embedding, torch.stack(heads, dim=-2))'): AXIS,
    ("activation_patch", 'x = x.clone() -> x = x'): FRESH,
    ("patch_sweep", "cells = range(clean.shape[1] if kind == 'resid_pre' else n_heads) -> cells = range(corrupted.shape[1] if kind == 'resid_pre' else n_heads)"): SAME_SIZE,
    ("patch_sweep", 'prompt = torch.arange(len(clean)) -> prompt = torch.arange(len(corrupted))'): SAME_SIZE,
    ("patch_sweep", 'return (logits[prompt, -1, right] - logits[prompt, -1, wrong]).mean().item() -> return (logits[prompt, -1, right] - logits[prompt, -1, wrong]).sum().item()'): SCALE,
    ("patch_sweep", 'x = x.clone() -> x = x'): FRESH,
    ("ways_that_find", "return {'or': ['denoise'], 'and': ['noise'], 'sum': ['denoise', 'noise']}[circuit] -> return {'or': ['denoise'], 'and': ['noise'], 'sum': ['noise', 'denoise']}[circuit]"): ORDER,
    ("patch_qkv", 'x = x.clone() -> x = x'): FRESH,
    ("patch_qkv", 'prompt = torch.arange(len(clean)) -> prompt = torch.arange(len(corrupted))'): SAME_SIZE,
    ("patch_qkv", 'return (logits[prompt, -1, right] - logits[prompt, -1, wrong]).mean().item() -> return (logits[prompt, -1, right] - logits[prompt, -1, wrong]).sum().item()'): SCALE,
    ("attribution_patch", "kinds = ('resid_pre', 'q', 'k', 'v', 'z') -> kinds = ('resid_pre', 'q', 'k', 'z', 'v')"): DICT,
    ("attribution_patch", 'return {name: ((source[name] - x.detach()) * gradient).sum((0, -1)) for (name, x), gradient in zip(seen.items(), gradients, strict=True)} -> return {name: ((source[name] - x) * gradient).sum((0, -1)) for (name, x), gradient in zip(seen.items(), gradients, strict=True)}'): DETACH,
    ("attribution_patch", 'return {name: ((source[name] - x.detach()) * gradient).sum((0, -1)) for (name, x), gradient in zip(seen.items(), gradients, strict=True)} -> return {name: ((source[name] - x.detach()) * gradient).sum((-1, 0)) for (name, x), gradient in zip(seen.items(), gradients, strict=True)}'): ORDER_OF_AXES,
    ("attribution_patch", "kinds = ('resid_pre', 'q', 'k', 'v', 'z') -> kinds = ('resid_pre', 'q', 'v', 'k', 'z')"): DICT,
    ("attribution_patch", "kinds = ('resid_pre', 'q', 'k', 'v', 'z') -> kinds = ('q', 'resid_pre', 'k', 'v', 'z')"): DICT,
    ("attribution_patch", "kinds = ('resid_pre', 'q', 'k', 'v', 'z') -> kinds = ('resid_pre', 'k', 'q', 'v', 'z')"): DICT,
    ("where_attribution_fails", 'return [(0, 12), (1, 13)] -> return [(1, 13), (0, 12)]'): ORDER,
    ("causal_trace", 'x = x.clone() -> x = x'): FRESH,
    ("causal_trace", 'return logits[:, -1].softmax(-1)[torch.arange(len(answer)), answer] -> return logits[:, -1].softmax(1)[torch.arange(len(answer)), answer]'): AXIS,
    ("causal_trace", "hooks = [('hook_embed', add_noise), (name, restore)] -> hooks = [(name, restore), ('hook_embed', add_noise)]"): HOOKS,
    ("causal_trace", 'x = x.clone() -> x = x'): FRESH,
    ("path_patch", 'x = x.clone() -> x = x'): FRESH,
    ("edge_attribution", "effects[f'{sender}->logits'] = (change[:, -1] * direction).sum(-1).mean().item() -> effects[f'{sender}->logits'] = (change[:, -1] * direction).sum(-1, keepdim=True).mean().item()"): KEPT,
    ("edge_attribution", "effects[f'{sender}->logits'] = (change[:, -1] * direction).sum(-1).mean().item() -> effects[f'{sender}->logits'] = (change[:, -1] * direction).sum(1).mean().item()"): AXIS,
    ("unexplained_effect", 'model.run_with_hooks(corrupted, fwd_hooks=hooks) -> model.run_with_hooks(clean, fwd_hooks=hooks)'): ALL_HOOKED,
    ("unexplained_effect", 'x = cache[hook.name].clone() -> x = cache[hook.name]'): FRESH,
    ("unexplained_effect", 'at_clean, at_circuit, at_corrupted = ((x[prompt, right] - x[prompt, wrong]).mean() for x in runs) -> at_clean, at_circuit, at_corrupted = ((x[prompt, right] - x[prompt, wrong]).sum() for x in runs)'): SCALE,
    ("unexplained_effect", 'prompt = torch.arange(len(clean)) -> prompt = torch.arange(len(corrupted))'): SAME_SIZE,
    ("k_fix", 'rows.append(((new.softmax(-1) - pattern) * gradient).sum((0, 2, 3))) -> rows.append(((new.softmax(-1) - pattern) * gradient).sum((0, 3, 2)))'): ORDER_OF_AXES,
    ("k_fix", 'rows.append(((new.softmax(-1) - pattern) * gradient).sum((0, 2, 3))) -> rows.append(((new.softmax(-1) - pattern) * gradient).sum((2, 0, 3)))'): ORDER_OF_AXES,
    ("k_fix", 'rows.append(((new.softmax(-1) - pattern) * gradient).sum((0, 2, 3))) -> rows.append(((new.softmax(-1) - pattern) * gradient).sum((0, -2, 3)))'): AXIS,
    ("k_fix", 'rows.append(((new.softmax(-1) - pattern) * gradient).sum((0, 2, 3))) -> rows.append(((new.softmax(-1) - pattern) * gradient).sum((0, 2, -1)))'): AXIS,
    ("k_fix", "names = [get_act_name(kind, layer) for layer in layers for kind in ('q', 'k', 'attn_scores', 'pattern')] -> names = [get_act_name(kind, layer) for layer in layers for kind in ('q', 'attn_scores', 'k', 'pattern')]"): HOOKS,
    ("k_fix", "names = [get_act_name(kind, layer) for layer in layers for kind in ('q', 'k', 'attn_scores', 'pattern')] -> names = [get_act_name(kind, layer) for layer in layers for kind in ('q', 'k', 'pattern', 'attn_scores')]"): HOOKS,
    ("k_fix", "names = [get_act_name(kind, layer) for layer in layers for kind in ('q', 'k', 'attn_scores', 'pattern')] -> names = [get_act_name(kind, layer) for layer in layers for kind in ('k', 'q', 'attn_scores', 'pattern')]"): HOOKS,
    ("k_fix", 'for place in range(clean.shape[1]): -> for place in range(corrupted.shape[1]):'): SAME_SIZE,
    ("k_fix", "q, k, scores, pattern = (seen[get_act_name(kind, layer)].detach() for kind in ('q', 'k', 'attn_scores', 'pattern')) -> q, k, scores, pattern = (seen[get_act_name(kind, layer)] for kind in ('q', 'k', 'attn_scores', 'pattern'))"): DETACH,
    ("overlooked_head", "changes.append(torch.einsum('bhe,hed,bd->bh', z, model.W_O[layer], direction).mean(0)) -> changes.append(torch.einsum('bhe,hed,bd->bh', z, model.W_O[layer], direction).mean(-2))"): AXIS,
    ("overlooked_head", 'restored[written.abs() >= 0.05] = -torch.inf -> restored[written.abs() > 0.05] = -torch.inf'): LIMIT,
    ("overlooked_head", '(_, here), (_, there) = (model.run_with_cache(tokens) for tokens in (clean, corrupted)) -> (_, here), (_, there) = (model.run_with_cache(tokens) for tokens in (corrupted, clean))'): EITHER_SIGN,
    ("smallest_circuit", "into_queries = [f'{sender}->{head}.q' for sender in ('embed', '0.0', '0.6') for head in ('1.3', '1.6')] -> into_queries = [f'{sender}->{head}.q' for sender in ('embed', '0.6', '0.0') for head in ('1.3', '1.6')]"): ORDER,
    ("smallest_circuit", "into_queries = [f'{sender}->{head}.q' for sender in ('embed', '0.0', '0.6') for head in ('1.3', '1.6')] -> into_queries = [f'{sender}->{head}.q' for sender in ('0.0', 'embed', '0.6') for head in ('1.3', '1.6')]"): ORDER,
    ("smallest_circuit", "into_queries = [f'{sender}->{head}.q' for sender in ('embed', '0.0', '0.6') for head in ('1.3', '1.6')] -> into_queries = [f'{sender}->{head}.q' for sender in ('embed', '0.0', '0.6') for head in ('1.6', '1.3')]"): ORDER,
    ("smallest_circuit", "return ['embed->0.0.v', 'embed->0.6.v', *into_queries, '1.3->logits', '1.6->logits'] -> return ['embed->0.0.v', 'embed->0.6.v', '1.3->logits', *into_queries, '1.6->logits']"): ORDER,
    ("smallest_circuit", "return ['embed->0.0.v', 'embed->0.6.v', *into_queries, '1.3->logits', '1.6->logits'] -> return ['embed->0.6.v', 'embed->0.0.v', *into_queries, '1.3->logits', '1.6->logits']"): ORDER,
    ("smallest_circuit", "return ['embed->0.0.v', 'embed->0.6.v', *into_queries, '1.3->logits', '1.6->logits'] -> return ['embed->0.0.v', *into_queries, 'embed->0.6.v', '1.3->logits', '1.6->logits']"): ORDER,
    ("smallest_circuit", "return ['embed->0.0.v', 'embed->0.6.v', *into_queries, '1.3->logits', '1.6->logits'] -> return ['embed->0.0.v', 'embed->0.6.v', *into_queries, '1.6->logits', '1.3->logits']"): ORDER,
    # 5_mlps
    ("fold_layer_norm", 'for W in (attn.W_O, attn.b_O, mlp.W_out, mlp.b_out): -> for W in (attn.W_O, mlp.W_out, attn.b_O, mlp.b_out):'): LOOP,
    ("fold_layer_norm", 'for W in (attn.W_O, attn.b_O, mlp.W_out, mlp.b_out): -> for W in (attn.W_O, attn.b_O, mlp.b_out, mlp.W_out):'): LOOP,
    ("fold_layer_norm", 'for W, b in ((attn.W_Q, attn.b_Q), (attn.W_K, attn.b_K), (attn.W_V, attn.b_V)): -> for W, b in ((attn.W_Q, attn.b_Q), (attn.W_V, attn.b_V), (attn.W_K, attn.b_K)):'): LOOP,
    ("fold_layer_norm", 'new.embed.W_E -= new.W_E.mean(-1, keepdim=True) -> new.embed.W_E -= new.W_E.mean(1, keepdim=True)'): AXIS,
    ("fold_layer_norm", 'for W in (attn.W_O, attn.b_O, mlp.W_out, mlp.b_out): -> for W in (attn.b_O, attn.W_O, mlp.W_out, mlp.b_out):'): LOOP,
    ("fold_layer_norm", 'for W, b in ((attn.W_Q, attn.b_Q), (attn.W_K, attn.b_K), (attn.W_V, attn.b_V)): -> for W, b in ((attn.W_K, attn.b_K), (attn.W_Q, attn.b_Q), (attn.W_V, attn.b_V)):'): LOOP,
    ("frozen_scale_logits", 'return torch.stack([*logits, constant.expand_as(logits[0])]) -> return torch.stack([*logits, constant.expand_as(logits[1])])'): SAME_SHAPE,
    ("frozen_scale_logits", 'return torch.stack([*logits, constant.expand_as(logits[0])]) -> return torch.stack([*logits, constant.expand_as(logits[-1])])'): SAME_SHAPE,
    ("pattern_f1", 'return 2 * both / (fires.sum(0)[:, None] + labels.sum(0)).clamp(min=1) -> return 2 * both / (fires.sum(-2)[:, None] + labels.sum(0)).clamp(min=1)'): AXIS,
    ("pattern_f1", 'return 2 * both / (fires.sum(0)[:, None] + labels.sum(0)).clamp(min=1) -> return 2 * both / (fires.sum(0)[:, None] + labels.sum(0)).clamp(min=2)'): ONE_FIRING,
    ("pattern_f1", 'return 2 * both / (fires.sum(0)[:, None] + labels.sum(0)).clamp(min=1) -> return 2 * both / (fires.sum(0)[:, None] + labels.sum(-2)).clamp(min=1)'): AXIS,
    ("pattern_f1", 'return 2 * both / (fires.sum(0)[:, None] + labels.sum(0)).clamp(min=1) -> return 2 * both / (fires.sum(0)[:, None] + labels.sum(0, keepdim=True)).clamp(min=1)'): KEPT,
    ("value_agreement", "best = cache['pre', layer][:, :-1].flatten(0, 1).argmax(0) -> best = cache['pre', layer][:, :-1].flatten(0, 1).argmax(-2)"): AXIS,
    ("value_agreement", 'return tokens[:, 1:].flatten()[best] == values.argmax(-1) -> return tokens[:, 1:].flatten()[best] == values.argmax(1)'): AXIS,
    ("value_agreement", 'values = (W_out - W_out.mean(-1, keepdim=True)) * model.ln_final.w @ model.W_U -> values = (W_out - W_out.mean(1, keepdim=True)) * model.ln_final.w @ model.W_U'): AXIS,
    ("composed_share", 'return (~proposed.any(-1)).float().mean().item() -> return (~proposed.any(-1, keepdim=True)).float().mean().item()'): KEPT,
    ("mlp_path_expansion", 's_mid, s = ((x.pow(2).mean(-1, keepdim=True) + model.cfg.eps).sqrt() for x in (mid, final)) -> s_mid, s = ((x.pow(2).mean(1, keepdim=True) + model.cfg.eps).sqrt() for x in (mid, final))'): AXIS,
    ("driven_neuron", "names = [get_act_name('result', layer), get_act_name('resid_mid', layer)] -> names = [get_act_name('resid_mid', layer), get_act_name('result', layer)]"): ORDER_NAMES,
    ("driven_neuron", "scale = (cache['resid_mid', layer].pow(2).mean(-1, keepdim=True) + model.cfg.eps).sqrt() -> scale = (cache['resid_mid', layer].pow(2).sum(-1, keepdim=True) + model.cfg.eps).sqrt()"): SCALE_EPS,
    ("driven_neuron", "scale = (cache['resid_mid', layer].pow(2).mean(-1, keepdim=True) + model.cfg.eps).sqrt() -> scale = cache['resid_mid', layer].pow(2).mean(-1, keepdim=True).sqrt()"): SCALE_EPS,
    ("kurtosis", 'c = x - x.mean(-1, keepdim=True) -> c = x - x.mean(1, keepdim=True)'): AXIS,
    ("kurtosis", 'return (c.pow(4).mean(-1) / c.pow(2).mean(-1) ** 2).mean().item() -> return (c.pow(4).mean(-1) / c.pow(2).mean(1) ** 2).mean().item()'): AXIS,
    ("kurtosis", 'return (c.pow(4).mean(-1) / c.pow(2).mean(-1) ** 2).mean().item() -> return (c.pow(4).mean(1) / c.pow(2).mean(-1) ** 2).mean().item()'): AXIS,
    ("neuron_partners", 'c = x - x.mean(0) -> c = x - x.mean(-2)'): AXIS,
    ("neuron_partners", 'return c / c.norm(dim=0).clamp(min=1e-08) -> return c / c.norm(dim=0).clamp(min=5e-09)'): FLOOR,
    ("neuron_partners", 'c = x - x.mean(0) -> c = x - x.mean(0, keepdim=True)'): KEPT,
    ("neuron_partners", 'return c / c.norm(dim=0).clamp(min=1e-08) -> return c / c.norm(dim=0, keepdim=True).clamp(min=1e-08)'): KEPT,
    ("neuron_partners", 'return c / c.norm(dim=0).clamp(min=1e-08) -> return c / c.norm(dim=0).clamp(min=2e-08)'): FLOOR,
    ("neuron_partners", 'return c / c.norm(dim=0).clamp(min=1e-08) -> return c / c.norm(dim=-2).clamp(min=1e-08)'): AXIS,
    ("named_neurons", 'return [(0, 453, "token \'def\' & keyword", 4.5), (1, 211, "after definition & before token \'self\'", 5.6), (1, 953, "token \'):\' & after token \'self\'", 6.2)] -> return [(1, 211, "after definition & before token \'self\'", 5.6), (0, 453, "token \'def\' & keyword", 4.5), (1, 953, "token \'):\' & after token \'self\'", 6.2)]'): ORDER,
    ("named_neurons", 'return [(0, 453, "token \'def\' & keyword", 4.5), (1, 211, "after definition & before token \'self\'", 5.6), (1, 953, "token \'):\' & after token \'self\'", 6.2)] -> return [(0, 453, "token \'def\' & keyword", 4.5), (1, 953, "token \'):\' & after token \'self\'", 6.2), (1, 211, "after definition & before token \'self\'", 5.6)]'): ORDER,
    ("opposed_pair", 'return (1, 253, 844) -> return (1, 844, 253)'): ORDER,
    ("max_activating_input", 'if drives.max() > most + 1e-05: -> if drives.max() > most + 2e-05:'): MARGIN,
    ("max_activating_input", 'best, most, better = (tries[drives.argmax()].clone(), drives.max().item(), True) -> best, most, better = (tries[drives.argmax()], drives.max().item(), True)'): FRESH,
    ("max_activating_input", 'if drives.max() > most + 1e-05: -> if drives.max() > most:'): MARGIN,
    ("max_activating_input", 'if drives.max() > most + 1e-05: -> if drives.max() > most + 5e-06:'): MARGIN,
    ("max_activating_input", 'best, most = (tokens.clone(), drive(tokens[None]).item()) -> best, most = (tokens, drive(tokens[None]).item())'): FRESH,
    ("max_activating_input", 'best, most = (tokens.clone(), drive(tokens[None]).item()) -> best, most = (tokens.clone(), drive(tokens).item())'): MODEL_BATCH,
    ("max_activating_input", 'if drives.max() > most + 1e-05: -> if drives.max() >= most + 1e-05:'): MARGIN,
}
