"""Names of the connections between the parts of a model, for chapters 4 and 8.

Everything is added to the residual stream and read from it. So there is an edge from every part
that writes to every input that reads later:

- `embed`, every head and every MLP write; a head is named by layer and head, `0.4`, an MLP `m0`;
- every head reads three times, `1.6.q`, `1.6.k` and `1.6.v`, an MLP and the unembedding once, `m0` and `logits`.

An edge is named by its two ends: `0.4->1.6.k`, `embed->0.4.v`, `0.4->m0`, `1.6->logits`.
"""

from utils.model import Transformer


def edge_names(model: Transformer) -> list[str]:
    """Every edge of a model, in the order in which a forward pass uses them."""
    writers, edges = ["embed"], []
    for layer in range(model.cfg.n_layers):
        heads = [f"{layer}.{head}" for head in range(model.cfg.n_heads)]
        edges += [f"{writer}->{head}.{kind}" for head in heads for kind in "qkv" for writer in writers]
        writers += heads
        if not model.cfg.attn_only:
            edges += [f"{writer}->m{layer}" for writer in writers]
            writers.append(f"m{layer}")
    return edges + [f"{writer}->logits" for writer in writers]
