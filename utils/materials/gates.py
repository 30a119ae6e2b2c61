"""Hand-built models for chapter 4: two heads that are each enough, that are both needed, or that
add up."""

import torch

from utils.model import Config, Transformer


def gate_model(kind: str) -> Transformer:
    """A model of one layer that reads one token: 1 is "on", 0 is "off". Its heads 0.0 and 0.1 each pass on
    what they read, a and b (1 for on, 0 for off); its MLP combines the two into the logit of token 1:

    - `"or"`: 1 if a or b, which is relu(a + b) - relu(a + b - 1);
    - `"and"`: 1 if both, which is relu(a + b - 1);
    - `"sum"`: (a + b) / 2.

    The logit of token 0 is always 0.
    """
    cfg = Config(
        d_vocab=2, d_model=4, n_layers=1, n_heads=2, d_head=1, n_ctx=4,
        attn_only=False, d_mlp=2, act_fn="relu", biases=True,
    )  # fmt: skip
    model = Transformer(cfg)
    token, a, b, out = range(4)  # the directions of the residual stream
    both = {"or": (1.0, -1.0), "and": (0.0, 1.0), "sum": (0.5, 0.0)}[kind]
    attn, mlp = model.blocks[0].attn, model.blocks[0].mlp
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.W_E[1, token] = 1
        attn.W_V[:, token, 0] = 1
        attn.W_O[0, 0, a] = attn.W_O[1, 0, b] = 1
        mlp.W_in[[a, b]] = 1  # both neurons read a + b
        mlp.b_in[1] = -1  # the second one needs more than 1 to fire
        mlp.W_out[:, out] = torch.tensor(both)
        model.W_U[out, 1] = 1
    return model
