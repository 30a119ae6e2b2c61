"""Known wrong answers to chapter 3, each with the hint it deserves. A learner whose answer does
what one of these does is shown its hint."""

import torch
import torch.nn.functional as F
from einops import einsum

from circuits.checking import mistake
from utils.materials.handmade import empty_model, rooms, rotation

# tokens_behind_score ------------------------------------------------------------------------


@mistake("tokens_behind_score", hint="In one layer nothing has been moved yet: the embeddings at `src` and at `dest` know their own tokens and no others.")
def all_so_far_in_one_layer_too(n_layers, dest, src):
    return list(range(dest + 1))


@mistake("tokens_behind_score", hint="With a second layer, the two places hold more than their own tokens: layer 0 has moved information there from all places before them.")
def only_the_two_places(n_layers, dest, src):
    return sorted({src, dest})


@mistake("tokens_behind_score", hint="The query at `dest` is one side of the score. The key at `src` is the other.")
def only_the_query(n_layers, dest, src):
    return [dest] if n_layers == 1 else list(range(dest + 1))


@mistake("tokens_behind_score", hint="The key at `src` is one side of the score. The query at `dest` is the other, and knows of what came before it.")
def only_the_key(n_layers, dest, src):
    return [src] if n_layers == 1 else list(range(src + 1))


@mistake("tokens_behind_score", hint="You name the places between the two. Layer 0 looks back from `src`, too: to every place from 0 on.")
def between_the_two(n_layers, dest, src):
    return sorted({src, dest}) if n_layers == 1 else list(range(src, dest + 1))


@mistake("tokens_behind_score", hint="What layer 0 has moved to `src` counts; so does what it has moved to `dest`, from the places after `src`.")
def past_of_the_source_and_the_destination(n_layers, dest, src):
    return sorted({src, dest}) if n_layers == 1 else sorted({*range(src + 1), dest})


@mistake("tokens_behind_score", hint="The token at `dest` itself counts: the query is made from it.")
def all_before_the_destination(n_layers, dest, src):
    return [src] if n_layers == 1 else list(range(dest))


@mistake("tokens_behind_score", hint="The token after `dest` is in the future, and no head sees it.")
def one_of_the_future(n_layers, dest, src):
    return sorted({src, dest}) if n_layers == 1 else list(range(dest + 2))


@mistake("tokens_behind_score", hint="In one layer the query counts as well as the key: it is made from the token at `dest`.")
def no_query_in_one_layer(n_layers, dest, src):
    return [src] if n_layers == 1 else list(range(dest + 1))


# previous_token_head ------------------------------------------------------------------------


def _frequencies(d_model):
    return 10_000 ** (-torch.arange(0, d_model, 2) / d_model)


@mistake("previous_token_head", hint="This turns the query one step *forward*, and the best place that a head may see is then its own. Row vectors are turned back by `rotation(-frequencies)`, not transposed.")
def one_step_forward(n_ctx, d_model):
    return 100 * rotation(_frequencies(d_model)), torch.eye(d_model)


@mistake("previous_token_head", hint="The direction is right; the scores are too close together for a sharp softmax. Make `W_Q` larger, by 100 for instance.")
def too_soft(n_ctx, d_model):
    return rotation(-_frequencies(d_model)), torch.eye(d_model)


@mistake("previous_token_head", hint="Without a rotation the query at p fits the key at p best: the head looks at itself. Turn one of the two by one step.")
def no_rotation(n_ctx, d_model):
    return 100 * torch.eye(d_model), torch.eye(d_model)


@mistake("previous_token_head", hint="Query and key are turned by the same step, and the score sees only the difference. Turn one of them.")
def turns_both(n_ctx, d_model):
    turn = rotation(-_frequencies(d_model))
    return 100 * turn, turn


@mistake("previous_token_head", hint="Turning the query back and the key forward makes two steps together.")
def two_steps_back(n_ctx, d_model):
    return 100 * rotation(-_frequencies(d_model)), rotation(_frequencies(d_model))


@mistake("previous_token_head", hint="You turn the *keys* back: then the key at p + 1 fits the query at p. Turn the queries back, or the keys forward.")
def turns_the_keys_back(n_ctx, d_model):
    return 100 * torch.eye(d_model), rotation(-_frequencies(d_model))


@mistake("previous_token_head", hint="The frequencies of the pairs are 10000 to the power -2i / d_model. The 2 is missing: take `torch.arange(0, d_model, 2)`.")
def frequencies_without_the_two(n_ctx, d_model):
    frequencies = 10_000 ** (-torch.arange(d_model // 2) / d_model)
    return 100 * rotation(-frequencies), torch.eye(d_model)


@mistake("previous_token_head", hint="Every pair is turned by the same angle. Each has a frequency of its own.")
def one_angle_for_all_pairs(n_ctx, d_model):
    return 100 * rotation(-torch.ones(d_model // 2)), torch.eye(d_model)


@mistake("previous_token_head", hint="The exponent of the frequencies needs a minus: pairs turn more slowly the further on they are.")
def rising_frequencies(n_ctx, d_model):
    frequencies = 10_000 ** (torch.arange(0, d_model, 2) / d_model)
    return 100 * rotation(-frequencies), torch.eye(d_model)


@mistake("previous_token_head", hint="W_Q and W_K are exchanged: you turn the *keys* back, so that the key at p + 1 fits the query at p. Return the turned matrix first.")
def query_and_key_matrices_exchanged(n_ctx, d_model):
    return torch.eye(d_model), 100 * rotation(-_frequencies(d_model))


@mistake("previous_token_head", hint="The gain is negative: the head looks where the match is *worst*. The minus belongs to the frequencies: `100 * rotation(-frequencies)`.")
def negative_gain(n_ctx, d_model):
    return -100 * rotation(_frequencies(d_model)), torch.eye(d_model)


@mistake("previous_token_head", hint="Your W_Q moves each *dimension* to its neighbour, as if position p were a one in dimension p. Positions are sinusoids: turn each pair of dimensions.")
def dimensions_moved_on(n_ctx, d_model):
    return 1000 * torch.diag(torch.ones(d_model - 1), 1), torch.eye(d_model)


@mistake("previous_token_head", hint="Your W_Q moves each *dimension* to its neighbour, as if position p were a one in dimension p. Positions are sinusoids: turn each pair of dimensions.")
def dimensions_moved_back(n_ctx, d_model):
    return 1000 * torch.diag(torch.ones(d_model - 1), -1), torch.eye(d_model)


@mistake("previous_token_head", hint="In the exponent you divide by `n_ctx`. The frequencies go by the width of the stream: divide by `d_model`.")
def frequencies_by_the_length(n_ctx, d_model):
    return 100 * rotation(-(10_000 ** (-torch.arange(0, d_model, 2) / n_ctx))), torch.eye(d_model)


# two_back_virtual_head ----------------------------------------------------------------------


def _looks_back(attn, room, gain=100.0, steps=-1, width=None):
    """Let the only head of a layer look some steps on, from the first 32 dimensions of the positions."""
    frequencies = 10_000 ** (-torch.arange(0, 32, 2) / (width or room.d_model))
    attn.W_Q[0, room.position, :32] = gain * rotation(steps * frequencies)
    attn.W_K[0, room.position, :32] = torch.eye(32)


def _moves(attn, read, write, size):
    """Let the only head of a layer move what stands in one room to another."""
    attn.W_V[0, read, :size] = torch.eye(size)
    attn.W_O[0, :size, write] = torch.eye(size)


COPIES = (
    "The heads are as empty as they were. `model.W_Q[layer, head]` is a copy made for reading; "
    "write into `model.blocks[layer].attn.W_Q[head]`."
)


def _empty_heads(model):
    """A model as it is when the heads were written into copies."""
    for block in model.blocks:
        for W in (block.attn.W_Q, block.attn.W_K, block.attn.W_V, block.attn.W_O):
            W.zero_()
    return model


def _two_back(d_vocab, n_ctx, first={}, second={}):
    """The right model. `first` and `second` are what each head looks by."""
    room = rooms(position=32, token=d_vocab, one_back=d_vocab, two_back=d_vocab)
    model = empty_model(d_vocab, room.d_model, d_head=max(32, d_vocab), n_ctx=n_ctx)
    model.W_E[:, room.token] = torch.eye(d_vocab)
    for layer, how, read, write in ((0, first, room.token, room.one_back), (1, second, room.one_back, room.two_back)):
        attn = model.blocks[layer].attn
        _looks_back(attn, room, **how)
        _moves(attn, read, write, d_vocab)
    model.W_U[room.two_back] = torch.eye(d_vocab)
    return room, model


@mistake("two_back_virtual_head", hint="The second head reads the room `token`, so it moves on the token one back. It should read what the first head has written, `one_back`.")
def second_head_reads_the_token(d_vocab, n_ctx):
    room, model = _two_back(d_vocab, n_ctx)
    attn = model.blocks[1].attn
    attn.W_V.zero_()
    attn.W_O.zero_()
    _moves(attn, room.token, room.two_back, d_vocab)
    return model


@mistake("two_back_virtual_head", hint="The logits are read from the room `one_back`, which holds the token *one* back. Read them from `two_back`.")
def logits_from_one_back(d_vocab, n_ctx):
    room, model = _two_back(d_vocab, n_ctx)
    model.W_U.zero_()
    model.W_U[room.one_back] = torch.eye(d_vocab)
    return model


@mistake("two_back_virtual_head", hint="The frequencies are those of the whole stream: divide by `room.d_model`, not by the 32 dimensions of the room.")
def frequencies_of_the_room(d_vocab, n_ctx):
    return _two_back(d_vocab, n_ctx, dict(width=32), dict(width=32))[1]


@mistake("two_back_virtual_head", hint="The second head has no `W_Q` and `W_K`, so it looks at all places alike. It needs the same ones as the first.")
def second_head_looks_everywhere(d_vocab, n_ctx):
    return _two_back(d_vocab, n_ctx, second=dict(gain=0.0))[1]


@mistake("two_back_virtual_head", hint="The scores are too close together for a sharp softmax: multiply `W_Q` by 100.")
def both_heads_too_soft(d_vocab, n_ctx):
    return _two_back(d_vocab, n_ctx, dict(gain=1.0), dict(gain=1.0))[1]


@mistake("two_back_virtual_head", hint="Both heads look at their own position: their queries are not turned, or turned one step *forward*. Turn them back, by minus the frequencies.")
def both_heads_look_forward(d_vocab, n_ctx):
    return _two_back(d_vocab, n_ctx, dict(steps=1), dict(steps=1))[1]


@mistake("two_back_virtual_head", hint="Here the second head does it all: it looks two back by itself and reads the token. Let both look one back, and the second move on what the first has moved.")
def second_head_looks_two_back(d_vocab, n_ctx):
    room, model = _two_back(d_vocab, n_ctx, second=dict(steps=-2))
    attn = model.blocks[1].attn
    attn.W_V.zero_()
    attn.W_O.zero_()
    _moves(attn, room.token, room.two_back, d_vocab)
    return model


@mistake("two_back_virtual_head", hint=COPIES)
def written_into_copies(d_vocab, n_ctx):
    return _empty_heads(_two_back(d_vocab, n_ctx)[1])


@mistake("two_back_virtual_head", hint="Nothing is embedded: `model.W_E` is still 0, so there is nothing to move.")
def nothing_embedded(d_vocab, n_ctx):
    _, model = _two_back(d_vocab, n_ctx)
    model.W_E.zero_()
    return model


@mistake("two_back_virtual_head", hint="Nothing is read: `model.W_U` is still 0, so all logits are 0.")
def nothing_unembedded(d_vocab, n_ctx):
    _, model = _two_back(d_vocab, n_ctx)
    model.W_U.zero_()
    return model


@mistake("two_back_virtual_head", hint="The first head's `W_O` is still 0: it looks, and writes nothing.")
def first_head_writes_nothing(d_vocab, n_ctx):
    _, model = _two_back(d_vocab, n_ctx)
    model.blocks[0].attn.W_O.zero_()
    return model


@mistake("two_back_virtual_head", hint="Each head looks *two* back, so together they move four. Let each look one back.")
def each_head_looks_two_back(d_vocab, n_ctx):
    return _two_back(d_vocab, n_ctx, dict(steps=-2), dict(steps=-2))[1]


@mistake("two_back_virtual_head", hint="The first head does it all: it looks two back, and the second looks at itself. Let each look one back.")
def first_head_looks_two_back(d_vocab, n_ctx):
    return _two_back(d_vocab, n_ctx, dict(gain=300.0, steps=-2), dict(gain=300.0, steps=0))[1]


# induction_circuit --------------------------------------------------------------------------


def _induction(d_vocab, n_ctx, query="token", key="previous", value="token", loud=100.0, first={}):
    """The right model, unless the second head reads other rooms."""
    room = rooms(position=32, token=d_vocab, previous=d_vocab, answer=d_vocab)
    model = empty_model(d_vocab, room.d_model, d_head=max(32, d_vocab), n_ctx=n_ctx)
    each = torch.eye(d_vocab)
    model.W_E[:, room.token] = loud * each
    _looks_back(model.blocks[0].attn, room, **first)
    _moves(model.blocks[0].attn, room.token, room.previous, d_vocab)
    attn = model.blocks[1].attn
    attn.W_Q[0, getattr(room, query), :d_vocab] = each
    attn.W_K[0, getattr(room, key), :d_vocab] = each
    _moves(attn, getattr(room, value), room.answer, d_vocab)
    model.W_U[room.answer] = each
    return room, model


@mistake("induction_circuit", hint=COPIES)
def induction_written_into_copies(d_vocab, n_ctx):
    return _empty_heads(_induction(d_vocab, n_ctx)[1])


@mistake("induction_circuit", hint="The keys name the token at their own place, so the second head finds the token itself, not what came after it. Let its keys read `room.previous`.")
def keys_name_their_own_token(d_vocab, n_ctx):
    return _induction(d_vocab, n_ctx, key="token")[1]


@mistake("induction_circuit", hint="The second head finds the right place and takes the wrong thing from it: the *previous* token, which is the present one again. Its values should read `room.token`.")
def copies_the_previous_token(d_vocab, n_ctx):
    return _induction(d_vocab, n_ctx, value="previous")[1]


@mistake("induction_circuit", hint="The tokens are not loud enough to be heard over the sinusoids in the same rooms: embed them with 100.")
def tokens_drowned_by_positions(d_vocab, n_ctx):
    return _induction(d_vocab, n_ctx, loud=1.0)[1]


@mistake("induction_circuit", hint="Query and key are exchanged: you ask for the *previous* token and the keys name the present one. The query is the present token, the keys are `room.previous`.")
def asks_for_the_previous_token(d_vocab, n_ctx):
    return _induction(d_vocab, n_ctx, query="previous", key="token")[1]


@mistake("induction_circuit", hint="Query and key both read `room.previous`: the head finds where the *previous* token was the same, and that is the present place. The query should read `room.token`.")
def matches_previous_with_previous(d_vocab, n_ctx):
    return _induction(d_vocab, n_ctx, query="previous")[1]


@mistake("induction_circuit", hint="The logits are read from `room.token`, where the present token stands. The second head writes into `room.answer`.")
def logits_from_the_token(d_vocab, n_ctx):
    room, model = _induction(d_vocab, n_ctx)
    model.W_U.zero_()
    model.W_U[room.token] = torch.eye(d_vocab)
    return model


@mistake("induction_circuit", hint="The first head looks at its own position, so each token is written down as its own predecessor. Turn its query one step *back*: `rotation(-frequencies)`.")
def first_head_looks_forward(d_vocab, n_ctx):
    return _induction(d_vocab, n_ctx, first=dict(steps=1))[1]


@mistake("induction_circuit", hint="The first head does not look one back: its frequencies are those of the whole stream, `room.d_model`, not of the room.")
def first_head_with_frequencies_of_the_room(d_vocab, n_ctx):
    return _induction(d_vocab, n_ctx, first=dict(width=32))[1]


@mistake("induction_circuit", hint="The first head writes nothing: its `W_V` and `W_O` are still 0, so the keys of the second head are empty.")
def first_head_moves_nothing(d_vocab, n_ctx):
    _, model = _induction(d_vocab, n_ctx)
    model.blocks[0].attn.W_V.zero_()
    model.blocks[0].attn.W_O.zero_()
    return model


@mistake("induction_circuit", hint="The second head has no `W_Q` and `W_K`, so it looks at all places alike.")
def second_head_asks_nothing(d_vocab, n_ctx):
    _, model = _induction(d_vocab, n_ctx)
    model.blocks[1].attn.W_Q.zero_()
    model.blocks[1].attn.W_K.zero_()
    return model


@mistake("induction_circuit", hint="The layers are exchanged. The previous-token head must come first: what it writes is what the other reads.")
def layers_exchanged(d_vocab, n_ctx):
    _, model = _induction(d_vocab, n_ctx)
    for name in ("W_Q", "W_K", "W_V", "W_O"):
        first, second = (getattr(block.attn, name) for block in model.blocks)
        kept = first.clone()
        first.copy_(second)
        second.copy_(kept)
    return model


@mistake("induction_circuit", hint="The gain is in the second head's `W_Q`, which makes the sinusoids in the room louder, too. Put it into the embedding: `model.W_E[:, room.token] = 100 * torch.eye(d_vocab)`.")
def gain_in_the_query(d_vocab, n_ctx):
    _, model = _induction(d_vocab, n_ctx, loud=1.0)
    model.blocks[1].attn.W_Q *= 100
    return model


@mistake("induction_circuit", hint="The gain is in the first head's `W_V`: the keys are loud, and the query, the present token, is still drowned by the sinusoids. Put it into the embedding, which makes both louder.")
def gain_in_the_first_values(d_vocab, n_ctx):
    _, model = _induction(d_vocab, n_ctx, loud=1.0)
    model.blocks[0].attn.W_V *= 100
    return model


# pointer_induction --------------------------------------------------------------------------


def _pointer(d_vocab, n_ctx, match=1000.0, itself=0.0, steps=1, pointer="found"):
    """The right model, unless told otherwise."""
    room = rooms(position=n_ctx, token=d_vocab, found=n_ctx, answer=d_vocab)
    model = empty_model(d_vocab, room.d_model, d_head=d_vocab + n_ctx, n_ctx=n_ctx, positions="standard")
    each_token, each_position = torch.eye(d_vocab), torch.eye(n_ctx)
    model.W_pos[:, room.position] = each_position
    model.W_E[:, room.token] = each_token
    attn = model.blocks[0].attn
    attn.W_Q[0, room.token, :d_vocab] = match * each_token
    attn.W_K[0, room.token, :d_vocab] = each_token
    attn.W_Q[0, room.position, d_vocab:] = itself * each_position
    attn.W_K[0, room.position, d_vocab:] = each_position
    _moves(attn, room.position, room.found, n_ctx)
    attn = model.blocks[1].attn
    attn.W_Q[0, getattr(room, pointer), :n_ctx] = match * torch.diag(torch.ones(n_ctx - abs(steps)), steps)
    attn.W_K[0, room.position, :n_ctx] = each_position
    _moves(attn, room.token, room.answer, d_vocab)
    model.W_U[room.answer] = each_token
    return room, model


@mistake("pointer_induction", hint=COPIES)
def pointer_written_into_copies(d_vocab, n_ctx):
    return _empty_heads(_pointer(d_vocab, n_ctx)[1])


@mistake("pointer_induction", hint="The pointer is not moved on: the second head looks where the token stood before, and copies the same token. One step further stands what came next.")
def pointer_not_moved(d_vocab, n_ctx):
    return _pointer(d_vocab, n_ctx, steps=0)[1]


@mistake("pointer_induction", hint="The pointer is moved one step *back*. Ones just above the diagonal, `torch.diag(ones, 1)`, take row f to row f + 1.")
def pointer_moved_back(d_vocab, n_ctx):
    return _pointer(d_vocab, n_ctx, steps=-1)[1]


@mistake("pointer_induction", hint="The pointer is moved on twice. Turn it in the query, or in the key, but not in both.")
def pointer_moved_twice(d_vocab, n_ctx):
    return _pointer(d_vocab, n_ctx, steps=2)[1]


@mistake("pointer_induction", hint="The first head is *rewarded* for looking at its own place, so it looks nowhere else. To forbid it takes a minus; to allow it, nothing.")
def rewarded_for_itself(d_vocab, n_ctx):
    return _pointer(d_vocab, n_ctx, itself=2000.0)[1]


@mistake("pointer_induction", hint="`model.W_pos` is still 0: no place knows its own number, so there is nothing to point with.")
def no_positions(d_vocab, n_ctx):
    _, model = _pointer(d_vocab, n_ctx)
    model.W_pos.zero_()
    return model


@mistake("pointer_induction", hint="The scores are too close together for a sharp softmax: a match should count 1000, as scores are divided by √d_head.")
def pointers_too_soft(d_vocab, n_ctx):
    return _pointer(d_vocab, n_ctx, match=1.0)[1]


@mistake("pointer_induction", hint="The second head's query reads `room.position`, so it asks for its own place plus one, which is the future. It should read `room.found`.")
def points_from_its_own_place(d_vocab, n_ctx):
    return _pointer(d_vocab, n_ctx, pointer="position")[1]


@mistake("pointer_induction", hint="The second head's query and key are not set: it looks at all places alike.")
def pointer_not_followed(d_vocab, n_ctx):
    _, model = _pointer(d_vocab, n_ctx)
    model.blocks[1].attn.W_Q.zero_()
    model.blocks[1].attn.W_K.zero_()
    return model


@mistake("pointer_induction", hint="The pointer is in the second head's *key* here. Its query should read `room.found`, and its key `room.position`.")
def pointer_in_the_key(d_vocab, n_ctx):
    room, model = _pointer(d_vocab, n_ctx)
    W_Q, W_K = model.blocks[1].attn.W_Q, model.blocks[1].attn.W_K
    asks, answers = (W[0, part].clone() for W, part in ((W_Q, room.found), (W_K, room.position)))
    W_Q.zero_()
    W_K.zero_()
    W_Q[0, room.position], W_K[0, room.found] = asks, answers
    return model


@mistake("pointer_induction", hint="The first head moves the *token* to `room.found`, which is the token that stands here anyway. A pointer is a position: let its values read `room.position`.")
def finds_the_token(d_vocab, n_ctx):
    room, model = _pointer(d_vocab, n_ctx)
    attn, size = model.blocks[0].attn, min(d_vocab, n_ctx)
    attn.W_V.zero_()
    attn.W_O.zero_()
    attn.W_V[0, room.token, :d_vocab] = torch.eye(d_vocab)
    attn.W_O[0, :size, room.found.start : room.found.start + size] = torch.eye(size)
    return model


# repeated_tokens ----------------------------------------------------------------------------


def _once(d_vocab, batch, length, generator):
    return torch.randint(d_vocab, (batch, length), generator=generator)


@mistake("repeated_tokens", hint="The copies are below each other, as more sequences. Put them one after the other: `dim=1`.")
def repeats_the_batch(d_vocab, batch, length, generator):
    once = _once(d_vocab, batch, length, generator)
    return torch.cat([once, once], dim=0)


@mistake("repeated_tokens", hint="Each token comes twice in a row (`repeat_interleave` does this). The whole sequence should come twice: a b c a b c.")
def repeats_each_token(d_vocab, batch, length, generator):
    return _once(d_vocab, batch, length, generator).repeat_interleave(2, dim=1)


@mistake("repeated_tokens", hint="Every batch is the same: you seed a generator of your own. Draw from the `generator` that is given.")
def seeds_its_own_generator(d_vocab, batch, length, generator):
    once = _once(d_vocab, batch, length, torch.Generator().manual_seed(0))
    return torch.cat([once, once], dim=1)


@mistake("repeated_tokens", hint="One sequence is used for the whole batch. Draw `batch` of them.")
def one_sequence_for_all(d_vocab, batch, length, generator):
    once = _once(d_vocab, 1, length, generator).expand(batch, -1)
    return torch.cat([once, once], dim=1)


@mistake("repeated_tokens", hint="The second half is drawn anew. It should be the first again.")
def draws_both_halves(d_vocab, batch, length, generator):
    return torch.randint(d_vocab, (batch, 2 * length), generator=generator)


@mistake("repeated_tokens", hint="The second half runs backwards. It should be the first again, in the same order.")
def second_half_backwards(d_vocab, batch, length, generator):
    once = _once(d_vocab, batch, length, generator)
    return torch.cat([once, once.flip(1)], dim=1)


@mistake("repeated_tokens", hint="The last token of the vocabulary never comes: the upper end of `torch.randint` is left out already, so it is `d_vocab`.")
def never_the_last_token(d_vocab, batch, length, generator):
    once = _once(d_vocab - 1, batch, length, generator)
    return torch.cat([once, once], dim=1)


@mistake("repeated_tokens", hint="`length` is the length of one copy. Yours is that of both together.")
def length_of_both_together(d_vocab, batch, length, generator):
    once = _once(d_vocab, batch, length // 2, generator)
    return torch.cat([once, once], dim=1)


@mistake("repeated_tokens", hint="All tokens of a sequence are the same: one is drawn for each sequence. Draw `length` of them.")
def one_token_for_all_places(d_vocab, batch, length, generator):
    return _once(d_vocab, batch, 1, generator).repeat(1, 2 * length)


@mistake("repeated_tokens", hint="Your tokens are floats. Token ids are whole numbers: draw them with `torch.randint`.")
def float_tokens(d_vocab, batch, length, generator):
    once = (torch.rand(batch, length, generator=generator) * d_vocab).floor()
    return torch.cat([once, once], dim=1)


@mistake("repeated_tokens", hint="No token comes twice in a sequence (`randperm` does this). Draw each independently of the others: `torch.randint`.")
def no_token_twice(d_vocab, batch, length, generator):
    once = torch.stack([torch.randperm(d_vocab, generator=generator)[:length] for _ in range(batch)])
    return torch.cat([once, once], dim=1)


@mistake("repeated_tokens", hint="The copies lie along a dimension of their own (`stack` does this). Put them one after the other in one row: `torch.cat(..., dim=1)`.")
def copies_stacked(d_vocab, batch, length, generator):
    once = _once(d_vocab, batch, length, generator)
    return torch.stack([once, once], dim=1)


@mistake("repeated_tokens", hint="You put token 0 in front, as a <|bos|>. Here there is none: each row is its tokens twice.")
def bos_in_front(d_vocab, batch, length, generator):
    once = _once(d_vocab, batch, length, generator)
    return torch.cat([torch.zeros(batch, 1, dtype=torch.long), once, once], dim=1)


@mistake("repeated_tokens", hint="Token 0 never comes. Without <|bos|> it is a token like any other: draw from 0 on.")
def never_token_0(d_vocab, batch, length, generator):
    once = 1 + _once(d_vocab - 1, batch, length, generator)
    return torch.cat([once, once], dim=1)


@mistake("repeated_tokens", hint="The two copies are drawn one after the other from the same generator, so they differ. Draw once, and repeat what you have.")
def draws_each_copy(d_vocab, batch, length, generator):
    return torch.cat([_once(d_vocab, batch, length, generator) for _ in range(2)], dim=1)


@mistake("repeated_tokens", hint="You draw from torch's own random numbers. Draw from the `generator` that is given: `torch.randint(..., generator=generator)`.")
def draws_from_torchs_own_numbers(d_vocab, batch, length, generator):
    once = torch.randint(d_vocab, (batch, length))
    return torch.cat([once, once], dim=1)


@mistake("repeated_tokens", hint="Your tokens go up to `d_vocab`, one too many: the last is `d_vocab - 1`. The upper end of `torch.randint` is left out, so it is `d_vocab`.")
def one_token_too_many(d_vocab, batch, length, generator):
    once = _once(d_vocab + 1, batch, length, generator)
    return torch.cat([once, once], dim=1)


# per_token_loss -----------------------------------------------------------------------------


def _picked(values, tokens):
    return values.gather(-1, tokens[..., None])[..., 0]


@mistake("per_token_loss", hint="You compare each logit with the token at its *own* position. Position i predicts token i + 1: `logits[:, :-1]` against `tokens[:, 1:]`.")
def against_the_present_token(model, tokens):
    return -_picked(model(tokens).log_softmax(-1)[:, :-1], tokens[:, :-1])


@mistake("per_token_loss", hint="You compare each logit with the token at its *own* position, and leave out the first. Position i predicts token i + 1: `logits[:, :-1]` against `tokens[:, 1:]`.")
def against_the_present_token_from_the_second_on(model, tokens):
    return -_picked(model(tokens).log_softmax(-1)[:, 1:], tokens[:, 1:])


@mistake("per_token_loss", hint="You compare logits with the token *before*: drop the last position of the logits and the first of the tokens, not the other way round.")
def against_the_token_before(model, tokens):
    return -_picked(model(tokens).log_softmax(-1)[:, 1:], tokens[:, :-1])


@mistake("per_token_loss", hint="The minus is missing: log-probabilities are negative, losses are not.")
def log_probabilities_of_tokens(model, tokens):
    return _picked(model(tokens).log_softmax(-1)[:, :-1], tokens[:, 1:])


@mistake("per_token_loss", hint="These are bits: you divided by log 2. Leave the losses in nats.")
def losses_in_bits(model, tokens):
    return -_picked(model(tokens).log_softmax(-1)[:, :-1], tokens[:, 1:]) / torch.tensor(2.0).log()


@mistake("per_token_loss", hint="This is the mean. Keep the losses of all texts and positions apart, `[batch pos-1]`.")
def mean_of_all_losses(model, tokens):
    return -_picked(model(tokens).log_softmax(-1)[:, :-1], tokens[:, 1:]).mean()


@mistake("per_token_loss", hint="These are the logits of the right tokens, with a minus. Take `log_softmax` over the vocabulary first.")
def logits_instead_of_log_probabilities(model, tokens):
    return -_picked(model(tokens)[:, :-1], tokens[:, 1:])


@mistake("per_token_loss", hint="The softmax runs over the positions, dim=1. It belongs over the vocabulary, dim=-1.")
def softmax_over_positions(model, tokens):
    return -_picked(model(tokens).log_softmax(1)[:, :-1], tokens[:, 1:])


@mistake("per_token_loss", hint="These are probabilities with a minus. Take their logarithm: `log_softmax`.")
def probabilities_with_a_minus(model, tokens):
    return -_picked(model(tokens).softmax(-1)[:, :-1], tokens[:, 1:])


@mistake("per_token_loss", hint="The last entry compares the end of the text with its beginning (`roll` does this). Nothing follows the last token: there are pos - 1 losses.")
def wraps_to_the_first_token(model, tokens):
    return -_picked(model(tokens).log_softmax(-1), tokens.roll(-1, dims=1))


def _flat_losses(model, tokens):
    return F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")


@mistake("per_token_loss", hint="The flat losses come text by text. `.view(-1, batch).T` mixes the texts: cut the row into texts with `.view(batch, -1)`.")
def reshaped_the_wrong_way(model, tokens):
    return _flat_losses(model, tokens).view(-1, len(tokens)).T


@mistake("per_token_loss", hint="The flat losses come text by text. `.view(-1, batch)` mixes the texts: cut the row into texts with `.view(batch, -1)`.")
def reshaped_to_positions(model, tokens):
    return _flat_losses(model, tokens).view(-1, len(tokens))


@mistake("per_token_loss", hint="The softmax is taken twice: `cross_entropy` takes logits and makes log-probabilities of them itself.")
def softmax_taken_twice(model, tokens):
    probs = model(tokens)[:, :-1].softmax(-1)
    return F.cross_entropy(probs.transpose(1, 2), tokens[:, 1:], reduction="none")


@mistake("per_token_loss", hint="This is the loss of the model's own best guess. Take the log-probability of the token that really comes: `tokens[:, 1:]`.")
def loss_of_the_best_guess(model, tokens):
    return -model(tokens).log_softmax(-1)[:, :-1].amax(-1)


@mistake("per_token_loss", hint="The softmax runs over the positions, dim=1. It belongs over the vocabulary, dim=-1.")
def softmax_over_all_positions_but_the_last(model, tokens):
    return -_picked(model(tokens)[:, :-1].log_softmax(1), tokens[:, 1:])


@mistake("per_token_loss", hint="The last dimension is still there, with one entry: `gather` keeps it. Take it off with `[..., 0]`.")
def last_dimension_kept(model, tokens):
    return -model(tokens).log_softmax(-1)[:, :-1].gather(-1, tokens[:, 1:, None])


@mistake("per_token_loss", hint="You average over the texts. Keep the losses of all texts and positions apart, `[batch pos-1]`.")
def mean_over_texts(model, tokens):
    return -_picked(model(tokens).log_softmax(-1)[:, :-1], tokens[:, 1:]).mean(0)


@mistake("per_token_loss", hint="These are probabilities. A loss is minus their logarithm: `-log_softmax`.")
def probabilities_of_tokens(model, tokens):
    return _picked(model(tokens).softmax(-1)[:, :-1], tokens[:, 1:])


# in_context_learning_score ------------------------------------------------------------------


def _mean(losses, stretch):
    return losses[:, stretch[0] : stretch[1]].mean()


@mistake("in_context_learning_score", hint="This is early minus late. Learning should give a negative score: late minus early.")
def early_minus_late(losses, early, late):
    return _mean(losses, early) - _mean(losses, late)


@mistake("in_context_learning_score", hint="This is the mean loss of the late positions. Subtract that of the early ones.")
def only_the_late_ones(losses, early, late):
    return _mean(losses, late)


@mistake("in_context_learning_score", hint="The second number of each pair is *one past* the last position, as in a slice. You include it.")
def includes_the_end(losses, early, late):
    return _mean(losses, (late[0], late[1] + 1)) - _mean(losses, (early[0], early[1] + 1))


@mistake("in_context_learning_score", hint="You compare one position with one. Each pair gives a whole stretch, to be averaged.")
def two_positions(losses, early, late):
    return losses[:, late[0]].mean() - losses[:, early[0]].mean()


@mistake("in_context_learning_score", hint="You compare the sums of the stretches. They may be of different lengths: compare the means.")
def sums_of_stretches(losses, early, late):
    return losses[:, late[0] : late[1]].sum() - losses[:, early[0] : early[1]].sum()


@mistake("in_context_learning_score", hint="This is a ratio. The score is a difference, in nats.")
def late_over_early(losses, early, late):
    return _mean(losses, late) / _mean(losses, early) - 1


@mistake("in_context_learning_score", hint="`losses[a:b]` picks texts, the first axis. Positions are the second: `losses[:, a:b]`.")
def picks_texts(losses, early, late):
    return losses[late[0] : late[1]].mean() - losses[early[0] : early[1]].mean()


@mistake("in_context_learning_score", hint="You take everything up to the early stretch's end, and everything from the late one's beginning. Each has two ends.")
def open_ends(losses, early, late):
    return losses[:, late[0] :].mean() - losses[:, : early[1]].mean()


@mistake("in_context_learning_score", hint="This is the size of the difference. Its sign tells whether the loss falls: leave it.")
def absolute_difference(losses, early, late):
    return (_mean(losses, late) - _mean(losses, early)).abs()


@mistake("in_context_learning_score", hint="This is the ratio of the two means. The score is their difference, in nats.")
def ratio_of_the_means(losses, early, late):
    return _mean(losses, late) / _mean(losses, early)


@mistake("in_context_learning_score", hint="`losses[:, early]` picks two single positions. `early` is a stretch: `losses[:, early[0]:early[1]]`.")
def pair_as_an_index(losses, early, late):
    return losses[:, list(late)].mean() - losses[:, list(early)].mean()


@mistake("in_context_learning_score", hint="You average the chapter's own stretches, EARLY and LATE. Take those that are given: `early` and `late`.")
def the_chapters_own_stretches(losses, early, late):
    return _mean(losses, (229, 255)) - _mean(losses, (25, 51))


@mistake("in_context_learning_score", hint="Your slices are empty, and the mean of nothing is NaN. A stretch goes from its first number to its second: `losses[:, late[0]:late[1]]`.")
def bounds_exchanged(losses, early, late):
    return _mean(losses, late[::-1]) - _mean(losses, early[::-1])


@mistake("in_context_learning_score", hint="This is the median of each stretch. Take the mean.")
def medians_of_stretches(losses, early, late):
    return losses[:, late[0] : late[1]].median() - losses[:, early[0] : early[1]].median()


@mistake("in_context_learning_score", hint="This is one score per text. Average over the texts, too.")
def one_score_per_text(losses, early, late):
    return losses[:, late[0] : late[1]].mean(1) - losses[:, early[0] : early[1]].mean(1)


@mistake("in_context_learning_score", hint="You take the second number of each pair for a length. It is one past the last position, as in a slice.")
def start_and_length(losses, early, late):
    return _mean(losses, (late[0], sum(late))) - _mean(losses, (early[0], sum(early)))


@mistake("in_context_learning_score", hint="You add up the positions of a stretch. Stretches may be of different lengths: take means.")
def sums_of_positions(losses, early, late):
    return losses[:, late[0] : late[1]].sum(1).mean() - losses[:, early[0] : early[1]].sum(1).mean()


# previous_token_score -----------------------------------------------------------------------


def _stripe(pattern, back):
    return pattern.diagonal(-back, dim1=-2, dim2=-1)


@mistake("previous_token_score", hint="The stripe *above* the diagonal is the future, where no head looks. One back is below it: `diagonal(-1, ...)`.")
def next_token(pattern):
    return _stripe(pattern, -1).mean((0, -1))


@mistake("previous_token_score", hint="The diagonal itself is the weight that a token gives to itself. One back is the stripe below: `diagonal(-1, ...)`.")
def the_token_itself(pattern):
    return _stripe(pattern, 0).mean((0, -1))


@mistake("previous_token_score", hint="You divide by the number of positions. The first has no predecessor: the stripe has one entry fewer, and the mean is over those.")
def first_position_counts_as_zero(pattern):
    return _stripe(pattern, 1).sum(-1).mean(0) / pattern.shape[-1]


@mistake("previous_token_score", hint="The heads are averaged together. Each should have a score of its own.")
def one_score_for_all_heads(pattern):
    return _stripe(pattern, 1).mean()


@mistake("previous_token_score", hint="You count how often the previous token gets the *most* attention. The score is the mean weight it gets.")
def how_often_it_is_first(pattern):
    looked_at = pattern[:, :, 1:].argmax(-1)
    return (looked_at == torch.arange(pattern.shape[-1] - 1)).float().mean((0, -1))


@mistake("previous_token_score", hint="This is the weight of the token *two* back.")
def two_back(pattern):
    return _stripe(pattern, 2).mean((0, -1))


@mistake("previous_token_score", hint="This is the score on the first text of the batch. Average over all of them.")
def only_the_first_text(pattern):
    return _stripe(pattern, 1)[0].mean(-1)


@mistake("previous_token_score", hint="This is the largest weight along the stripe. The score is the mean.")
def largest_along_the_stripe(pattern):
    return _stripe(pattern, 1).mean(0).amax(-1)


@mistake("previous_token_score", hint="You add up the weights along the stripe. Take their mean.")
def sum_along_the_stripe(pattern):
    return _stripe(pattern, 1).sum(-1).mean(0)


@mistake("previous_token_score", hint="The stripe begins at position 1, and you leave that out. Only position 0 has no token before it.")
def first_entry_left_out(pattern):
    return _stripe(pattern, 1)[..., 1:].mean((0, -1))


@mistake("previous_token_score", hint="`pattern[:, :, 1:, 1:]` shifts both axes alike: its diagonal is the weight that tokens give to themselves. Shift one: destinations from 1 on, sources up to the last but one.")
def both_axes_shifted(pattern):
    return _stripe(pattern, 0)[..., 1:].mean((0, -1))


# duplicate_token_score ----------------------------------------------------------------------


@mistake("duplicate_token_score", hint="This stripe is of the token *after* the same one: induction. The same token stands `length` back.")
def after_the_duplicate(pattern, length):
    return _stripe(pattern, length - 1)[..., 1:].mean((0, -1))


@mistake("duplicate_token_score", hint="This stripe is of the token *before* the same one. The same token stands `length` back, not length + 1.")
def before_the_duplicate(pattern, length):
    return _stripe(pattern, length + 1).mean((0, -1))


@mistake("duplicate_token_score", hint="You divide by all positions. Only those of the second copy have a duplicate to look at: average over these.")
def over_both_copies(pattern, length):
    return _stripe(pattern, length).sum(-1).mean(0) / pattern.shape[-1]


@mistake("duplicate_token_score", hint="You look at the diagonal: a token looking at itself. The duplicate stands `length` back.")
def duplicate_is_itself(pattern, length):
    return _stripe(pattern, 0)[..., length:].mean((0, -1))


@mistake("duplicate_token_score", hint="The heads are averaged together. Each should have a score of its own.")
def duplicate_score_for_all_heads(pattern, length):
    return _stripe(pattern, length).mean()


@mistake("duplicate_token_score", hint="You count how often the duplicate gets the *most* attention. The score is the mean weight it gets.")
def how_often_the_duplicate_is_first(pattern, length):
    looked_at = pattern[:, :, length:].argmax(-1)
    return (looked_at == torch.arange(looked_at.shape[-1])).float().mean((0, -1))


@mistake("duplicate_token_score", hint="This is the score on the first text of the batch. Average over all of them.")
def duplicates_of_the_first_text(pattern, length):
    return _stripe(pattern, length)[0].mean(-1)


@mistake("duplicate_token_score", hint="The minus is missing: `diagonal(length)` is above the diagonal, in the future. Back is `-length`.")
def duplicate_in_the_future(pattern, length):
    return _stripe(pattern, -length).mean((0, -1))


@mistake("duplicate_token_score", hint="You add up the weights along the stripe. Take their mean.")
def sum_over_duplicates(pattern, length):
    return _stripe(pattern, length).sum(-1).mean(0)


@mistake("duplicate_token_score", hint="The first entry of the stripe belongs: it is the first token of the second copy. (Only the induction stripe begins one place too early.)")
def first_duplicate_left_out(pattern, length):
    return _stripe(pattern, length)[..., 1:].mean((0, -1))


@mistake("duplicate_token_score", hint="You average over all places of the first copy. Each token has one duplicate, `length` back: take that stripe alone.")
def all_of_the_first_copy(pattern, length):
    return pattern[:, :, length:, :length].mean((0, 2, 3))


@mistake("duplicate_token_score", hint="You take `length` for both copies together, and look half of it back. It is one copy: look `length` back.")
def half_a_copy_back(pattern, length):
    return _stripe(pattern, length // 2).mean((0, -1))


# induction_score ----------------------------------------------------------------------------


@mistake("induction_score", hint="The stripe begins one place too early, at the last token of the *first* copy. Leave its first entry out.")
def last_of_the_first_copy_too(pattern, length):
    return _stripe(pattern, length - 1).mean((0, -1))


@mistake("induction_score", hint="This stripe is of the *same* token. The one after it is length - 1 back.")
def the_same_token(pattern, length):
    return _stripe(pattern, length).mean((0, -1))


@mistake("induction_score", hint="This stripe is of the token *before* the same one, length + 1 back. The one after it is length - 1 back.")
def before_the_same_token(pattern, length):
    return _stripe(pattern, length + 1).mean((0, -1))


@mistake("induction_score", hint="You leave out the *last* entry of the stripe. The one too many is the first: it belongs to the first copy.")
def leaves_out_the_last(pattern, length):
    return _stripe(pattern, length - 1)[..., :-1].mean((0, -1))


@mistake("induction_score", hint="You divide by all positions. Average over the second copy alone.")
def induction_over_both_copies(pattern, length):
    return _stripe(pattern, length - 1)[..., 1:].sum(-1).mean(0) / pattern.shape[-1]


@mistake("induction_score", hint="The heads are averaged together. Each should have a score of its own.")
def induction_score_for_all_heads(pattern, length):
    return _stripe(pattern, length - 1)[..., 1:].mean()


@mistake("induction_score", hint="You count how often that token gets the *most* attention. The score is the mean weight it gets.")
def how_often_induction_is_first(pattern, length):
    looked_at = pattern[:, :, length:].argmax(-1)
    return (looked_at == torch.arange(1, looked_at.shape[-1] + 1)).float().mean((0, -1))


@mistake("induction_score", hint="This is the score on the first text of the batch. Average over all of them.")
def induction_of_the_first_text(pattern, length):
    return _stripe(pattern, length - 1)[0, :, 1:].mean(-1)


@mistake("induction_score", hint="You add up the weights along the stripe. Take their mean.")
def sum_over_the_second_copy(pattern, length):
    return _stripe(pattern, length - 1)[..., 1:].sum(-1).mean(0)


@mistake("induction_score", hint="All your scores are 0: the stripe lies above the diagonal, in the future. `pattern` is `[... dest src]`, and back is minus: `diagonal(-(length - 1), ...)`.")
def induction_in_the_future(pattern, length):
    return _stripe(pattern, -(length - 1))[..., 1:].mean((0, -1))


@mistake("induction_score", hint="`-length - 1` is length + 1 back. Put brackets: `-(length - 1)`.")
def brackets_forgotten(pattern, length):
    return _stripe(pattern, length + 1)[..., 1:].mean((0, -1))


@mistake("induction_score", hint="You take the text in which a head does it most. Average over the batch.")
def induction_of_the_best_text(pattern, length):
    return _stripe(pattern, length - 1)[..., 1:].mean(-1).amax(0)


@mistake("induction_score", hint="You cut the pattern to the second copy by the first, and lose one place: the last token of the second copy looks at position `length`, the first token *of the second copy*. Take the stripe from the whole pattern.")
def block_ends_too_early(pattern, length):
    return _stripe(pattern, length - 1)[..., 1:-1].mean((0, -1))


# find_heads ---------------------------------------------------------------------------------


def _scores(model, tokens, kind, back=None, first=None):
    """Mean weight of each head, [n_layers n_heads], for the kind's distance or another."""
    length = tokens.shape[1] // 2
    back = back or {"previous": 1, "duplicate": length, "induction": length - 1}
    first = first or {"previous": 1, "duplicate": length, "induction": length}
    _, cache = model.run_with_cache(tokens)
    patterns = [cache["pattern", layer] for layer in range(model.cfg.n_layers)]
    return torch.stack([_stripe(p, back[kind])[..., first[kind] - back[kind] :].mean((0, -1)) for p in patterns])


def _pairs(found):
    return [tuple(pair) for pair in found.nonzero().tolist()]


@mistake("find_heads", hint="The kinds are mixed up: the same token stands L back (duplicate), the one after it L - 1 back (induction).")
def duplicate_and_induction_exchanged(model, tokens, kind):
    other = {"duplicate": "induction", "induction": "duplicate"}.get(kind, kind)
    return _pairs(_scores(model, tokens, other) > 0.4)


@mistake("find_heads", hint="`induction` is where the token *after* the earlier one stands, L - 1 back. Yours looks at the token before it, L + 1 back.")
def induction_one_too_far(model, tokens, kind):
    length = tokens.shape[1] // 2
    back = {"previous": 1, "duplicate": length, "induction": length + 1}
    first = {"previous": 1, "duplicate": length, "induction": length + 1}
    return _pairs(_scores(model, tokens, kind, back, first) > 0.4)


@mistake("find_heads", hint="Each pair is (layer, head); yours are (head, layer).")
def head_before_layer(model, tokens, kind):
    return [(head, layer) for layer, head in _pairs(_scores(model, tokens, kind) > 0.4)]


@mistake("find_heads", hint="These are plain numbers. Name each head by a pair (layer, head).")
def heads_numbered_through(model, tokens, kind):
    return (_scores(model, tokens, kind) > 0.4).flatten().nonzero()[:, 0].tolist()


@mistake("find_heads", hint="You return the best head alone. There may be several above 0.4, or none.")
def only_the_best_head(model, tokens, kind):
    scores = _scores(model, tokens, kind)
    return [divmod(int(scores.argmax()), scores.shape[1])]


@mistake("find_heads", hint="You look at layer 0 only. Go through all `model.cfg.n_layers` layers.")
def only_the_first_layer(model, tokens, kind):
    return [(layer, head) for layer, head in _pairs(_scores(model, tokens, kind) > 0.4) if layer == 0]


@mistake("find_heads", hint="You look at the last layer only. Go through all `model.cfg.n_layers` layers.")
def only_the_last_layer(model, tokens, kind):
    return [(layer, head) for layer, head in _pairs(_scores(model, tokens, kind) > 0.4) if layer == model.cfg.n_layers - 1]


@mistake("find_heads", hint="You ask whether the weight is above 0.4 *anywhere*. Its mean should be.")
def above_somewhere(model, tokens, kind):
    length = tokens.shape[1] // 2
    back = {"previous": 1, "duplicate": length, "induction": length - 1}[kind]
    _, cache = model.run_with_cache(tokens)
    most = [_stripe(cache["pattern", layer], back).amax((0, -1)) for layer in range(model.cfg.n_layers)]
    return _pairs(torch.stack(most) > 0.4)


@mistake("find_heads", hint="A head in another layer than the usual one is missing: you look for previous-token heads in layer 0, for the others in layer 1. Look for every kind in every layer.")
def each_kind_in_its_usual_layer(model, tokens, kind):
    usual = 0 if kind == "previous" else 1
    return [(layer, head) for layer, head in _pairs(_scores(model, tokens, kind) > 0.4) if layer == usual]


@mistake("find_heads", hint="You look at the first text only. Average over the batch, too.")
def heads_of_the_first_text(model, tokens, kind):
    return _pairs(_scores(model, tokens[:1], kind) > 0.4)


@mistake("find_heads", hint="You take the text in which a head does it most. Average over the batch.")
def heads_of_the_best_text(model, tokens, kind):
    return _pairs(torch.stack([_scores(model, text[None], kind) for text in tokens]).amax(0) > 0.4)


@mistake("find_heads", hint="You take `length` to be all of `tokens`; one copy is half of them.")
def length_of_both_copies(model, tokens, kind):
    length = tokens.shape[1]
    back = {"previous": 1, "duplicate": length, "induction": length - 1}
    return _pairs(_scores(model, tokens, kind, back, back) > 0.4)


@mistake("find_heads", hint="For induction, the stripe L - 1 back begins one place too early, at the last token of the first copy. Leave its first entry out.")
def whole_induction_stripe(model, tokens, kind):
    length = tokens.shape[1] // 2
    back = {"previous": 1, "duplicate": length, "induction": length - 1}
    return _pairs(_scores(model, tokens, kind, first=back) > 0.4)


@mistake("find_heads", hint="The limit is 0.4. Yours is higher.")
def above_a_half(model, tokens, kind):
    return _pairs(_scores(model, tokens, kind) > 0.5)


@mistake("find_heads", hint="The limit is 0.4. Yours is higher.")
def above_0_45(model, tokens, kind):
    return _pairs(_scores(model, tokens, kind) > 0.45)


@mistake("find_heads", hint="The limit is 0.4. Yours is lower.")
def above_0_3(model, tokens, kind):
    return _pairs(_scores(model, tokens, kind) > 0.3)


@mistake("find_heads", hint="The limit is 0.4. Yours is lower.")
def above_0_35(model, tokens, kind):
    return _pairs(_scores(model, tokens, kind) > 0.35)


@mistake("find_heads", hint="For `previous` you look at the second copy only. Every position from 1 on has a token before it: average over all of them.")
def previous_in_the_second_copy(model, tokens, kind):
    length = tokens.shape[1] // 2
    return _pairs(_scores(model, tokens, kind, first=dict.fromkeys(("previous", "duplicate", "induction"), length)) > 0.4)


def _stripes(model, tokens, kind):
    """What each head gives to the place of its kind, [n_layers batch n_heads dest]."""
    length = tokens.shape[1] // 2
    back, first = {"previous": (1, 1), "duplicate": (length, length), "induction": (length - 1, length)}[kind]
    _, cache = model.run_with_cache(tokens)
    return torch.stack([_stripe(cache["pattern", layer], back)[..., first - back :] for layer in range(model.cfg.n_layers)])


@mistake("find_heads", hint="You take the median of the weights. A few large ones count as well: take the mean.")
def median_over_positions(model, tokens, kind):
    return _pairs(_stripes(model, tokens, kind).mean(1).median(-1).values > 0.4)


@mistake("find_heads", hint="You take the median of the weights. A few large ones count as well: take the mean.")
def median_over_everything(model, tokens, kind):
    return _pairs(_stripes(model, tokens, kind).transpose(1, 2).flatten(2).median(-1).values > 0.4)


@mistake("find_heads", hint="You count how often that place gets the *most* attention. Its mean weight should be above 0.4.")
def how_often_the_place_is_first(model, tokens, kind):
    length = tokens.shape[1] // 2
    back, first = {"previous": (1, 1), "duplicate": (length, length), "induction": (length - 1, length)}[kind]
    _, cache = model.run_with_cache(tokens)
    asked = torch.arange(first, 2 * length) - back
    looked_at = torch.stack([cache["pattern", layer][:, :, first:].argmax(-1) for layer in range(model.cfg.n_layers)])
    return _pairs((looked_at == asked).float().mean((1, 3)) > 0.4)


@mistake("find_heads", hint="You take the best head of each layer. A layer may have several above 0.4.")
def best_head_of_each_layer(model, tokens, kind):
    scores = _scores(model, tokens, kind)
    return [(layer, int(row.argmax())) for layer, row in enumerate(scores) if row.max() > 0.4]


@mistake("find_heads", hint="You return names like '1.3'. Give pairs of numbers, (1, 3).")
def names_of_heads(model, tokens, kind):
    return [f"{layer}.{head}" for layer, head in _pairs(_scores(model, tokens, kind) > 0.4)]


@mistake("find_heads", hint="You leave the first entry out for every kind. Only the induction stripe begins one place too early.")
def first_entry_left_out_of_each_kind(model, tokens, kind):
    length = tokens.shape[1] // 2
    return _pairs(_scores(model, tokens, kind, first={"previous": 2, "duplicate": length + 1, "induction": length}) > 0.4)


# one_layer_shows ----------------------------------------------------------------------------


@mistake("one_layer_shows", hint="Looking for what *followed* a token means that the keys know their predecessor. In one layer nobody has told them.")
def one_layer_has_induction_heads(claim):
    return {"previous": True, "induction": True, "copying": True, "second copy": False}[claim]


@mistake("one_layer_shows", hint="To look one position back, a head needs nothing but positions, and queries and keys see those in every layer.")
def one_layer_cannot_look_back(claim):
    return {"previous": False, "induction": False, "copying": True, "second copy": False}[claim]


@mistake("one_layer_shows", hint="Copying is a matter of one head's OV circuit: it raises the token it looks at. Chapter 2 found such heads in this very model.")
def one_layer_cannot_copy(claim):
    return {"previous": True, "induction": False, "copying": False, "second copy": False}[claim]


@mistake("one_layer_shows", hint="A copying head makes the earlier tokens a little likelier, all of them. To gain a nat per token, it must know *which* comes next.")
def copying_is_enough(claim):
    return {"previous": True, "induction": False, "copying": True, "second copy": True}[claim]


@mistake("one_layer_shows", hint="Not everything is within reach of one layer: what is behind a score of its heads? (`tokens_behind_score` tells.)")
def one_layer_can_do_everything(claim):
    return True


@mistake("one_layer_shows", hint="One layer is not nothing: a head can look by position, and its OV circuit can copy.")
def one_layer_can_do_nothing(claim):
    return False


@mistake("one_layer_shows", hint="One claim is about looking back by *position*, one about looking for what followed: you have them the wrong way round.")
def looking_back_and_looking_up_exchanged(claim):
    return {"previous": False, "induction": True, "copying": True, "second copy": True}[claim]


@mistake("one_layer_shows", hint="You have copying and the second copy the wrong way round. An OV circuit can raise the token it looks at; to know *which* token comes next takes a second layer.")
def copying_and_the_second_copy_exchanged(claim):
    return {"previous": True, "induction": False, "copying": False, "second copy": True}[claim]


# phase_change_step --------------------------------------------------------------------------


def _falls(curve, k):
    values = torch.tensor([value for _, value in curve], dtype=torch.float64)
    places = range(k, len(values) - k + 1)
    return k, torch.stack([values[i - k : i].mean() - values[i : i + k].mean() for i in places])


@mistake("phase_change_step", hint="This is the index in the list. Return the step, the first number of the pair that stands there.")
def index_in_the_list(curve):
    k, falls = _falls(curve, max(2, len(curve) // 20))
    return k + int(falls.argmax())


@mistake("phase_change_step", hint="You compare neighbouring points, and find the largest jump of the noise. Compare means over a stretch of points.")
def neighbouring_points(curve):
    k, falls = _falls(curve, 1)
    return curve[k + int(falls.argmax())][0]


@mistake("phase_change_step", hint="This is the largest fall from one point to the next, mostly noise. Compare means over a stretch of points.")
def largest_step_down(curve):
    values = [value for _, value in curve]
    return curve[max(range(len(curve) - 1), key=lambda i: values[i] - values[i + 1])][0]


@mistake("phase_change_step", hint="You compare two single points, a stretch apart: noise decides between places, and you return where the stretch *begins*. Compare means before and after a place, and return that place.")
def two_points_a_stretch_apart(curve):
    values = [value for _, value in curve]
    k = max(2, len(curve) // 20)
    return curve[max(range(len(curve) - k), key=lambda i: values[i] - values[i + k])][0]


@mistake("phase_change_step", hint="You compare two single points, a stretch apart, and noise decides between places. Compare the mean of a stretch before with the mean of a stretch after.")
def middle_of_two_points(curve):
    values = [value for _, value in curve]
    k = max(2, len(curve) // 20)
    return curve[k // 2 + max(range(len(curve) - k), key=lambda i: values[i] - values[i + k])][0]


@mistake("phase_change_step", hint="You divide the means. Steepness is a difference, in nats: subtract them.")
def ratio_before_and_after(curve):
    values = torch.tensor([value for _, value in curve], dtype=torch.float64)
    k = max(2, len(values) // 20)
    ratios = [values[i - k : i].mean() / values[i : i + k].mean() for i in range(k, len(values) - k + 1)]
    return curve[k + int(torch.stack(ratios).argmax())][0]


@mistake("phase_change_step", hint="This is where the first of the two stretches begins. The fall is between them: k points further on.")
def beginning_of_the_stretch(curve):
    k, falls = _falls(curve, max(2, len(curve) // 20))
    return curve[int(falls.argmax())][0]


@mistake("phase_change_step", hint="This is where the curve is lowest, near its end. Look for where it *falls* the most.")
def lowest_point(curve):
    return min(curve, key=lambda point: point[1])[0]


@mistake("phase_change_step", hint="This is where half of the whole way down is done. A gentle slope may have done much of it: look for the steepest place.")
def half_way_down(curve):
    values = [value for _, value in curve]
    middle = (values[0] + min(values)) / 2
    return next(step for step, value in curve if value <= middle)


@mistake("phase_change_step", hint="You look for the steepest *rise*: the difference has the wrong sign.")
def steepest_rise(curve):
    k, falls = _falls(curve, max(2, len(curve) // 20))
    return curve[k + int(falls.argmin())][0]


@mistake("phase_change_step", hint="This is how far the curve falls. Return the step where it does.")
def size_of_the_fall(curve):
    return round(_falls(curve, max(2, len(curve) // 20))[1].max().item())


@mistake("phase_change_step", hint="You compare stretches of a third of the curve: so long a stretch sees the gentle slope, not the drop. Take a twentieth.")
def stretches_too_long(curve):
    k, falls = _falls(curve, len(curve) // 3)
    return curve[k + int(falls.argmax())][0]


@mistake("phase_change_step", hint="This is where the curve is highest. Look for where it *falls* the most.")
def highest_point(curve):
    return max(curve, key=lambda point: point[1])[0]


@mistake("phase_change_step", hint="You compare all points before a place with all after it: so long a stretch sees the gentle slope, not the drop. Take a twentieth of the curve on either side.")
def everything_before_and_after(curve):
    values = torch.tensor([value for _, value in curve], dtype=torch.float64)
    falls = torch.stack([values[:i].mean() - values[i:].mean() for i in range(2, len(values) - 1)])
    return curve[2 + int(falls.argmax())][0]


@mistake("phase_change_step", hint="A steep *rise* counts as a fall here: you compare sizes. Mean before minus mean after, with its sign, and the largest wins.")
def rises_count_as_falls(curve):
    k, falls = _falls(curve, max(2, len(curve) // 20))
    return curve[k + int(falls.abs().argmax())][0]


@mistake("phase_change_step", hint="This is the first place that falls half as steeply as the steepest. Return the steepest itself.")
def first_fall_of_half_the_size(curve):
    k, falls = _falls(curve, max(2, len(curve) // 20))
    return curve[k + int((falls > falls.max() / 2).nonzero()[0])][0]


# composition_score --------------------------------------------------------------------------


@mistake("composition_score", hint="The order is wrong: row vectors meet the writer first, `W_A @ W_B`.")
def reader_first(W_A, W_B):
    return (W_B @ W_A).norm() / (W_A.norm() * W_B.norm())


@mistake("composition_score", hint="The size of the product is not divided by those of its factors, so loud heads win.")
def not_normalised(W_A, W_B):
    return (W_A @ W_B).norm()


@mistake("composition_score", hint="This uses the spectral norm, the largest singular value. The score uses the Frobenius norm: `M.norm()`.")
def spectral_norms(W_A, W_B):
    size = torch.linalg.matrix_norm
    return size(W_A @ W_B, 2) / (size(W_A, 2) * size(W_B, 2))


@mistake("composition_score", hint="This is the square of the score: take the root of the sums of squares.")
def squared_norms(W_A, W_B):
    return (W_A @ W_B).pow(2).sum() / (W_A.pow(2).sum() * W_B.pow(2).sum())


@mistake("composition_score", hint="`*` multiplies entry by entry. The reader acts on what the writer wrote: `W_A @ W_B`.")
def entry_by_entry(W_A, W_B):
    return (W_A * W_B).norm() / (W_A.norm() * W_B.norm())


@mistake("composition_score", hint="The reader must not be transposed: with row vectors, `x @ W_A @ W_B`.")
def reader_transposed(W_A, W_B):
    return (W_A @ W_B.T).norm() / (W_A.norm() * W_B.norm())


@mistake("composition_score", hint="You divide by the norm of the writer alone. Divide by that of the reader, too.")
def divided_by_the_writer_alone(W_A, W_B):
    return (W_A @ W_B).norm() / W_A.norm()


@mistake("composition_score", hint="This asks how alike the two matrices are. Ask how much of what one writes the other reads: the norm of their product.")
def cosine_of_the_matrices(W_A, W_B):
    return (W_A * W_B).sum() / (W_A.norm() * W_B.norm())


@mistake("composition_score", hint="You divide by the *sum* of the norms. Divide by their product.")
def divided_by_the_sum(W_A, W_B):
    return (W_A @ W_B).norm() / (W_A.norm() + W_B.norm())


@mistake("composition_score", hint="You subtract the baseline here. The score is the ratio of the norms alone.")
def baseline_subtracted_already(W_A, W_B):
    return (W_A @ W_B).norm() / (W_A.norm() * W_B.norm()) - W_A.shape[0] ** -0.5


@mistake("composition_score", hint="You add up the sizes of the entries. The Frobenius norm is the root of the sum of their squares: `M.norm()`.")
def sums_of_sizes(W_A, W_B):
    return (W_A @ W_B).abs().sum() / (W_A.abs().sum() * W_B.abs().sum())


@mistake("composition_score", hint="You take the root of the *mean* of the squares. The Frobenius norm is the root of their sum: `M.norm()`.")
def roots_of_mean_squares(W_A, W_B):
    def size(M):
        return M.pow(2).mean().sqrt()

    return size(W_A @ W_B) / (size(W_A) * size(W_B))


@mistake("composition_score", hint="`a / b * c` divides by b alone. Put brackets round the product of the two norms.")
def brackets_forgotten_in_the_score(W_A, W_B):
    return (W_A @ W_B).norm() / W_A.norm() * W_B.norm()


# composition_scores -------------------------------------------------------------------------


def _composition(A1, A2, B1, B2):
    """Scores of all pairs of writers A1 @ A2 and readers B1 @ B2, through the factors."""
    G, H = A1.mT @ A1, B2 @ B2.mT
    M = einsum(A2, B1, "i r d, j d s -> i j r s")
    product = ((G[:, None] @ M) * (M @ H)).sum((-1, -2))
    norm_A, norm_B = (G * (A2 @ A2.mT)).sum((-1, -2)), ((B1.mT @ B1) * H).sum((-1, -2))
    return product, norm_A, norm_B


def _readers(model, layer=1):
    """Both factors of what reads through the queries, keys and values of a layer."""
    W_Q, W_K = model.W_Q[layer], model.W_K[layer]
    return {"Q": (W_Q, W_K.mT), "K": (W_K, W_Q.mT), "V": (model.W_V[layer], model.W_O[layer])}


def _composed(model, kind, writer=0, reader=1):
    parts = _composition(model.W_V[writer], model.W_O[writer], *_readers(model, reader)[kind])
    product, norm_A, norm_B = parts
    return (product / (norm_A[:, None] * norm_B)).sqrt()


@mistake("composition_scores", hint="The baseline is not subtracted: random heads score 1/√d_model, and the table should say how much more these do.")
def without_the_baseline(model, kind):
    return _composed(model, kind)


@mistake("composition_scores", hint="Queries and keys are exchanged: for \"K\" what the writer wrote meets W_K first, so the reader is `W_K @ W_Q.T`; for \"Q\" it is `W_Q @ W_K.T`.")
def queries_and_keys_exchanged(model, kind):
    return _composed(model, {"Q": "K", "K": "Q"}.get(kind, kind)) - model.cfg.d_model**-0.5


@mistake("composition_scores", hint="Rows and columns are exchanged: entry [i, j] is for head i of layer 0 and head j of layer 1.")
def pairs_transposed(model, kind):
    return _composed(model, kind).T - model.cfg.d_model**-0.5


@mistake("composition_scores", hint="The layers are exchanged: layer 0 writes and layer 1 reads.")
def layer_one_writes(model, kind):
    return _composed(model, kind, writer=1, reader=0) - model.cfg.d_model**-0.5


@mistake("composition_scores", hint="These are squares of scores: the sums through the factors are *squared* norms. Take the root.")
def root_forgotten(model, kind):
    return _composed(model, kind) ** 2 - model.cfg.d_model**-0.5


@mistake("composition_scores", hint="The products are not divided by the norms of writer and reader, so loud heads win.")
def products_not_normalised(model, kind):
    product, _, _ = _composition(model.W_V[0], model.W_O[0], *_readers(model)[kind])
    return product.sqrt() - model.cfg.d_model**-0.5


@mistake("composition_scores", hint="The baseline is 1/√d_model. You take the width of a head, d_head.")
def baseline_of_the_head(model, kind):
    return _composed(model, kind) - model.cfg.d_head**-0.5


@mistake("composition_scores", hint="The baseline is 1/√d_model. You subtract 1/d_model.")
def baseline_without_the_root(model, kind):
    return _composed(model, kind) - 1 / model.cfg.d_model


@mistake("composition_scores", hint="Both heads are taken from layer 0. The reader is in layer 1: `model.W_Q[1]` and so on.")
def reader_in_layer_zero(model, kind):
    return _composed(model, kind, reader=0) - model.cfg.d_model**-0.5


@mistake("composition_scores", hint="The reader is more than its first matrix: what a head does with its input is W_Q W_Kᵀ, W_K W_Qᵀ or W_V W_O, two factors each.")
def first_factor_of_the_reader(model, kind):
    W_V, W_O, B = model.W_V[0], model.W_O[0], _readers(model)[kind][0]
    M = einsum(W_O, B, "i r d, j d s -> i j r s")
    product = einsum(W_V, M, "i d r, i j r s -> i j d s").norm(dim=(-1, -2))
    size_of_writer = (W_V.mT @ W_V * (W_O @ W_O.mT)).sum((-1, -2)).sqrt()
    return product / (size_of_writer[:, None] * B.norm(dim=(-1, -2))) - model.cfg.d_model**-0.5


@mistake("composition_scores", hint="You take W_O of the writer and the first matrix of the reader. Each is a product of two: W_V W_O writes, and W_Q W_Kᵀ, W_K W_Qᵀ or W_V W_O reads.")
def inner_factors_alone(model, kind):
    W_O, B = model.W_O[0], _readers(model)[kind][0]
    product = einsum(W_O, B, "i r d, j d s -> i j r s").norm(dim=(-1, -2))
    return product / (W_O.norm(dim=(-1, -2))[:, None] * B.norm(dim=(-1, -2))) - model.cfg.d_model**-0.5


@mistake("composition_scores", hint="The reader is W_K W_Qᵀ for \"Q\" and for \"K\" alike. For \"Q\" what the writer wrote meets W_Q first: `W_Q @ W_K.T`.")
def keys_for_queries_too(model, kind):
    return _composed(model, {"Q": "K"}.get(kind, kind)) - model.cfg.d_model**-0.5


# composed_qk --------------------------------------------------------------------------------


def _moved(model, head, layer=0):
    """What a head writes of every token."""
    return model.W_E @ model.W_V[layer, head] @ model.W_O[layer, head]


@mistake("composed_qk", hint="Rows and columns are exchanged: the row is the present token, the query; the column is the one the key knows.")
def composed_transposed(model, prev_head, ind_head):
    return _moved(model, prev_head) @ model.W_K[1, ind_head] @ (model.W_E @ model.W_Q[1, ind_head]).T


@mistake("composed_qk", hint="The keys are made of the tokens themselves, without the previous-token head. Pass them through its W_V and W_O first.")
def without_the_first_head(model, prev_head, ind_head):
    return model.W_E @ model.W_Q[1, ind_head] @ (model.W_E @ model.W_K[1, ind_head]).T


@mistake("composed_qk", hint="W_Q is of layer 0. The query asks in layer 1: `model.W_Q[1, ind_head]`.")
def asks_in_layer_zero(model, prev_head, ind_head):
    return model.W_E @ model.W_Q[0, prev_head] @ (_moved(model, prev_head) @ model.W_K[1, ind_head]).T


@mistake("composed_qk", hint="The keys are made with W_Q. What the previous-token head wrote is read by W_K of the induction head.")
def keys_with_the_query_weights(model, prev_head, ind_head):
    return model.W_E @ model.W_Q[1, ind_head] @ (_moved(model, prev_head) @ model.W_Q[1, ind_head]).T


@mistake("composed_qk", hint="The W_V and W_O of the keys are those of layer 1. The previous-token head is in layer 0.")
def moved_by_layer_one(model, prev_head, ind_head):
    keys = model.W_E @ _ov(model, 1, prev_head) @ model.W_K[1, ind_head]
    return model.W_E @ model.W_Q[1, ind_head] @ keys.T


@mistake("composed_qk", hint="The *query* goes through the previous-token head here, which is Q-composition. It is the key that does.")
def through_the_query(model, prev_head, ind_head):
    return _moved(model, prev_head) @ model.W_Q[1, ind_head] @ (model.W_E @ model.W_K[1, ind_head]).T


@mistake("composed_qk", hint="Both sides go through the previous-token head. The query is the present token as it is embedded.")
def through_both(model, prev_head, ind_head):
    moved = _moved(model, prev_head)
    return moved @ model.W_Q[1, ind_head] @ (moved @ model.W_K[1, ind_head]).T


@mistake("composed_qk", hint="This is divided by √d_head. Leave the factor out, as the exercise says.")
def with_the_scale(model, prev_head, ind_head):
    keys = _moved(model, prev_head) @ model.W_K[1, ind_head]
    return model.W_E @ model.W_Q[1, ind_head] @ keys.T / model.cfg.d_head**0.5


@mistake("composed_qk", hint="The heads are exchanged: `prev_head` is in layer 0 and moves the token, `ind_head` is in layer 1 and compares.")
def heads_exchanged(model, prev_head, ind_head):
    keys = _moved(model, ind_head) @ model.W_K[1, prev_head]
    return model.W_E @ model.W_Q[1, prev_head] @ keys.T


@mistake("composed_qk", hint="W_Q and W_K are those of layer 0. The induction head is in layer 1.")
def compares_in_layer_zero(model, prev_head, ind_head):
    return model.W_E @ model.W_Q[0, ind_head] @ (_moved(model, prev_head) @ model.W_K[0, ind_head]).T


@mistake("composed_qk", hint="This is the whole score, with the direct term. Wanted is the term *through* the previous-token head alone.")
def with_the_direct_term(model, prev_head, ind_head):
    keys = (model.W_E + _moved(model, prev_head)) @ model.W_K[1, ind_head]
    return model.W_E @ model.W_Q[1, ind_head] @ keys.T


@mistake("composed_qk", hint="W_Q and W_K are exchanged: the present token asks, with W_Q; what the previous-token head wrote answers, with W_K.")
def query_and_key_weights_exchanged(model, prev_head, ind_head):
    return model.W_E @ model.W_K[1, ind_head] @ (_moved(model, prev_head) @ model.W_Q[1, ind_head]).T


@mistake("composed_qk", hint="W_Q is of layer 0. The query asks in layer 1: `model.W_Q[1, ind_head]`.")
def asks_with_the_same_head_of_layer_zero(model, prev_head, ind_head):
    return model.W_E @ model.W_Q[0, ind_head] @ (_moved(model, prev_head) @ model.W_K[1, ind_head]).T


@mistake("composed_qk", hint="The keys start from `W_U`. What the previous-token head moves is an embedded token: start from `W_E`.")
def keys_from_the_unembedding(model, prev_head, ind_head):
    keys = model.W_U.T @ _ov(model, 0, prev_head) @ model.W_K[1, ind_head]
    return model.W_E @ model.W_Q[1, ind_head] @ keys.T


# circuit_eigenvalues ------------------------------------------------------------------------


@mistake("circuit_eigenvalues", hint="These are only the real parts. Leave the eigenvalues complex.")
def real_parts(left, right):
    return torch.linalg.eigvals(right @ left).real


@mistake("circuit_eigenvalues", hint="These are only the sizes of the eigenvalues. Whether a circuit copies is in their direction: leave them complex.")
def sizes_of_eigenvalues(left, right):
    return torch.linalg.eigvals(right @ left).abs()


@mistake("circuit_eigenvalues", hint="These are singular values. They are never negative, so they cannot tell copying from avoiding: take `torch.linalg.eigvals`.")
def singular_values(left, right):
    return torch.linalg.svdvals(right @ left).to(torch.complex64)


@mistake("circuit_eigenvalues", hint="`eigvalsh` is for symmetric matrices: it looks at one half of the matrix only. Take `eigvals`.")
def as_if_symmetric(left, right):
    return torch.linalg.eigvalsh(right @ left).to(torch.complex64)


@mistake("circuit_eigenvalues", hint="These are the entries on the diagonal. They have the same sum as the eigenvalues, but they are others.")
def entries_of_the_diagonal(left, right):
    return (right @ left).diagonal().to(torch.complex64)


@mistake("circuit_eigenvalues", hint="This is `left` with itself; `right` is not used. The small product is `right @ left`.")
def left_with_itself(left, right):
    return torch.linalg.eigvals(left.T @ left)


@mistake("circuit_eigenvalues", hint="These are scaled so that the largest has size 1. Return them as they are.")
def scaled_to_one(left, right):
    values = torch.linalg.eigvals(right @ left)
    return values / values.abs().max()


@mistake("circuit_eigenvalues", hint="The zeros are there too: return the r eigenvalues of the small product alone.")
def padded_with_zeros(left, right):
    return F.pad(torch.linalg.eigvals(right @ left), (0, left.shape[0] - left.shape[1]))


@mistake("circuit_eigenvalues", hint="`torch.linalg.eig` returns eigenvalues and eigenvectors; only the first are wanted: `eigvals`.")
def vectors_too(left, right):
    return tuple(torch.linalg.eig(right @ left))


@mistake("circuit_eigenvalues", hint="These are the eigenvalues of `left @ right`, n by n, and n - r of them are 0. The small product `right @ left`, r by r, has the others, and takes no time.")
def of_the_large_product(left, right):
    return torch.linalg.eigvals(left @ right)


# find_pair_by_weights -----------------------------------------------------------------------


def _strongest(scores):
    return divmod(int(scores.argmax()), scores.shape[1])


@mistake("find_pair_by_weights", hint="You look for Q-composition, the reader `W_Q @ W_K.T`. Training chose the keys: `W_K @ W_Q.T`.")
def by_the_queries(model):
    return _strongest(_composed(model, "Q"))


@mistake("find_pair_by_weights", hint="You look for V-composition, which makes virtual heads. An induction head reads the first head's output through its *keys*.")
def by_the_values(model):
    return _strongest(_composed(model, "V"))


@mistake("find_pair_by_weights", hint="The products are not divided by the norms of writer and reader, so the loudest heads win.")
def loudest_product(model):
    product, _, _ = _composition(model.W_V[0], model.W_O[0], *_readers(model)["K"])
    return _strongest(product)


@mistake("find_pair_by_weights", hint="The pair is the wrong way round: first the head of layer 0, then the head of layer 1.")
def head_of_layer_one_first(model):
    i, j = _strongest(_composed(model, "K"))
    return j, i


@mistake("find_pair_by_weights", hint="This is the pair with the *smallest* score.")
def weakest_pair(model):
    return _strongest(-_composed(model, "K"))


@mistake("find_pair_by_weights", hint="The layers are exchanged: head i, of layer 0, writes; head j, of layer 1, reads.")
def reads_from_layer_one(model):
    return _strongest(_composed(model, "K", writer=1, reader=0))


@mistake("find_pair_by_weights", hint="This is the place in the flattened table. `divmod(place, n_heads)` makes it a row and a column.")
def place_in_the_flat_table(model):
    return 0, int(_composed(model, "K").argmax())


@mistake("find_pair_by_weights", hint="This is one number, the place in the flattened table. `divmod(place, n_heads)` makes it a row and a column.")
def one_number(model):
    return int(_composed(model, "K").argmax())


@mistake("find_pair_by_weights", hint="You take the head with the largest sum over its row and the one with the largest over its column. They need not be a pair: take the largest *entry*.")
def largest_sums(model):
    scores = _composed(model, "K")
    return int(scores.sum(1).argmax()), int(scores.sum(0).argmax())


@mistake("find_pair_by_weights", hint="You take the largest score of any kind. An induction head reads through its *keys*: only `\"K\"` counts.")
def largest_of_all_kinds(model):
    return _strongest(torch.stack([_composed(model, kind) for kind in "QKV"]).amax(0))


@mistake("find_pair_by_weights", hint="You choose the second head by how well it copies. Asked is the pair with the largest K-composition score, and nothing else.")
def second_head_by_copying(model):
    return _strongest(_composed(model, "K"))[0], int(_copying(model).argmax())


@mistake("find_pair_by_weights", hint="The reader is not normalised, so the loudest one wins. Divide by its norm, too.")
def loudest_reader(model):
    product, norm_A, _ = _composition(model.W_V[0], model.W_O[0], *_readers(model)["K"])
    return _strongest(product / norm_A[:, None])


def _small_product_score(left, right):
    """Sum over sum of sizes of the eigenvalues of left @ right."""
    values = torch.linalg.eigvals(right @ left)
    return (values.sum(-1).real / values.abs().sum(-1)).nan_to_num()


def _matching(model):
    """How well each pair matches the same token, [i, j]."""
    moved = model.W_E @ model.W_V[0] @ model.W_O[0]  # [i d_vocab d_model]
    keys, queries = moved[:, None] @ model.W_K[1], model.W_E @ model.W_Q[1]
    return _small_product_score(queries, keys.mT)


def _copying(model):
    return _small_product_score(model.W_E @ model.W_V[1], model.W_O[1] @ model.W_U)


@mistake("find_pair_by_weights", hint="This is the pair that *matches* best. Asked is the largest K-composition score: how much the keys read, whatever they match.")
def by_what_the_pair_matches(model):
    return _strongest(_matching(model))


@mistake("find_pair_by_weights", hint="You add matching and copying scores. Asked is the largest K-composition score, and nothing else.")
def by_matching_and_copying(model):
    return _strongest(_matching(model) + _copying(model))


@mistake("find_pair_by_weights", hint="You multiply the K-composition score by how well the second head copies. Asked is the largest K-composition score, and nothing else.")
def by_composition_times_copying(model):
    return _strongest(_composed(model, "K") * _copying(model))


@mistake("find_pair_by_weights", hint="You run the model and go by where its heads look. The weights alone say which pair has the largest K-composition score.")
def by_where_heads_look(model):
    length = min(30, model.cfg.n_ctx // 2)
    once = _once(model.cfg.d_vocab, 4, length, torch.Generator().manual_seed(0))
    tokens = torch.cat([once, once], dim=1)
    return tuple(int(_scores(model, tokens, kind)[layer].argmax()) for layer, kind in ((0, "previous"), (1, "induction")))


@mistake("find_pair_by_weights", hint="Head i is the one with the largest sum over its row, and head j the best for it. Take the largest *entry* of the table.")
def best_row_then_its_best_column(model):
    scores = _composed(model, "K")
    i = int(scores.sum(1).argmax())
    return i, int(scores[i].argmax())


@mistake("find_pair_by_weights", hint="The layers are exchanged: layer 0 writes, so the OV circuit is of layer 0 and the keys are of layer 1.")
def layers_and_pair_exchanged(model):
    j, i = _strongest(_composed(model, "K", writer=1, reader=0))
    return i, j


# virtual_head_ov ----------------------------------------------------------------------------


def _ov(model, layer, head):
    return model.W_V[layer, head] @ model.W_O[layer, head]


@mistake("virtual_head_ov", hint="The order is wrong: a row vector meets `head0`, of layer 0, first.")
def second_head_first(model, head0, head1):
    return _ov(model, 1, head1) @ _ov(model, 0, head0)


@mistake("virtual_head_ov", hint="The OV circuits are added. The second head acts on what the first wrote: multiply.")
def sum_of_ov(model, head0, head1):
    return _ov(model, 0, head0) + _ov(model, 1, head1)


@mistake("virtual_head_ov", hint="The heads are exchanged: `head0` belongs to layer 0, `head1` to layer 1.")
def numbers_exchanged(model, head0, head1):
    return _ov(model, 0, head1) @ _ov(model, 1, head0)


@mistake("virtual_head_ov", hint="Both heads are taken from layer 0. `head1` is in layer 1.")
def both_of_layer_zero(model, head0, head1):
    return _ov(model, 0, head0) @ _ov(model, 0, head1)


@mistake("virtual_head_ov", hint="This is the transpose: with row vectors, `x @ result` is what comes out.")
def virtual_transposed(model, head0, head1):
    return (_ov(model, 0, head0) @ _ov(model, 1, head1)).T


@mistake("virtual_head_ov", hint="Only the second head is there. What it acts on is what the first has written.")
def second_head_alone(model, head0, head1):
    return _ov(model, 1, head1)


@mistake("virtual_head_ov", hint="W_O and W_V are the wrong way round within each head: a row vector goes into a head by W_V, `[d_model d_head]`, and comes out by W_O. The result is `[d_model d_model]`.")
def out_before_in(model, head0, head1):
    return model.W_O[0, head0] @ model.W_V[0, head0] @ model.W_O[1, head1] @ model.W_V[1, head1]


@mistake("virtual_head_ov", hint="This is what the second head reads through its *keys*, which decides where it looks. What it moves goes through W_V and W_O.")
def through_the_keys(model, head0, head1):
    return _ov(model, 0, head0) @ model.W_K[1, head1] @ model.W_Q[1, head1].T


@mistake("virtual_head_ov", hint="This is W_O of the first head and W_V of the second, what passes between the two. Take all four matrices: W_V W_O of both.")
def between_the_heads(model, head0, head1):
    return model.W_O[0, head0].T @ model.W_V[1, head1].T


@mistake("virtual_head_ov", hint="W_V and W_O of one layer are of different heads. `head0` is the head of layer 0, in both matrices, and `head1` that of layer 1.")
def numbers_mixed_within_layers(model, head0, head1):
    return model.W_V[0, head0] @ model.W_O[0, head1] @ model.W_V[1, head0] @ model.W_O[1, head1]


@mistake("virtual_head_ov", hint="Layer and head are exchanged in the index: it is `model.W_V[layer, head]`.")
def head_before_layer_in_the_index(model, head0, head1):
    return model.W_V[head0, 0] @ model.W_O[head0, 0] @ model.W_V[head1, 1] @ model.W_O[head1, 1]


# path_expansion_2l --------------------------------------------------------------------------


def _expansion(model, tokens, pair=None, x_of_second=None, patterns=(0, 1), W_U=None, turned=False):
    """The right terms, unless told otherwise how a pair is made, what the heads of layer 1 read, or how a
    pattern moves."""
    W_U = model.W_U if W_U is None else W_U
    _, cache = model.run_with_cache(tokens)
    heads, x = range(model.cfg.n_heads), model.W_E[tokens]

    def through(x, layer, head):
        A = cache["pattern", patterns[layer]][:, head]
        return (A.mT if turned else A) @ x @ _ov(model, layer, head)

    first = torch.stack([through(x, 0, i) for i in heads])
    x_of_second = x if x_of_second is None else x_of_second(x, first)
    second = torch.stack([through(x_of_second, 1, j) for j in heads])
    pair = pair or (lambda cache, x, i, j: through(first[i], 1, j))
    pairs = torch.stack([torch.stack([pair(cache, x, i, j) for j in heads]) for i in heads])
    return x @ W_U, torch.stack([first, second]) @ W_U, pairs @ W_U


@mistake("path_expansion_2l", hint="The heads of layer 1 act on all of the residual stream here, so what came through layer 0 is counted twice: with them and with the pairs. Alone, they act on the embedding.")
def counts_pairs_twice(model, tokens):
    return _expansion(model, tokens, x_of_second=lambda x, first: x + first.sum(0))


@mistake("path_expansion_2l", hint="The pairs are the wrong way round: entry [i, j] goes through head i of layer 0 and head j of layer 1.")
def pairs_exchanged(model, tokens):
    direct, singles, pairs = _expansion(model, tokens)
    return direct, singles, pairs.transpose(0, 1)


@mistake("path_expansion_2l", hint="The pairs move by the second head's pattern alone. The first moves, too: its pattern acts first.")
def pairs_moved_once(model, tokens):
    return _expansion(model, tokens, lambda cache, x, i, j: cache["pattern", 1][:, j] @ x @ _ov(model, 0, i) @ _ov(model, 1, j))


@mistake("path_expansion_2l", hint="The patterns of the pairs are multiplied in the wrong order: layer 0 moves first, so its pattern stands next to x, `A1 @ A0 @ x`.")
def patterns_in_the_wrong_order(model, tokens):
    return _expansion(
        model, tokens,
        lambda cache, x, i, j: cache["pattern", 0][:, i] @ cache["pattern", 1][:, j] @ x @ _ov(model, 0, i) @ _ov(model, 1, j),
    )


@mistake("path_expansion_2l", hint="Layer 1 is given the patterns of layer 0. Each layer has its own: `cache[\"pattern\", layer]`.")
def patterns_of_layer_zero(model, tokens):
    return _expansion(model, tokens, patterns=(0, 0))


@mistake("path_expansion_2l", hint="The pairs are all 0, so the terms do not add up. A head of layer 1 also reads what each head of layer 0 wrote.")
def without_pairs(model, tokens):
    direct, singles, pairs = _expansion(model, tokens)
    return direct, singles, torch.zeros_like(pairs)


@mistake("path_expansion_2l", hint="The terms of layer 1 are what its heads really wrote, pairs and all, and the pairs are 0. Take apart what a head of layer 1 moves: what comes from the embedding, and what each head of layer 0 wrote.")
def pairs_within_singles(model, tokens):
    direct, singles, pairs = _expansion(model, tokens, x_of_second=lambda x, first: x + first.sum(0))
    return direct, singles, torch.zeros_like(pairs)


@mistake("path_expansion_2l", hint="The terms are still in the residual stream. Unembed each: `@ model.W_U`.")
def terms_not_unembedded(model, tokens):
    return _expansion(model, tokens, W_U=torch.eye(model.cfg.d_model))


@mistake("path_expansion_2l", hint="The direct path is what is left of the logits after the heads: then the terms add up by construction, whatever they are. Compute it: `model.W_E[tokens] @ model.W_U`.")
def direct_path_is_the_rest(model, tokens):
    _, singles, pairs = _expansion(model, tokens)
    zero = torch.zeros_like(pairs)
    return model(tokens) - singles.sum((0, 1)), singles, zero


@mistake("path_expansion_2l", hint="The pairs are not moved by the second head: its pattern is missing. It moves what the first head wrote, as it moves everything.")
def second_head_does_not_move(model, tokens):
    return _expansion(model, tokens, lambda cache, x, i, j: cache["pattern", 0][:, i] @ x @ _ov(model, 0, i) @ _ov(model, 1, j))


@mistake("path_expansion_2l", hint="The patterns are transposed: row `dest` of a pattern weighs the sources, so it is `A @ x`.")
def patterns_transposed(model, tokens):
    return _expansion(model, tokens, turned=True)


@mistake("path_expansion_2l", hint="The OV circuits of a pair are multiplied in the wrong order: a row vector meets that of layer 0 first.")
def ov_in_the_wrong_order(model, tokens):
    return _expansion(
        model, tokens,
        lambda cache, x, i, j: cache["pattern", 1][:, j] @ cache["pattern", 0][:, i] @ x @ _ov(model, 1, j) @ _ov(model, 0, i),
    )


@mistake("path_expansion_2l", hint="The single heads are stored `[head, layer]`. The layer comes first.")
def singles_by_head_and_layer(model, tokens):
    direct, singles, pairs = _expansion(model, tokens)
    return direct, singles.transpose(0, 1), pairs


@mistake("path_expansion_2l", hint="The positions are added to x. In this model queries and keys alone see them: the stream starts as `model.W_E[tokens]`.")
def positions_added(model, tokens):
    _, cache = model.run_with_cache(tokens)
    heads, x = range(model.cfg.n_heads), model.W_E[tokens] + model.W_pos[: tokens.shape[1]]
    first, second = (
        torch.stack([cache["pattern", layer][:, h] @ x @ _ov(model, layer, h) for h in heads]) for layer in (0, 1)
    )
    pairs = torch.stack([torch.stack([cache["pattern", 1][:, j] @ first[i] @ _ov(model, 1, j) for j in heads]) for i in heads])
    return x @ model.W_U, torch.stack([first, second]) @ model.W_U, pairs @ model.W_U


# term_importance ----------------------------------------------------------------------------


def _orders(model, tokens):
    """The residual stream with paths through no head; through layer 0 alone, layer 1 alone; and through both."""
    direct, singles, pairs = _expansion(model, tokens)
    return direct, singles[0].sum(0), singles[1].sum(0), pairs.sum((0, 1))


def _loss(logits, tokens):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


@mistake("term_importance", hint="You stop after each *layer*. Order 1 is every path through one head, also those that pass layer 0 by and go through layer 1 alone.")
def layer_by_layer(model, tokens):
    direct, first, second, pairs = _orders(model, tokens)
    return torch.stack([_loss(x, tokens) for x in (direct, direct + first, direct + first + second + pairs)])


@mistake("term_importance", hint="The heads of layer 1 look where they *would* look without layer 0. Hold the patterns as the whole model computed them.")
def patterns_not_frozen(model, tokens):
    silent = [("blocks.0.hook_attn_out", lambda out, hook: torch.zeros_like(out))]
    with model.hooks(fwd_hooks=silent):
        _, cache = model.run_with_cache(tokens, names_filter="blocks.1.hook_attn_out")
    direct, first, _, _ = _orders(model, tokens)
    second = cache["attn_out", 1] @ model.W_U
    return torch.stack([_loss(x, tokens) for x in (direct, direct + first + second, model(tokens))])


@mistake("term_importance", hint="These are the gains of each order. Return the three losses; the text takes their differences.")
def gains_of_each_order(model, tokens):
    direct, first, second, pairs = _orders(model, tokens)
    a, b, c = (_loss(x, tokens) for x in (direct, direct + first + second, direct + first + second + pairs))
    return torch.stack([a, a - b, b - c])


@mistake("term_importance", hint="The outputs you put in for order 1 are those of the whole model, so the third round is the same as the second. Save what the heads write while all heads are *silent*.")
def outputs_of_the_whole_model(model, tokens):
    direct, first, second, pairs = _orders(model, tokens)
    whole = _loss(direct + first + second + pairs, tokens)
    return torch.stack([_loss(direct, tokens), whole, whole])


@mistake("term_importance", hint="The losses are computed against the present token. Position i predicts token i + 1.")
def orders_against_the_present_token(model, tokens):
    direct, first, second, pairs = _orders(model, tokens)
    terms = (direct, direct + first + second, direct + first + second + pairs)
    return torch.stack([F.cross_entropy(x[:, :-1].flatten(0, 1), tokens[:, :-1].flatten()) for x in terms])


@mistake("term_importance", hint="Each order stands alone here. \"Up to\" order 1 keeps the direct path, too, and up to order 2 keeps both.")
def each_order_alone(model, tokens):
    direct, first, second, pairs = _orders(model, tokens)
    return torch.stack([_loss(x, tokens) for x in (direct, first + second, pairs)])


@mistake("term_importance", hint="The losses are in bits: you divided by log 2. Leave them in nats.")
def orders_in_bits(model, tokens):
    direct, first, second, pairs = _orders(model, tokens)
    terms = (direct, direct + first + second, direct + first + second + pairs)
    return torch.stack([_loss(x, tokens) for x in terms]) / torch.tensor(2.0).log()


@mistake("term_importance", hint="The logits of position i are compared with the token at i: nothing is shifted. Position i predicts token i + 1.")
def orders_not_shifted(model, tokens):
    direct, first, second, pairs = _orders(model, tokens)
    terms = (direct, direct + first + second, direct + first + second + pairs)
    return torch.stack([F.cross_entropy(x.flatten(0, 1), tokens.flatten()) for x in terms])


@mistake("term_importance", hint="The orders are the wrong way round: first the direct path alone, last the whole model.")
def orders_reversed(model, tokens):
    direct, first, second, pairs = _orders(model, tokens)
    return torch.stack([_loss(x, tokens) for x in (direct + first + second + pairs, direct + first + second, direct)])


@mistake("term_importance", hint="Order 1 lacks the heads of layer 0: every path through *one* head counts, of either layer.")
def order_one_of_layer_one_alone(model, tokens):
    direct, first, second, pairs = _orders(model, tokens)
    return torch.stack([_loss(x, tokens) for x in (direct, direct + second, direct + first + second + pairs)])


@mistake("term_importance", hint="These are the differences from order to order. Return the three losses; the text takes their differences.")
def differences_of_orders(model, tokens):
    direct, first, second, pairs = _orders(model, tokens)
    a, b, c = (_loss(x, tokens) for x in (direct, direct + first + second, direct + first + second + pairs))
    return torch.stack([a, b - a, c - b])


@mistake("term_importance", hint="Your patterns are those of the run with silent heads, where layer 1 looks elsewhere. Take them from a run of the whole model.")
def patterns_of_the_silent_run(model, tokens):
    silent = [(f"blocks.{layer}.hook_attn_out", lambda out, hook: torch.zeros_like(out)) for layer in range(2)]
    with model.hooks(fwd_hooks=silent):
        _, cache = model.run_with_cache(tokens)
    x = model.W_E[tokens]

    def through(x, layer):
        return sum(cache["pattern", layer][:, h] @ x @ _ov(model, layer, h) for h in range(model.cfg.n_heads))

    first = through(x, 0)
    streams = (x, x + first + through(x, 1), x + first + through(x + first, 1))
    return torch.stack([_loss(stream @ model.W_U, tokens) for stream in streams])


@mistake("term_importance", hint="You add up the losses of all tokens. Take the mean.")
def summed_losses_of_orders(model, tokens):
    direct, first, second, pairs = _orders(model, tokens)
    terms = (direct, direct + first + second, direct + first + second + pairs)
    return torch.stack([_loss(x, tokens) for x in terms]) * tokens[:, 1:].numel()


# ablated_loss -------------------------------------------------------------------------------


def _run_without(model, tokens, hooks):
    log_probs = model.run_with_hooks(tokens, fwd_hooks=hooks).log_softmax(-1)
    return -_picked(log_probs[:, :-1], tokens[:, 1:])


def _remove(layer, index, value=0.0):
    """A hook that sets a part of a layer's z to something."""

    def hook_z(z, hook):
        z = z.clone()
        z[index] = value(z[index]) if callable(value) else value
        return z

    return f"blocks.{layer}.attn.hook_z", hook_z


EVERY = slice(None)


@mistake("ablated_loss", hint="Every hook removes the *last* head of the list: a function made in a loop reads `head` when it runs. Bind it at once: `def fn(z, hook, head=head)`.")
def removes_the_last_head_each_time(model, tokens, heads):
    return _run_without(model, tokens, [_remove(layer, (EVERY, EVERY, heads[-1][1])) for layer, _ in heads])


@mistake("ablated_loss", hint="You keep the heads of the list and remove all others.")
def removes_all_others(model, tokens, heads):
    others = [(layer, h) for layer in range(model.cfg.n_layers) for h in range(model.cfg.n_heads) if (layer, h) not in heads]
    return _run_without(model, tokens, [_remove(layer, (EVERY, EVERY, head)) for layer, head in others])


@mistake("ablated_loss", hint="The whole layer is removed. `z` is `[batch pos n_heads d_head]`: set one head of it to 0.")
def removes_whole_layers(model, tokens, heads):
    return _run_without(model, tokens, [_remove(layer, EVERY) for layer, _ in heads])


@mistake("ablated_loss", hint="All heads are taken from layer 0. The layer is in the name of the hook: `blocks.{layer}.attn.hook_z`.")
def always_in_layer_zero(model, tokens, heads):
    return _run_without(model, tokens, [_remove(0, (EVERY, EVERY, head)) for _, head in heads])


@mistake("ablated_loss", hint="Head numbers are removed from *every* layer. A pair (layer, head) means that head of that layer alone.")
def removes_it_from_every_layer(model, tokens, heads):
    layers = range(model.cfg.n_layers)
    return _run_without(model, tokens, [_remove(layer, (EVERY, EVERY, head)) for layer in layers for _, head in heads])


@mistake("ablated_loss", hint="`z[:, head]` is a position. The heads are the third axis: `z[:, :, head]`.")
def removes_a_position(model, tokens, heads):
    return _run_without(model, tokens, [_remove(layer, (EVERY, head)) for layer, head in heads])


@mistake("ablated_loss", hint="Nothing is removed. A hook that changes a copy of z must *return* it, or the model goes on with the old one.")
def copy_not_returned(model, tokens, heads):
    return _run_without(model, tokens, [])


@mistake("ablated_loss", hint="`z[..., head]` is one dimension of every head. The heads are the third axis: `z[:, :, head]`.")
def removes_a_dimension(model, tokens, heads):
    return _run_without(model, tokens, [_remove(layer, (Ellipsis, head)) for layer, head in heads])


@mistake("ablated_loss", hint="Only the first head of the list is removed. Remove all of them at once.")
def removes_the_first_head_only(model, tokens, heads):
    return _run_without(model, tokens, [_remove(layer, (EVERY, EVERY, head)) for layer, head in heads[:1]])


@mistake("ablated_loss", hint="The head's output is set to its mean over the batch. (Chapter 4 does that.) Here it is set to 0.")
def removes_to_the_mean(model, tokens, heads):
    def mean(z):
        return z.mean(0, keepdim=True).expand_as(z)

    return _run_without(model, tokens, [_remove(layer, (EVERY, EVERY, head), mean) for layer, head in heads])


@mistake("ablated_loss", hint="This is the mean loss. Keep the losses of all texts and positions apart, as `per_token_loss` does.")
def mean_without_heads(model, tokens, heads):
    return _run_without(model, tokens, [_remove(layer, (EVERY, EVERY, head)) for layer, head in heads]).mean()


@mistake("ablated_loss", hint="This sets the head's weights to 0 in the model itself, for good: whoever uses the model next finds it broken. Use a hook, or a copy of the model.")
def breaks_the_model(model, tokens, heads):
    with torch.no_grad():
        for layer, head in heads:
            model.blocks[layer].attn.W_O[head] = 0
    return _run_without(model, tokens, [])


@mistake("ablated_loss", hint="Your hooks are written into the model and stay there. `model.run_with_hooks` puts them in for one run and takes them out.")
def leaves_its_hooks(model, tokens, heads):
    for layer, head in heads:
        name, fn = _remove(layer, (EVERY, EVERY, head))
        model._hooks.setdefault(name, []).append(fn)
    return _run_without(model, tokens, [])


@mistake("ablated_loss", hint="With its scores at 0 a head still looks, at all places alike, and moves what stands there. Set what it *writes* to 0, at `hook_z`.")
def removes_only_the_scores(model, tokens, heads):
    hooks = []
    for layer, head in heads:

        def no_query(q, hook, head=head):
            q = q.clone()
            q[:, :, head] = 0
            return q

        hooks.append((f"blocks.{layer}.attn.hook_q", no_query))
    return _run_without(model, tokens, hooks)


@mistake("ablated_loss", hint="You remove the heads one at a time and average the losses. Remove all of them in one run: heads can stand in for each other.")
def mean_of_single_removals(model, tokens, heads):
    runs = [_run_without(model, tokens, [_remove(layer, (EVERY, EVERY, head))]) for layer, head in heads]
    return torch.stack(runs or [_run_without(model, tokens, [])]).mean(0)


@mistake("ablated_loss", hint="The head's output is set to a mean, over texts and positions. Here it is set to 0.")
def removes_to_the_mean_of_all_places(model, tokens, heads):
    def mean(z):
        return z.mean((0, 1)).expand_as(z)

    return _run_without(model, tokens, [_remove(layer, (EVERY, EVERY, head), mean) for layer, head in heads])


@mistake("ablated_loss", hint="You subtract from the logits what the heads write to them. Later heads have read them as well: set `z` to 0 in a run, and let the rest run on.")
def subtracted_from_the_logits(model, tokens, heads):
    logits, cache = model.run_with_cache(tokens)
    for layer, head in heads:
        logits = logits - cache["z", layer][:, :, head] @ model.W_O[layer, head] @ model.W_U
    return -_picked(logits.log_softmax(-1)[:, :-1], tokens[:, 1:])


@mistake("ablated_loss", hint="Each pair is (layer, head). You unpack it as (head, layer).")
def head_and_layer_exchanged(model, tokens, heads):
    return _run_without(model, tokens, [_remove(layer, (EVERY, EVERY, head)) for head, layer in heads])


@mistake("ablated_loss", hint="Each pair is (layer, head). You unpack it as (head, layer).")
def head_and_layer_exchanged_up_to_the_last_layer(model, tokens, heads):
    last = model.cfg.n_layers - 1
    return _run_without(model, tokens, [_remove(min(layer, last), (EVERY, EVERY, head)) for head, layer in heads])


@mistake("ablated_loss", hint="This is how much the loss *rises* without the heads. Return the losses themselves.")
def rise_of_the_loss(model, tokens, heads):
    without = _run_without(model, tokens, [_remove(layer, (EVERY, EVERY, head)) for layer, head in heads])
    return without - _run_without(model, tokens, [])


@mistake("ablated_loss", hint="Of two heads in one layer only the later is removed: a dictionary keeps one hook for each layer's name. Give `run_with_hooks` a list of pairs.")
def one_hook_for_each_layer(model, tokens, heads):
    last = dict(heads)  # of each layer
    return _run_without(model, tokens, [_remove(layer, (EVERY, EVERY, head)) for layer, head in last.items()])
