"""Known wrong answers to chapter 1, each with the hint it deserves. A learner whose answer does
what one of these does is shown its hint."""

import copy
import math

import torch
import torch.nn.functional as F

from circuits.checking import mistake

# bigram_counts ------------------------------------------------------------------------------


def _table(a, b, d_vocab):
    return torch.bincount(a * d_vocab + b, minlength=d_vocab**2).reshape(d_vocab, d_vocab)


@mistake("bigram_counts", hint="Rows and columns are exchanged: `counts[a, b]` is for a followed by b, so the *first* token of a pair chooses the row.")
def transposed(tokens, d_vocab):
    return _table(tokens[1:], tokens[:-1], d_vocab)


@mistake("bigram_counts", hint="Every pair counts once here, however often it occurs. (With repeated indices, `counts[a, b] += 1` adds only once: use `torch.bincount`, `index_put_(..., accumulate=True)` or `index_add_`.)")
def adds_once_per_distinct_pair(tokens, d_vocab):
    counts = torch.zeros(d_vocab, d_vocab, dtype=torch.long)
    counts[tokens[:-1], tokens[1:]] += 1
    return counts


@mistake("bigram_counts", hint="The last pair is missing: a text of n tokens has n - 1 pairs, the last of which ends in the last token.")
def misses_the_last_pair(tokens, d_vocab):
    return _table(tokens[:-2], tokens[1:-1], d_vocab)


@mistake("bigram_counts", hint="The last token is paired with the first, as if the text were a circle (`roll` does this). It has no successor.")
def wraps_around(tokens, d_vocab):
    return _table(tokens, tokens.roll(-1), d_vocab)


@mistake("bigram_counts", hint="Pairs overlap: every token but the last starts one. You step two tokens at a time.")
def counts_disjoint_pairs(tokens, d_vocab):
    n = len(tokens) // 2 * 2
    return _table(tokens[:n:2], tokens[1:n:2], d_vocab)


@mistake("bigram_counts", hint="You pair each token with the one *two* places on. Direct neighbours are `tokens[:-1]` and `tokens[1:]`.")
def skips_a_token(tokens, d_vocab):
    return _table(tokens[:-2], tokens[2:], d_vocab)


@mistake("bigram_counts", hint="The table is as large as the tokens that occur; it needs a row and a column for each of the `d_vocab` tokens. (`minlength` sees to it.)")
def table_of_the_tokens_that_occur(tokens, d_vocab):
    return _table(tokens[:-1], tokens[1:], int(tokens.max()) + 1)


@mistake("bigram_counts", hint="The integers of your table are too narrow: above 255 a `uint8` starts again at 0, above 32,767 an `int16` below it. `torch.bincount` gives wide ones.")
def counts_in_8_bits(tokens, d_vocab):
    return _table(tokens[:-1], tokens[1:], d_vocab).to(torch.uint8)


@mistake("bigram_counts", hint="The integers of your table are too narrow: above 255 a `uint8` starts again at 0, above 32,767 an `int16` below it. `torch.bincount` gives wide ones.")
def counts_in_16_bits(tokens, d_vocab):
    return _table(tokens[:-1], tokens[1:], d_vocab).to(torch.int16)


@mistake("bigram_counts", hint="You count a pair in both orders. `counts[a, b]` is for a followed by b alone.")
def counts_both_orders(tokens, d_vocab):
    counts = _table(tokens[:-1], tokens[1:], d_vocab)
    return counts + counts.T


# unseen_share -------------------------------------------------------------------------------


@mistake("unseen_share", hint="That is the share of *cells* that are empty. Asked is for a share of what occurs: of all sightings, those whose pair the rest does not know.")
def share_of_empty_cells(counts):
    return (counts == 0).float().mean()


@mistake("unseen_share", hint="You divide by the number of different pairs. A new token of text is a new *sighting*: divide by how many there are, `counts.sum()`.")
def of_the_kinds_of_pairs(counts):
    return (counts == 1).sum() / (counts > 0).sum()


@mistake("unseen_share", hint="You divide by the number of cells. Divide by the number of sightings, `counts.sum()`.")
def of_the_cells(counts):
    return (counts == 1).float().mean()


@mistake("unseen_share", hint="Pairs with a count of 0 have no sighting that could be taken away: only those with a count of exactly 1 count.")
def at_most_once(counts):
    return (counts <= 1).sum() / counts.sum()


@mistake("unseen_share", hint="That is the share of sightings whose pair the rest *does* know; asked is for the others, 1 minus it.")
def the_others(counts):
    return 1 - (counts == 1).sum() / counts.sum()


@mistake("unseen_share", hint="You look for *tokens* that were seen once. It is pairs, single cells of the table, that are new or not.")
def tokens_seen_once(counts):
    return (counts.sum(dim=1) == 1).sum() / counts.sum()


@mistake("unseen_share", hint="You take a pair for unknown as soon as it is rare. With a count of 2, one sighting is left when the other is taken away: the rest knows the pair.")
def at_most_twice(counts):
    return counts[(counts == 1) | (counts == 2)].sum() / counts.sum()


@mistake("unseen_share", hint="That is how many pairs have a count of 1. A share is that divided by the number of sightings.")
def how_many(counts):
    return (counts == 1).sum().double()


# bigram_log_probs ---------------------------------------------------------------------------


@mistake("bigram_log_probs", hint="Each row is a distribution over the *next* token: normalise along dim=-1.")
def normalises_over_previous_token(counts, alpha):
    smoothed = counts + alpha
    return (smoothed / smoothed.sum(dim=0, keepdim=True)).log()


@mistake("bigram_log_probs", hint="You divide by the sum of the whole table, which gives P(a, b). For P(b given a) divide each row by its own sum.")
def joint_probabilities(counts, alpha):
    smoothed = counts + alpha
    return (smoothed / smoothed.sum()).log()


@mistake("bigram_log_probs", hint="alpha is added to every count above the line, but not below it: each row's sum must grow by alpha times d_vocab.")
def alpha_only_above_the_line(counts, alpha):
    return ((counts + alpha) / counts.sum(dim=-1, keepdim=True)).log()


@mistake("bigram_log_probs", hint="Below the line alpha is added once; it is added to each of the row's d_vocab counts.")
def alpha_once_below_the_line(counts, alpha):
    return ((counts + alpha) / (counts.sum(dim=-1, keepdim=True) + alpha)).log()


@mistake("bigram_log_probs", hint="These are probabilities. Take their logarithm.")
def forgets_the_logarithm(counts, alpha):
    smoothed = counts + alpha
    return smoothed / smoothed.sum(dim=-1, keepdim=True)


@mistake("bigram_log_probs", hint="This logarithm is to base 2, which counts bits. The course counts nats: use the natural logarithm.")
def bits(counts, alpha):
    smoothed = counts + alpha
    return (smoothed / smoothed.sum(dim=-1, keepdim=True)).log2()


@mistake("bigram_log_probs", hint="You add 1 to every count, whatever `alpha` is.")
def always_adds_one(counts, alpha):
    smoothed = counts + 1.0
    return (smoothed / smoothed.sum(dim=-1, keepdim=True)).log()


@mistake("bigram_log_probs", hint="`log_softmax` exponentiates the counts first. They are already proportional to probabilities: divide them by their sum.")
def softmax_of_counts(counts, alpha):
    return (counts + alpha).log_softmax(dim=-1)


@mistake("bigram_log_probs", hint="Each row must be divided by its own sum. Without `keepdim=True`, the sums line up with the columns.")
def sums_without_keepdim(counts, alpha):
    smoothed = counts + alpha
    return (smoothed / smoothed.sum(dim=-1)).log()


@mistake("bigram_log_probs", hint="The counts are integers, and `+=` cannot put a fraction into them. `counts + alpha` makes a new tensor, of floats.")
def adds_in_place(counts, alpha):
    counts += alpha
    return (counts / counts.sum(dim=-1, keepdim=True)).log()


@mistake("bigram_log_probs", hint="You add alpha to the shares. It belongs to the counts: add it first, then divide by the row's sum.")
def alpha_after_normalising(counts, alpha):
    p = counts / counts.sum(dim=-1, keepdim=True).clamp(min=1) + alpha
    return (p / p.sum(dim=-1, keepdim=True)).log()


@mistake("bigram_log_probs", hint="You put alpha into empty cells only. It is added to every count.")
def alpha_in_empty_cells_only(counts, alpha):
    smoothed = torch.where(counts == 0, alpha, counts.float())
    return (smoothed / smoothed.sum(dim=-1, keepdim=True)).log()


@mistake("bigram_log_probs", hint="You subtract the sum of the logarithms. What is to be subtracted is the logarithm of the row's *sum*.")
def subtracts_the_sum_of_logarithms(counts, alpha):
    logs = (counts + alpha).log()
    return logs - logs.sum(dim=-1, keepdim=True)


# conditional_entropy ------------------------------------------------------------------------


def _entropy_parts(counts):
    p_pair = counts / counts.sum()
    p_next = counts / counts.sum(dim=-1, keepdim=True).clamp(min=1)
    return p_pair, p_next


@mistake("conditional_entropy", hint="This is in bits. With the natural logarithm it is in nats.")
def entropy_in_bits(counts):
    p_pair, p_next = _entropy_parts(counts)
    return -torch.xlogy(p_pair, p_next).sum() / torch.tensor(2.0).log()


@mistake("conditional_entropy", hint="You average the rows' entropies with equal weights. A token that comes up often must count more: weight row a by P(a).")
def rows_weigh_the_same(counts):
    _, p_next = _entropy_parts(counts)
    return -torch.xlogy(p_next, p_next).sum(dim=-1).mean()


@mistake("conditional_entropy", hint="You add up the rows' entropies. Average them, row a with weight P(a).")
def sums_the_rows(counts):
    _, p_next = _entropy_parts(counts)
    return -torch.xlogy(p_next, p_next).sum()


@mistake("conditional_entropy", hint="This is the entropy of pairs. Inside the logarithm belongs P(b given a), not P(a, b).")
def entropy_of_pairs(counts):
    p_pair, _ = _entropy_parts(counts)
    return -torch.xlogy(p_pair, p_pair).sum()


@mistake("conditional_entropy", hint="This is the uncertainty about a token when nothing is known. Given the present token, it is less.")
def entropy_of_single_tokens(counts):
    p = counts.sum(dim=0) / counts.sum()
    return -torch.xlogy(p, p).sum()


@mistake("conditional_entropy", hint="Empty cells gave 0 times log 0, which is NaN here and 0 by convention: use `torch.xlogy`, or leave these cells out.")
def nan_from_empty_cells(counts):
    p_pair = counts / counts.sum()
    p_next = counts / counts.sum(dim=-1, keepdim=True)
    return -(p_pair * p_next.log()).sum()


@mistake("conditional_entropy", hint="The sign is wrong: logarithms of probabilities are negative, an entropy is not.")
def negative_entropy(counts):
    p_pair, p_next = _entropy_parts(counts)
    return torch.xlogy(p_pair, p_next).sum()


@mistake("conditional_entropy", hint="The rows of the table are the tokens that are known. You condition on the columns, the tokens that come next.")
def conditions_on_the_next_token(counts):
    p_pair = counts / counts.sum()
    p_previous = counts / counts.sum(dim=0, keepdim=True).clamp(min=1)
    return -torch.xlogy(p_pair, p_previous).sum()


@mistake("conditional_entropy", hint="You weight a row by how often its token comes *next*, the sum of its column. Weight row a by how often a is the present token: the sum of the row.")
def weights_by_the_columns(counts):
    _, p_next = _entropy_parts(counts)
    return -(counts.sum(dim=0) / counts.sum() * torch.xlogy(p_next, p_next).sum(dim=-1)).sum()


@mistake("conditional_entropy", hint="You add 1 to every count. That changes the distribution: for empty cells, `torch.xlogy` is enough.")
def adds_one_to_every_count(counts):
    p_next = (counts + 1) / (counts + 1).sum(dim=-1, keepdim=True)
    return -(counts.sum(dim=-1) / counts.sum() * (p_next * p_next.log()).sum(dim=-1)).sum()


@mistake("conditional_entropy", hint="This is the logarithm of the number of different successors, which is the entropy only if all are equally likely.")
def logarithm_of_the_number_of_successors(counts):
    return (counts.sum(dim=-1) / counts.sum() * (counts > 0).sum(dim=-1).clamp(min=1).log()).sum()


@mistake("conditional_entropy", hint="This is how much the present token *tells* about the next, the mutual information. You are asked for what stays uncertain.")
def mutual_information(counts):
    p = counts / counts.sum()
    first, second = p.sum(dim=1), p.sum(dim=0)
    return torch.xlogy(p, p).sum() - torch.xlogy(first, first).sum() - torch.xlogy(second, second).sum()


# cross_entropy_of_table ---------------------------------------------------------------------


@mistake("cross_entropy_of_table", hint="The indices are exchanged: the row is the present token, the column the next one.")
def looks_up_the_reversed_pair(log_probs, tokens):
    return -log_probs[tokens[1:], tokens[:-1]].mean()


@mistake("cross_entropy_of_table", hint="This is the sum over all pairs; the loss is their mean.")
def sums_the_losses(log_probs, tokens):
    return -log_probs[tokens[:-1], tokens[1:]].sum()


@mistake("cross_entropy_of_table", hint="You divide by the number of tokens. A text of n tokens has n - 1 predictions.")
def divides_by_the_tokens(log_probs, tokens):
    return -log_probs[tokens[:-1], tokens[1:]].sum() / len(tokens)


@mistake("cross_entropy_of_table", hint="The minus is missing: log-probabilities are negative, a loss is not.")
def no_minus(log_probs, tokens):
    return log_probs[tokens[:-1], tokens[1:]].mean()


@mistake("cross_entropy_of_table", hint="This is in bits: you divided by log 2. Leave it in nats.")
def loss_in_bits(log_probs, tokens):
    return -log_probs[tokens[:-1], tokens[1:]].mean() / torch.tensor(2.0).log()


@mistake("cross_entropy_of_table", hint="This is the perplexity, exp(loss). Return the loss itself.")
def perplexity(log_probs, tokens):
    return (-log_probs[tokens[:-1], tokens[1:]].mean()).exp()


@mistake("cross_entropy_of_table", hint="You look up how likely each token is to follow *itself*. The column is the next token of the text, `tokens[1:]`.")
def predicts_the_present_token(log_probs, tokens):
    return -log_probs[tokens, tokens].mean()


@mistake("cross_entropy_of_table", hint="`log_probs[a][:, b]` is every row with every column. Index with both at once, `log_probs[a, b]`, to get one cell per pair.")
def every_row_with_every_column(log_probs, tokens):
    return -log_probs[tokens[:-1]][:, tokens[1:]].mean()


@mistake("cross_entropy_of_table", hint="You average probabilities, and then take the logarithm. It is the other way round: the mean of the logarithms.")
def logarithm_of_the_mean_probability(log_probs, tokens):
    return -log_probs[tokens[:-1], tokens[1:]].exp().mean().log()


@mistake("cross_entropy_of_table", hint="This is the entropy of the rows: what comes next in the text is not looked at. Look up the cell of each pair.")
def entropy_of_the_rows(log_probs, tokens):
    rows = log_probs[tokens[:-1]]
    return -(rows.exp() * rows).sum(-1).mean()


@mistake("cross_entropy_of_table", hint="Every pair counts once here. One that occurs twice in the text counts twice.")
def every_pair_once(log_probs, tokens):
    a, b = torch.stack([tokens[:-1], tokens[1:]]).unique(dim=1)
    return -log_probs[a, b].mean()


@mistake("cross_entropy_of_table", hint="The last token is paired with the first, as if the text were a circle (`roll` does this). It has no successor.")
def wraps_the_text_around(log_probs, tokens):
    return -log_probs[tokens, tokens.roll(-1)].mean()


# zero_layer_logits --------------------------------------------------------------------------


@mistake("zero_layer_logits", hint="These are probabilities. Logits are what comes before the softmax.")
def returns_probabilities(W_E, W_U, tokens):
    return (W_E[tokens] @ W_U).softmax(-1)


@mistake("zero_layer_logits", hint="These are log-probabilities. Logits are what comes before the softmax: return `x @ W_U` as it is.")
def returns_log_probabilities(W_E, W_U, tokens):
    return (W_E[tokens] @ W_U).log_softmax(-1)


@mistake("zero_layer_logits", hint="You unembed with W_E transposed. The unembedding is a matrix of its own, `W_U`.")
def ties_the_unembedding(W_E, W_U, tokens):
    return W_E[tokens] @ W_E.T


@mistake("zero_layer_logits", hint="You average over the positions. Nothing moves between positions here: each keeps its own vector.")
def averages_over_positions(W_E, W_U, tokens):
    x = W_E[tokens]
    return x.mean(dim=1, keepdim=True).expand_as(x) @ W_U


@mistake("zero_layer_logits", hint="You add up all tokens so far. Without layers, no position hears of the others.")
def adds_earlier_positions(W_E, W_U, tokens):
    return W_E[tokens].cumsum(dim=1) @ W_U


@mistake("zero_layer_logits", hint="You return logits for the last position only; they are wanted at every position, `[batch pos d_vocab]`.")
def only_the_last_position(W_E, W_U, tokens):
    return W_E[tokens[:, -1]] @ W_U


@mistake("zero_layer_logits", hint="The logits are shifted by one position: those at position i are computed from the token at i, though they predict the one at i + 1.")
def shifted_by_one(W_E, W_U, tokens):
    return (W_E[tokens] @ W_U).roll(1, dims=1)


@mistake("zero_layer_logits", hint="Nothing is divided here: logits are the plain product. The root belongs to attention scores.")
def logits_over_the_root(W_E, W_U, tokens):
    return W_E[tokens] @ W_U / W_E.shape[1] ** 0.5


# positions_that_matter ----------------------------------------------------------------------


@mistake("positions_that_matter", hint="That would be a model with attention. Here no operation combines two positions: go through `zero_layer_logits` once more.")
def all_positions_so_far(pos):
    return list(range(pos + 1))


@mistake("positions_that_matter", hint="It is the present token that matters, the one at `pos` itself; the earlier ones do not.")
def all_earlier_positions(pos):
    return list(range(pos))


@mistake("positions_that_matter", hint="The prediction at `pos` is about position pos + 1, and is made from the token at `pos`, not the one before.")
def the_position_before(pos):
    return [pos - 1] if pos else []


@mistake("positions_that_matter", hint="A *bi*gram has two tokens, but one of them is the token being predicted. Only one is looked at.")
def the_last_two_positions(pos):
    return [pos - 1, pos] if pos else [pos]


@mistake("positions_that_matter", hint="Something must matter, or the model would always say the same. What does it look up in W_E?")
def none_at_all(pos):
    return []


@mistake("positions_that_matter", hint="The first token of a text has no special part in this model.")
def the_first_and_the_last(pos):
    return [0, pos]


@mistake("positions_that_matter", hint="Position pos + 1 holds the token that is predicted; the model does not see it.")
def the_next_position(pos):
    return [pos + 1]


# direct_path --------------------------------------------------------------------------------


@mistake("direct_path", hint="This is the transpose: row a must hold the logits *after* token a.")
def transposed_path(W_E, W_U):
    return (W_E @ W_U).T


@mistake("direct_path", hint="This multiplies W_E by itself. The second factor is the unembedding, `W_U`.")
def embedding_twice(W_E, W_U):
    return W_E @ W_E.T


@mistake("direct_path", hint="This multiplies W_U by itself. The first factor is the embedding, `W_E`.")
def unembedding_twice(W_E, W_U):
    return W_U.T @ W_U


@mistake("direct_path", hint="The order is wrong: `W_U @ W_E` maps the residual stream to itself. A token is embedded first.")
def wrong_order(W_E, W_U):
    return W_U @ W_E


@mistake("direct_path", hint="These are probabilities; the direct path is the matrix of logits, before any softmax.")
def softmax_of_the_path(W_E, W_U):
    return (W_E @ W_U).softmax(-1)


@mistake("direct_path", hint="These are log-probabilities; the direct path is the product itself. (Its rank tells them apart.)")
def log_softmax_of_the_path(W_E, W_U):
    return (W_E @ W_U).log_softmax(-1)


@mistake("direct_path", hint="Nothing is divided here: logits are the plain product. The root belongs to attention scores.")
def path_over_the_root(W_E, W_U):
    return W_E @ W_U / W_E.shape[1] ** 0.5


@mistake("direct_path", hint="You subtract each row's mean. That leaves probabilities as they are, but the direct path is the product itself.")
def rows_of_the_path_centred(W_E, W_U):
    path = W_E @ W_U
    return path - path.mean(dim=-1, keepdim=True)


# top_next -----------------------------------------------------------------------------------


def _logits(model, token):
    return model(torch.tensor([[token]]))[0, -1]


@mistake("top_next", hint="These are the *least* probable tokens. `topk` takes the largest by default, `argsort` puts the smallest first.")
def least_probable(model, token, k):
    return _logits(model, token).argsort()[:k].tolist()


@mistake("top_next", hint="The right tokens, but the likeliest comes last. Turn the list round.")
def likeliest_last(model, token, k):
    return _logits(model, token).argsort()[-k:].tolist()


@mistake("top_next", hint="These are the tokens that lead *to* the given one. You read a column of the direct path; the logits after a token are its row.")
def reads_a_column(model, token, k):
    return (model.W_E @ model.W_U)[:, token].topk(k).indices.tolist()


@mistake("top_next", hint="These are the tokens with the most similar embeddings. What comes next is read off by the unembedding W_U.")
def nearest_embeddings(model, token, k):
    return (model.W_E @ model.W_E[token]).topk(k).indices.tolist()


@mistake("top_next", hint="These are the logits themselves (`topk(...).values`). Return the token ids, `.indices`.")
def values_instead_of_indices(model, token, k):
    return _logits(model, token).topk(k).values.tolist()


@mistake("top_next", hint="These are probabilities. Return the ids of the tokens, `.indices`.")
def probabilities_instead_of_indices(model, token, k):
    return _logits(model, token).softmax(-1).topk(k).values.tolist()


@mistake("top_next", hint="One token is missing at the front: you skip the likeliest. (Here the likeliest may be the token itself.)")
def skips_the_likeliest(model, token, k):
    return _logits(model, token).argsort(descending=True)[1 : k + 1].tolist()


@mistake("top_next", hint="You ignore `k`: it says how many tokens to return.")
def only_the_best(model, token, k):
    return [_logits(model, token).argmax().item()]


@mistake("top_next", hint="You let the model write: the likeliest token, then the likeliest after that one. All k tokens should be candidates for the place after the given token.")
def the_likeliest_chain(model, token, k):
    chain = []
    for _ in range(k):
        token = int(_logits(model, token).argmax())
        chain.append(token)
    return chain


@mistake("top_next", hint="The right tokens, but sorted by their numbers. The likeliest comes first.")
def sorted_by_number(model, token, k):
    return sorted(_logits(model, token).topk(k).indices.tolist())


@mistake("top_next", hint="You compare logits by their size. One far below zero makes a token *un*likely: leave out `abs`.")
def largest_in_size(model, token, k):
    return _logits(model, token).abs().topk(k).indices.tolist()


@mistake("top_next", hint="These are ranks of tokens: `argsort` of an `argsort`. One `argsort` gives the tokens in order.")
def ranks_for_tokens(model, token, k):
    return _logits(model, token).argsort(descending=True).argsort()[:k].tolist()


@mistake("top_next", hint="You leave the token itself out. It may well follow itself.")
def never_the_token_itself(model, token, k):
    logits = _logits(model, token)
    logits[token] = -torch.inf
    return logits.topk(k).indices.tolist()


# train_step ---------------------------------------------------------------------------------


def _loss(model, inputs, targets, **settings):
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), **settings)


def _stepped(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@mistake("train_step", hint="Gradients from the step before are still there, and `backward` adds to them: call `optimizer.zero_grad()` in every step.")
def never_clears_gradients(model, tokens, optimizer):
    loss = _loss(model, tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    optimizer.step()
    return loss.item()


@mistake("train_step", hint="The model is trained to repeat the present token. Logits at position i predict token i + 1: compare `logits[:, :-1]` with `tokens[:, 1:]`.")
def predicts_the_token_it_sees(model, tokens, optimizer):
    loss = _loss(model, tokens, tokens)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@mistake("train_step", hint="The model is trained to predict the token *before*: it is `logits[:, :-1]` against `tokens[:, 1:]`, not the other way round.")
def predicts_backwards(model, tokens, optimizer):
    loss = _loss(model, tokens[:, 1:], tokens[:, :-1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@mistake("train_step", hint="The loss is right but no weight moved: it takes `loss.backward()` and then `optimizer.step()`, with no `zero_grad()` in between.")
def never_steps(model, tokens, optimizer):
    return _loss(model, tokens[:, :-1], tokens[:, 1:]).item()


@mistake("train_step", hint="The step goes uphill: an optimizer already subtracts the gradient. Call `backward` on the loss, not on its negative.")
def climbs(model, tokens, optimizer):
    loss = _loss(model, tokens[:, :-1], tokens[:, 1:])
    optimizer.zero_grad()
    (-loss).backward()
    optimizer.step()
    return loss.item()


@mistake("train_step", hint="This is the sum over all predictions; nats *per token* is their mean (which is what `F.cross_entropy` gives by default).")
def sums_over_tokens(model, tokens, optimizer):
    loss = _loss(model, tokens[:, :-1], tokens[:, 1:], reduction="sum")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@mistake("train_step", hint="You return the loss *after* the step. Keep the one you called `backward` on: it costs nothing more.")
def returns_the_loss_after(model, tokens, optimizer):
    loss = _loss(model, tokens[:, :-1], tokens[:, 1:])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return _loss(model, tokens[:, :-1], tokens[:, 1:]).item()


@mistake("train_step", hint="`F.cross_entropy` takes logits and applies the softmax itself; you apply it once more before.")
def softmax_twice(model, tokens, optimizer):
    probs = model(tokens[:, :-1]).softmax(-1)
    loss = F.cross_entropy(probs.flatten(0, 1), tokens[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@mistake("train_step", hint="`F.cross_entropy` takes the classes in dimension 1. Flatten batch and position together: logits `[n d_vocab]`, targets `[n]`.")
def leaves_batch_and_position(model, tokens, optimizer):
    loss = F.cross_entropy(model(tokens)[:, :-1], tokens[:, 1:])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@mistake("train_step", hint="You compare the last prediction of a text with its first token (`roll` does this). Nothing comes after it: `logits[:, :-1]` and `tokens[:, 1:]`.")
def rolls_the_text(model, tokens, optimizer):
    return _stepped(optimizer, _loss(model, tokens, tokens.roll(-1, 1)))


@mistake("train_step", hint="You call `backward` on the sum over all predictions, so the step is as many times too large as there are predictions. Call it on the mean.")
def steps_by_the_sum(model, tokens, optimizer):
    loss = _loss(model, tokens[:, :-1], tokens[:, 1:], reduction="sum")
    return _stepped(optimizer, loss) / tokens[:, 1:].numel()


@mistake("train_step", hint="You train on the first text of the batch only. The loss is the mean over all texts.")
def trains_on_the_first_text(model, tokens, optimizer):
    return _stepped(optimizer, _loss(model, tokens[:1, :-1], tokens[:1, 1:]))


@mistake("train_step", hint="The loss is that of the last prediction only. Every position predicts: it is the mean over all of them.")
def trains_on_the_last_prediction(model, tokens, optimizer):
    return _stepped(optimizer, F.cross_entropy(model(tokens)[:, -2], tokens[:, -1]))


@mistake("train_step", hint="This is in bits: you divided by log 2. Leave it in nats.")
def reports_bits(model, tokens, optimizer):
    return _stepped(optimizer, _loss(model, tokens[:, :-1], tokens[:, 1:])) / math.log(2)


@mistake("train_step", hint="`reshape` keeps the numbers in the order in which they lie in memory, so the logits of one position fall to several. Use `transpose(1, 2)`, or flatten batch and position.")
def reshapes_for_a_transpose(model, tokens, optimizer):
    logits = model(tokens)[:, :-1]
    batch, pos, d_vocab = logits.shape
    return _stepped(optimizer, F.cross_entropy(logits.reshape(batch, d_vocab, pos), tokens[:, 1:]))


# mean_kl ------------------------------------------------------------------------------------


@mistake("mean_kl", hint="This is KL(q || p): expectations are taken under p, so the factor in front is `log_p.exp()` and the difference is `log_p - log_q`.")
def the_other_direction(log_p, log_q, weights):
    return (weights * (log_q.exp() * (log_q - log_p)).sum(-1)).sum()


@mistake("mean_kl", hint="The rows count equally here. Multiply each row's KL by its weight, then add up.")
def ignores_the_weights(log_p, log_q, weights):
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


@mistake("mean_kl", hint="The factor p is missing: under the sum over b stands p times the difference of logarithms.")
def no_expectation(log_p, log_q, weights):
    return (weights * (log_p - log_q).sum(-1)).sum()


@mistake("mean_kl", hint="You use the logarithms as if they were probabilities: p is `log_p.exp()`.")
def logarithm_as_probability(log_p, log_q, weights):
    return (weights * (log_p * (log_p - log_q)).sum(-1)).sum()


@mistake("mean_kl", hint="The weights belong to the rows (the token we stand on); yours multiply the columns. `weights[:, None]`, or sum over b first.")
def weights_on_columns(log_p, log_q, weights):
    return (weights * (log_p.exp() * (log_p - log_q))).sum()


@mistake("mean_kl", hint="This is the cross-entropy of q under p; subtract the entropy of p.")
def cross_entropy_only(log_p, log_q, weights):
    return -(weights * (log_p.exp() * log_q).sum(-1)).sum()


@mistake("mean_kl", hint="The sign is wrong: it is log p minus log q, which makes the KL positive.")
def negative_kl(log_p, log_q, weights):
    return (weights * (log_p.exp() * (log_q - log_p)).sum(-1)).sum()


@mistake("mean_kl", hint="You divide by d_vocab once too often (`mean` does it): a KL is a *sum* over b, and the weights sum to one already.")
def divides_once_more(log_p, log_q, weights):
    return (weights * (log_p.exp() * (log_p - log_q)).sum(-1)).mean()


@mistake("mean_kl", hint="You take the logarithm of a logarithm, which is NaN. `log_p` and `log_q` are logarithms already.")
def logarithm_twice(log_p, log_q, weights):
    return (weights * (log_p.exp() * (log_p.log() - log_q.log())).sum(-1)).sum()


@mistake("mean_kl", hint="The logarithms are multiplied by different probabilities. Both stand under p: `log_p.exp() * (log_p - log_q)`.")
def each_with_its_own_probability(log_p, log_q, weights):
    return (weights * (log_p.exp() * log_p - log_q.exp() * log_q).sum(-1)).sum()


@mistake("mean_kl", hint="You take absolute values. In a KL, tokens that q gives too much count with a minus.")
def absolute_differences(log_p, log_q, weights):
    return (weights * (log_p.exp() * (log_p - log_q).abs()).sum(-1)).sum()


@mistake("mean_kl", hint="This is the mean of both directions. KL(p || q) has p in front, only.")
def both_directions(log_p, log_q, weights):
    return (weights * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1)).sum() / 2


@mistake("mean_kl", hint="A probability too small for a float becomes 0 in `exp`, and then 0 / 0 or the logarithm of 0 gives NaN. The logarithms are given: subtract them.")
def logarithm_of_a_quotient(log_p, log_q, weights):
    p, q = log_p.exp(), log_q.exp()
    return (weights * (p * (p / q).log()).sum(-1)).sum()


@mistake("mean_kl", hint="A probability too small for a float becomes 0 in `exp`, and then 0 / 0 or the logarithm of 0 gives NaN. The logarithms are given: subtract them.")
def logarithms_of_exponentials(log_p, log_q, weights):
    p, q = log_p.exp(), log_q.exp()
    return (weights * (p * (p.log() - q.log())).sum(-1)).sum()


# best_rank_k --------------------------------------------------------------------------------


def _truncated(A, k):
    U, S, Vh = torch.linalg.svd(A, full_matrices=False)
    return (U[:, :k] * S[:k]) @ Vh[:k]


@mistake("best_rank_k", hint="You ignore the weights: scale the rows by the square roots of the weights before the SVD, and back after it.")
def unweighted(log_probs, weights, k):
    return _truncated(log_probs, k)


@mistake("best_rank_k", hint="You scale by the weights themselves. The error is *squared*, so scale by their square roots.")
def scales_without_the_root(log_probs, weights, k):
    scale = weights.clamp(min=1e-8)[:, None]
    return _truncated(scale * log_probs, k) / scale


@mistake("best_rank_k", hint="The rows are still scaled: divide by the square roots of the weights after the truncation.")
def never_scales_back(log_probs, weights, k):
    return _truncated(weights.clamp(min=1e-8).sqrt()[:, None] * log_probs, k)


@mistake("best_rank_k", hint="You keep the *smallest* singular values. They come sorted, largest first: keep the first k.")
def keeps_the_smallest(log_probs, weights, k):
    scale = weights.clamp(min=1e-8).sqrt()[:, None]
    U, S, Vh = torch.linalg.svd(scale * log_probs, full_matrices=False)
    return (U[:, -k:] * S[-k:]) @ Vh[-k:] / scale


@mistake("best_rank_k", hint="You keep one singular value too few: `S[:k]` holds k of them.")
def one_too_few(log_probs, weights, k):
    scale = weights.clamp(min=1e-8).sqrt()[:, None]
    return _truncated(scale * log_probs, k - 1) / scale


@mistake("best_rank_k", hint="You keep one singular value too many: `S[:k]` holds k of them.")
def one_too_many(log_probs, weights, k):
    scale = weights.clamp(min=1e-8).sqrt()[:, None]
    return _truncated(scale * log_probs, k + 1) / scale


@mistake("best_rank_k", hint="You weight the columns. The weights belong to the rows: `weights.sqrt()[:, None]`.")
def weights_the_columns(log_probs, weights, k):
    scale = weights.clamp(min=1e-8).sqrt()
    return _truncated(scale * log_probs, k) / scale


@mistake("best_rank_k", hint="A weight of 0 makes 0 / 0 = NaN when you scale back. Clamp the weights to something tiny before you take the root.")
def divides_by_zero(log_probs, weights, k):
    scale = weights.sqrt()[:, None]
    return _truncated(scale * log_probs, k) / scale


@mistake("best_rank_k", hint="The singular values are missing: the truncation is U[:, :k] times S[:k] times Vh[:k].")
def forgets_the_singular_values(log_probs, weights, k):
    scale = weights.clamp(min=1e-8).sqrt()[:, None]
    U, _, Vh = torch.linalg.svd(scale * log_probs, full_matrices=False)
    return U[:, :k] @ Vh[:k] / scale


@mistake("best_rank_k", hint="`torch.linalg.svd` returns V already transposed, as Vh: keep its first k *rows*, `Vh[:k]`, and do not transpose them.")
def transposes_vh(log_probs, weights, k):
    scale = weights.clamp(min=1e-8).sqrt()[:, None]
    U, S, Vh = torch.linalg.svd(scale * log_probs, full_matrices=False)
    return (U[:, :k] * S[:k]) @ Vh[:, :k].T / scale


@mistake("best_rank_k", hint="You clamp the weights too high. Rare tokens have weights far below that, and should count as little as they do: 1e-8 is small enough.")
def clamps_at_a_thousandth(log_probs, weights, k):
    scale = weights.clamp(min=1e-3).sqrt()[:, None]
    return _truncated(scale * log_probs, k) / scale


@mistake("best_rank_k", hint="You clamp the weights too high. Rare tokens have weights far below that, and should count as little as they do: 1e-8 is small enough.")
def clamps_at_a_hundredth(log_probs, weights, k):
    scale = weights.clamp(min=1e-2).sqrt()[:, None]
    return _truncated(scale * log_probs, k) / scale


@mistake("best_rank_k", hint="You multiply by the square roots once more. After the truncation, *divide* by them: that undoes the scaling.")
def scales_twice(log_probs, weights, k):
    scale = weights.clamp(min=1e-8).sqrt()[:, None]
    return _truncated(scale * log_probs, k) * scale


# rotate_residual ----------------------------------------------------------------------------


def _rotated(model, W_E, W_U):
    new = copy.deepcopy(model)
    with torch.no_grad():
        new.W_E.copy_(W_E)
        new.W_U.copy_(W_U)
    return new


@mistake("rotate_residual", hint="Only the embedding is rotated. The unembedding still reads the old directions: it must turn the vectors back first.")
def rotates_only_the_embedding(model, R):
    return _rotated(model, model.W_E @ R, model.W_U)


@mistake("rotate_residual", hint="The unembedding must undo the rotation: `R.T @ W_U`. With R itself the vectors are turned twice.")
def rotates_twice(model, R):
    return _rotated(model, model.W_E @ R, R @ model.W_U)


@mistake("rotate_residual", hint="The logits are right, but you rotate by the transpose: residual vectors should be `x @ R`, so `W_E @ R` and `R.T @ W_U`.")
def rotates_the_other_way(model, R):
    return _rotated(model, model.W_E @ R.T, R @ model.W_U)


@mistake("rotate_residual", hint="Nothing is rotated: the weights are those of the model you were given. (`W_E @ R` makes a new tensor; copy it into the model.)")
def rotates_nothing(model, R):
    return copy.deepcopy(model)


@mistake("rotate_residual", hint="You changed the model that you were given. Work on a copy: `copy.deepcopy(model)`.")
def changes_the_given_model(model, R):
    with torch.no_grad():
        model.W_E.copy_(model.W_E @ R)
        model.W_U.copy_(R.T @ model.W_U)
    return model


@mistake("rotate_residual", hint="Only the unembedding is rotated. The embedding must write rotated vectors, `W_E @ R`, for it to read.")
def rotates_only_the_unembedding(model, R):
    return _rotated(model, model.W_E, R.T @ model.W_U)


@mistake("rotate_residual", hint="`W_E` is a short name for `embed.W_E` and cannot be assigned. Change the weights in place, under `torch.no_grad()`: `new.W_E.copy_(...)`.")
def assigns_a_parameter(model, R):
    new = copy.deepcopy(model)
    new.W_E = torch.nn.Parameter(model.W_E @ R)
    new.W_U = torch.nn.Parameter(R.T @ model.W_U)
    return new


@mistake("rotate_residual", hint="`W_E` cannot be assigned a tensor. Change the weights in place, under `torch.no_grad()`: `new.W_E.copy_(...)`.")
def assigns_a_tensor(model, R):
    new = copy.deepcopy(model)
    new.W_E = model.W_E @ R
    new.W_U = R.T @ model.W_U
    return new


# sample -------------------------------------------------------------------------------------


def _sampled(model, prompt, n, generator, probs_of, source=lambda tokens, prompt: tokens):
    tokens = prompt
    for _ in range(n):
        logits = model(source(tokens, prompt)[None])[0, -1]
        drawn = torch.multinomial(probs_of(logits), 1, generator=generator)
        tokens = torch.cat([tokens, drawn])
    return tokens


@mistake("sample", hint="You multiply the logits by the temperature. Divide: a *high* temperature makes the distribution flatter.")
def multiplies_by_temperature(model, prompt, n, temperature, generator):
    return _sampled(model, prompt, n, generator, lambda logits: (logits * temperature).softmax(-1))


@mistake("sample", hint="The temperature makes no difference: divide the *logits* by it, before the softmax. (Probabilities divided by it are the same once they are normalised.)")
def ignores_temperature(model, prompt, n, temperature, generator):
    return _sampled(model, prompt, n, generator, lambda logits: logits.softmax(-1))


@mistake("sample", hint="You always take the likeliest token. Draw one at random, with the softmax as probabilities.")
def always_the_likeliest(model, prompt, n, temperature, generator):
    tokens = prompt
    for _ in range(n):
        tokens = torch.cat([tokens, model(tokens[None])[0, -1].argmax()[None]])
    return tokens


@mistake("sample", hint="Every token is drawn after the prompt's last one. Append each drawn token, and let the next be drawn from it.")
def never_feeds_back(model, prompt, n, temperature, generator):
    return _sampled(
        model, prompt, n, generator, lambda logits: (logits / temperature).softmax(-1), lambda t, p: p
    )


@mistake("sample", hint="The prompt is missing from what you return: the result is the prompt followed by the n new tokens.")
def drops_the_prompt(model, prompt, n, temperature, generator):
    probs = lambda logits: (logits / temperature).softmax(-1)  # noqa: E731
    return _sampled(model, prompt, n, generator, probs)[len(prompt) :]


@mistake("sample", hint="You predict from the first position. The next token is predicted at the last one: `logits[0, -1]`.")
def predicts_from_the_first(model, prompt, n, temperature, generator):
    probs = lambda logits: (logits / temperature).softmax(-1)  # noqa: E731
    return _sampled(model, prompt, n, generator, probs, lambda t, p: t[:1])


@mistake("sample", hint="The generator is not used: the same seed must write the same text. Pass `generator=generator` to `torch.multinomial`, and do not make a new one.")
def a_generator_of_its_own(model, prompt, n, temperature, generator):
    own = torch.Generator().manual_seed(0)
    return _sampled(model, prompt, n, own, lambda logits: (logits / temperature).softmax(-1))


@mistake("sample", hint="The generator is seeded anew for every token, so every draw is the same. Use it as it was given: it moves on by itself.")
def seeds_anew_for_every_token(model, prompt, n, temperature, generator):
    def probs(logits):
        generator.manual_seed(0)
        return (logits / temperature).softmax(-1)

    return _sampled(model, prompt, n, generator, probs)


@mistake("sample", hint="The softmax runs over the positions. It belongs to the vocabulary, the last axis.")
def softmax_over_the_text(model, prompt, n, temperature, generator):
    tokens = prompt
    for _ in range(n):
        probs = (model(tokens[None])[0] / temperature).softmax(0)[-1]
        tokens = torch.cat([tokens, torch.multinomial(probs, 1, generator=generator)])
    return tokens


# furthest_tokens ----------------------------------------------------------------------------


def _kl_rows(model, counts):
    n = counts.sum(dim=-1)
    p = counts / n.clamp(min=1)[:, None]
    log_q = (model.W_E @ model.W_U).log_softmax(-1)
    return n, p, log_q, (torch.xlogy(p, p) - p * log_q).sum(dim=-1)


def _top(score, n, k):
    score = score.clone()
    score[n == 0] = -torch.inf
    return score.topk(k).indices.tolist()


@mistake("furthest_tokens", hint="These are the tokens that are *closest*: you want the largest KL.")
def closest_tokens(model, counts, k):
    n, _, _, kl = _kl_rows(model, counts)
    return _top(-kl, n, k)


@mistake("furthest_tokens", hint="A token that never occurs is among yours. It has no counted distribution: leave out rows whose sum is 0.")
def keeps_unseen_tokens(model, counts, k):
    n, _, log_q, kl = _kl_rows(model, counts)
    return torch.where(n == 0, -log_q.mean(-1) + 1e3, kl).topk(k).indices.tolist()


@mistake("furthest_tokens", hint="The KL is weighted by how often the token occurs. Here each row stands for itself.")
def weights_by_frequency(model, counts, k):
    n, _, _, kl = _kl_rows(model, counts)
    return _top(kl * n, n, k)


@mistake("furthest_tokens", hint="This is the cross-entropy: it is also high where the counts themselves are uncertain. Subtract the row's own entropy.")
def cross_entropy_per_token(model, counts, k):
    n, p, log_q, _ = _kl_rows(model, counts)
    return _top(-(p * log_q).sum(-1), n, k)


@mistake("furthest_tokens", hint="You compare probabilities by their distance (squared or absolute), which sees only the likeliest successors. Use the KL.")
def squared_distance(model, counts, k):
    n, p, log_q, _ = _kl_rows(model, counts)
    return _top(((p - log_q.exp()) ** 2).sum(-1), n, k)


@mistake("furthest_tokens", hint="These are simply the rarest tokens. They tend to be far off, but measure it: return those with the largest KL.")
def the_rarest(model, counts, k):
    n = counts.sum(-1).float()
    return _top(-n, n, k)


@mistake("furthest_tokens", hint="You take columns for rows: row a holds what comes *after* token a. Sum over dim=-1.")
def takes_columns(model, counts, k):
    n = counts.sum(dim=0)
    p = counts / n.clamp(min=1)[None, :]
    log_q = (model.W_E @ model.W_U).log_softmax(-1)
    return _top((torch.xlogy(p, p) - p * log_q).sum(dim=0), n, k)


@mistake("furthest_tokens", hint="0 times log 0 is NaN here and 0 by convention: `torch.xlogy(p, p)` is p log p with that convention.")
def nan_from_absent_pairs(model, counts, k):
    n = counts.sum(dim=-1)
    p = counts / n.clamp(min=1)[:, None]
    log_q = (model.W_E @ model.W_U).log_softmax(-1)
    return (p * (p.log() - log_q)).sum(dim=-1).topk(k).indices.tolist()


@mistake("furthest_tokens", hint="You compare with the logits themselves. log q is their `log_softmax(-1)`.")
def logits_for_log_probabilities(model, counts, k):
    n, p, _, _ = _kl_rows(model, counts)
    return _top((torch.xlogy(p, p) - p * (model.W_E @ model.W_U)).sum(-1), n, k)


@mistake("furthest_tokens", hint="This is KL(q || p), the other way round: the counted distribution p stands in front and under the expectation.")
def the_other_kl(model, counts, k):
    n, p, log_q, _ = _kl_rows(model, counts)
    return _top((log_q.exp() * (log_q - p.clamp(min=1e-9).log())).sum(-1), n, k)


@mistake("furthest_tokens", hint="You smooth the counts. Take them as they are: `torch.xlogy(p, p)` needs no alpha.")
def smooths_the_counts(model, counts, k):
    p = (counts + 1) / (counts + 1).sum(-1, keepdim=True)
    log_q = (model.W_E @ model.W_U).log_softmax(-1)
    return _top((p * (p.log() - log_q)).sum(-1), counts.sum(-1), k)


@mistake("furthest_tokens", hint="You leave rows out first, so that the numbers of `topk` count the rows that are left. Keep all rows, and give the empty ones -inf.")
def numbers_of_the_rows_that_are_left(model, counts, k):
    n, _, _, kl = _kl_rows(model, counts)
    return kl[n > 0].topk(k).indices.tolist()


@mistake("furthest_tokens", hint="The softmax of the logits runs over the rows. A row is a distribution over what comes next: `log_softmax(-1)`.")
def softmax_over_rows(model, counts, k):
    n, p, _, _ = _kl_rows(model, counts)
    log_q = (model.W_E @ model.W_U).log_softmax(0)
    return _top((torch.xlogy(p, p) - p * log_q).sum(-1), n, k)


@mistake("furthest_tokens", hint="You compare probabilities by their distance (squared or absolute), which sees only the likeliest successors. Use the KL.")
def absolute_distance(model, counts, k):
    n, p, log_q, _ = _kl_rows(model, counts)
    return _top((p - log_q.exp()).abs().sum(-1), n, k)


@mistake("furthest_tokens", hint="These are the KLs themselves. Return the numbers of the tokens, `.indices`.")
def kls_for_tokens(model, counts, k):
    n, _, _, kl = _kl_rows(model, counts)
    return torch.where(n == 0, -torch.inf, kl).topk(k).values.tolist()


@mistake("furthest_tokens", hint="You divide the counts by the sums of *columns*. Row a is what comes after token a: divide by its own sum, `counts.sum(-1, keepdim=True)`.")
def divides_by_columns(model, counts, k):
    n, _, log_q, _ = _kl_rows(model, counts)
    p = counts / counts.sum(0, keepdim=True).clamp(min=1)
    return _top((torch.xlogy(p, p) - p * log_q).sum(-1), n, k)


# predict_distance ---------------------------------------------------------------------------


@mistake("predict_distance", hint="The order is the wrong way round: you give the highest scores to the tokens that are learned *best*.")
def the_frequent_are_far(counts):
    return counts.sum(dim=-1).float()


@mistake("predict_distance", hint="The number of different successors grows with how often a token is seen, so this points the wrong way. What do the worst tokens share?")
def many_successors(counts):
    return (counts > 0).sum(dim=-1).float()


@mistake("predict_distance", hint="You expect uncertain tokens (of high entropy) to be far off. Being uncertain is not being wrong: a model can learn a flat distribution well.")
def high_entropy(counts):
    p = counts / counts.sum(dim=-1, keepdim=True).clamp(min=1)
    return -torch.xlogy(p, p).sum(dim=-1)


@mistake("predict_distance", hint="All your scores are equal, which predicts nothing.")
def all_equal(counts):
    return torch.zeros(len(counts))


@mistake("predict_distance", hint="You score by the token's number, which in other texts means nothing. Use what the counts say.")
def by_token_number(counts):
    return torch.arange(len(counts)).float()


@mistake("predict_distance", hint="You expect tokens with a clear favourite to be far off. How clear a row is does not say how well it was learned.")
def clear_favourites(counts):
    return (counts / counts.sum(dim=-1, keepdim=True).clamp(min=1)).max(dim=-1).values


@mistake("predict_distance", hint="You expect tokens of low entropy to be far off. Being certain is not being wrong: how often has the model seen the token?")
def low_entropy(counts):
    p = counts / counts.sum(dim=-1, keepdim=True).clamp(min=1)
    return torch.xlogy(p, p).sum(dim=-1)
