"""A readable transformer of any depth from zero layers up, in TransformerLens' vocabulary.

Read it top to bottom: the configuration, names of activations, the three kinds of part
(attention, MLP, normalisation), then the model with its hooks and cache. It imports nothing
else of this project.

Row-vector convention throughout: a vector `x` is a row, a matrix acts as `x @ W`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass
class Config:
    """The shape of a `Transformer`. Field names are those of `HookedTransformerConfig`.

    The core chapters use the defaults: attention only, no LayerNorm, no biases, and positions
    that enter queries and keys alone ("shortformer"; Press et al., *Shortformer*, section 4, as
    in *A Mathematical Framework for Transformer Circuits*, "Model simplifications").
    """

    d_vocab: int
    d_model: int
    n_layers: int = 0
    n_heads: int = 8
    d_head: int = 32
    n_ctx: int = 256
    attn_only: bool = True
    d_mlp: int | None = None
    act_fn: Literal["relu", "gelu"] = "gelu"
    normalization_type: Literal["LN"] | None = None
    positional_embedding_type: Literal["shortformer", "standard"] = "shortformer"
    biases: bool = False
    init_range: float = 0.05  # standard deviation of the embeddings at the start
    eps: float = 1e-5  # LayerNorm's
    n_key_value_heads: int | None = None  # fewer than n_heads: consecutive heads share keys and values

    def __post_init__(self):
        if self.positional_embedding_type not in ("shortformer", "standard"):
            raise ValueError(
                f"positional_embedding_type is {self.positional_embedding_type!r}; "
                "choose 'shortformer' or 'standard'."
            )
        if self.normalization_type not in (None, "LN"):
            raise ValueError(
                f"normalization_type is {self.normalization_type!r}; choose None or 'LN'."
            )
        if self.act_fn not in ("relu", "gelu"):
            raise ValueError(f"act_fn is {self.act_fn!r}; choose 'relu' or 'gelu'.")
        for name in ("d_vocab", "d_model", "n_heads", "d_head", "n_ctx"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        kv = self.n_heads if self.n_key_value_heads is None else self.n_key_value_heads
        if kv < 1 or self.n_heads % kv:
            raise ValueError(f"n_key_value_heads is {kv}; it must divide n_heads, {self.n_heads}.")
        if not self.attn_only and self.d_mlp is None:
            self.d_mlp = 4 * self.d_model


@dataclass(frozen=True)
class HookPoint:
    """What a hook is told about where it stands: `fn(tensor, hook)` reads `hook.name`."""

    name: str

    def layer(self) -> int:
        """The layer of a name such as `blocks.1.attn.hook_z`."""
        return int(self.name.split(".")[1])


Hook = Callable[[Tensor, HookPoint], Tensor | None]

_IN_ATTENTION = ("q", "k", "v", "z", "result", "attn_scores", "pattern")
_IN_MLP = ("pre", "post")
_OUTSIDE_BLOCKS = ("embed", "pos_embed")
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def get_act_name(name: str, layer: int | None = None) -> str:
    """The full name of an activation: `get_act_name("pattern", 0)` is
    `"blocks.0.attn.hook_pattern"`. A full name comes back unchanged."""
    if "hook_" in name:
        return name
    if name in _OUTSIDE_BLOCKS:
        return f"hook_{name}"
    if layer is None:
        raise KeyError(f"{name!r} needs a layer, for example cache[{name!r}, 0].")
    if name in _IN_ATTENTION:
        return f"blocks.{layer}.attn.hook_{name}"
    if name in _IN_MLP:
        return f"blocks.{layer}.mlp.hook_{name}"
    return f"blocks.{layer}.hook_{name}"


class ActivationCache(dict[str, Tensor]):
    """Activations by name. `cache["pattern", 0]` is short for
    `cache["blocks.0.attn.hook_pattern"]`; a negative layer counts from the last."""

    def __init__(self, activations: dict[str, Tensor], n_layers: int):
        super().__init__(activations)
        self.n_layers = n_layers

    def __getitem__(self, key: str | tuple[str, int]) -> Tensor:
        name, layer = (key, None) if isinstance(key, str) else key
        if layer is not None and layer < 0:
            layer += self.n_layers
        full = get_act_name(name, layer)
        if full not in self:
            raise KeyError(f"{full!r} is not in the cache, which holds: {', '.join(self) or '-'}.")
        return super().__getitem__(full)


def sinusoids(n_ctx: int, d_model: int) -> Float[Tensor, "n_ctx d_model"]:
    """Fixed position vectors (Vaswani et al., *Attention Is All You Need*, section 3.5)."""
    pos = torch.arange(n_ctx)[:, None]
    freq = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10_000.0) / d_model))
    table = torch.zeros(n_ctx, d_model)
    table[:, 0::2] = torch.sin(pos * freq)
    table[:, 1::2] = torch.cos(pos * freq[: d_model // 2])
    return table


class Embed(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        self.W_E = nn.Parameter(torch.randn(cfg.d_vocab, cfg.d_model) * cfg.init_range)

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        return F.embedding(tokens, self.W_E)


class PosEmbed(nn.Module):
    """Sinusoids, not trained, for shortformer positions; a trained table for standard ones."""

    def __init__(self, cfg: Config):
        super().__init__()
        if cfg.positional_embedding_type == "shortformer":
            self.register_buffer("W_pos", sinusoids(cfg.n_ctx, cfg.d_model))
        else:
            self.W_pos = nn.Parameter(torch.randn(cfg.n_ctx, cfg.d_model) * cfg.init_range)


class Unembed(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        self.W_U = nn.Parameter(torch.randn(cfg.d_model, cfg.d_vocab) / math.sqrt(cfg.d_model))
        self.b_U = nn.Parameter(torch.zeros(cfg.d_vocab)) if cfg.biases else None

    def forward(
        self, resid: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_vocab"]:
        logits = resid @ self.W_U
        return logits if self.b_U is None else logits + self.b_U


class LayerNorm(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        self.eps = cfg.eps
        self.w = nn.Parameter(torch.ones(cfg.d_model))
        self.b = nn.Parameter(torch.zeros(cfg.d_model))

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        return F.layer_norm(x, (x.shape[-1],), self.w, self.b, self.eps)


def as_matrix(W: Float[Tensor, "n_heads d_model d_head"]) -> Float[Tensor, "d_model n_heads*d_head"]:
    """All heads' W_Q (or W_K, W_V) side by side in one matrix, sharing memory with `W`."""
    return W.permute(1, 0, 2).reshape(W.shape[1], -1)


class Attention(nn.Module):
    """All heads of one layer. Every head reads the residual stream and adds to it."""

    def __init__(self, cfg: Config, layer: int):
        super().__init__()
        self.cfg, self.layer = cfg, layer
        n_kv, self.shared = cfg.n_key_value_heads or cfg.n_heads, "_" * bool(cfg.n_key_value_heads)

        def weight(n: int) -> nn.Parameter:
            # Kept in memory as one [d_model, n_heads * d_head] matrix and shown as
            # [n_heads, d_model, d_head]: one matrix product serves all heads, and an optimizer
            # for matrices (Muon) finds a matrix.
            flat = torch.randn(cfg.d_model, n, cfg.d_head) / math.sqrt(cfg.d_model)
            return nn.Parameter(flat.permute(1, 0, 2))

        for name, n in (("W_Q", cfg.n_heads), (self.shared + "W_K", n_kv), (self.shared + "W_V", n_kv)):
            setattr(self, name, weight(n))
        W_O = torch.randn(cfg.n_heads, cfg.d_head, cfg.d_model)
        self.W_O = nn.Parameter(W_O / math.sqrt(cfg.n_heads * cfg.d_head))
        for name, n in (("b_Q", cfg.n_heads), (self.shared + "b_K", n_kv), (self.shared + "b_V", n_kv)):
            setattr(self, name, nn.Parameter(torch.zeros(n, cfg.d_head)) if cfg.biases else None)
        self.b_O = nn.Parameter(torch.zeros(cfg.d_model)) if cfg.biases else None

    def __getattr__(self, name: str) -> Any:
        if name in ("W_K", "W_V", "b_K", "b_V") and self.shared:  # a copy with one for each head, to read
            kept = getattr(self, "_" + name)
            return None if kept is None else kept.repeat_interleave(self.cfg.n_heads // len(kept), 0)
        return super().__getattr__(name)

    def _project(self, x: Tensor, W: Tensor, b: Tensor | None) -> Float[Tensor, "batch pos n_heads d_head"]:
        out = (x @ as_matrix(W)).unflatten(-1, W.shape[::2])
        return out if b is None else out + b

    def forward(
        self,
        x_qk: Float[Tensor, "batch pos d_model"],
        x_v: Float[Tensor, "batch pos d_model"],
        at: "Callable[[str, Tensor], Tensor]",
        wanted: "Callable[[str], bool]",
    ) -> Float[Tensor, "batch pos d_model"]:
        """`x_qk` is what queries and keys read, `x_v` what values read."""
        name = f"blocks.{self.layer}.attn.hook_"
        q = at(name + "q", self._project(x_qk, self.W_Q, self.b_Q))
        W_K, W_V, b_K, b_V = (getattr(self, self.shared + n) for n in ("W_K", "W_V", "b_K", "b_V"))
        k, v = at(name + "k", self._project(x_qk, W_K, b_K)), at(name + "v", self._project(x_v, W_V, b_V))
        if self.shared:  # from n_key_value_heads to n_heads
            k, v = (x.repeat_interleave(self.cfg.n_heads // x.shape[2], 2) for x in (k, v))

        if wanted(name + "attn_scores") or wanted(name + "pattern"):
            # Explicit: every number is there to look at. Scaling q is cheaper than the scores.
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # [batch n_heads pos d_head]
            scores = (q * self.cfg.d_head**-0.5) @ k.transpose(-1, -2)
            future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
            scores = at(name + "attn_scores", scores.masked_fill(future, -torch.inf))
            pattern = at(name + "pattern", scores.softmax(-1))  # [batch n_heads dest src]
            z = (pattern @ v).transpose(1, 2)
        else:
            # Fused: the same result without ever holding a pattern.
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            z = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        z = at(name + "z", z)  # [batch pos n_heads d_head]

        if wanted(name + "result"):
            result = torch.einsum("bphd,hdm->bphm", z, self.W_O)
            out = at(name + "result", result).sum(2)
        else:
            out = z.flatten(2) @ self.W_O.flatten(0, 1)
        return out if self.b_O is None else out + self.b_O


class MLP(nn.Module):
    def __init__(self, cfg: Config, layer: int):
        super().__init__()
        self.layer = layer
        self.act = {"relu": F.relu, "gelu": F.gelu}[cfg.act_fn]
        self.W_in = nn.Parameter(torch.randn(cfg.d_model, cfg.d_mlp) / math.sqrt(cfg.d_model))
        self.W_out = nn.Parameter(torch.randn(cfg.d_mlp, cfg.d_model) / math.sqrt(cfg.d_mlp))
        self.b_in = nn.Parameter(torch.zeros(cfg.d_mlp)) if cfg.biases else None
        self.b_out = nn.Parameter(torch.zeros(cfg.d_model)) if cfg.biases else None

    def forward(self, x: Float[Tensor, "batch pos d_model"], at) -> Float[Tensor, "batch pos d_model"]:
        pre = x @ self.W_in
        pre = at(f"blocks.{self.layer}.mlp.hook_pre", pre if self.b_in is None else pre + self.b_in)
        post = at(f"blocks.{self.layer}.mlp.hook_post", self.act(pre))
        out = post @ self.W_out
        return out if self.b_out is None else out + self.b_out


class Block(nn.Module):
    """One layer: attention, then an MLP where the configuration has one."""

    def __init__(self, cfg: Config, layer: int):
        super().__init__()
        self.layer = layer
        self.attn = Attention(cfg, layer)
        self.mlp = None if cfg.attn_only else MLP(cfg, layer)
        self.ln1 = LayerNorm(cfg) if cfg.normalization_type == "LN" else nn.Identity()
        if self.mlp is not None:
            self.ln2 = LayerNorm(cfg) if cfg.normalization_type == "LN" else nn.Identity()

    def forward(self, resid: Tensor, pos: Tensor | None, at, wanted) -> Tensor:
        name = f"blocks.{self.layer}.hook_"
        resid = at(name + "resid_pre", resid)
        x = self.ln1(resid)
        x_qk = x if pos is None else x + pos
        resid = resid + at(name + "attn_out", self.attn(x_qk, x, at, wanted))
        if self.mlp is not None:
            resid = at(name + "resid_mid", resid)
            resid = resid + at(name + "mlp_out", self.mlp(self.ln2(resid), at))
        return at(name + "resid_post", resid)


class Transformer(nn.Module):
    """A transformer whose every activation can be read (cache) and changed (hooks).

    >>> logits = model(tokens)                              # [batch pos d_vocab]
    >>> logits, cache = model.run_with_cache(tokens)
    >>> cache["pattern", 0]                                 # [batch n_heads dest src]
    >>> model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn.hook_z", fn)])

    Weights and activations bear TransformerLens' names, so what works here works on a
    `HookedTransformer`. `tokenizer` is a `tokenizers.Tokenizer`; only `to_tokens`,
    `to_str_tokens` and `to_string` need it.
    """

    def __init__(self, cfg: Config, tokenizer: Any = None):
        super().__init__()
        self.cfg, self.tokenizer = cfg, tokenizer
        self.embed = Embed(cfg)
        self.pos_embed = PosEmbed(cfg)
        self.blocks = nn.ModuleList(Block(cfg, layer) for layer in range(cfg.n_layers))
        self.ln_final = LayerNorm(cfg) if cfg.normalization_type == "LN" else nn.Identity()
        self.unembed = Unembed(cfg)
        self._hooks: dict[str, list[Hook]] = {}

    # Forward -------------------------------------------------------------------------------

    def forward(
        self, tokens: Int[Tensor, "batch pos"] | Int[Tensor, "pos"] | str
    ) -> Float[Tensor, "batch pos d_vocab"]:
        """Logits for the next token at every position. A single sequence gains a batch of one.

        Raises ValueError for more than `n_ctx` tokens in a model with layers, and for token ids
        that are not integers in 0 ... d_vocab - 1.
        """
        tokens = self._as_tokens(tokens)
        at, wanted = self._at, self._hooks.__contains__
        resid = at("hook_embed", self.embed(tokens))
        pos = None
        if self.cfg.n_layers or self.cfg.positional_embedding_type == "standard":
            pos = self.pos_embed.W_pos[: tokens.shape[1]].expand_as(resid)
            if wanted("hook_pos_embed"):
                pos = at("hook_pos_embed", pos.clone())  # a hook may write into it
        if self.cfg.positional_embedding_type == "standard":
            resid, pos = resid + pos, None
        for block in self.blocks:
            resid = block(resid, pos, at, wanted)
        return self.unembed(self.ln_final(resid))

    def _as_tokens(self, tokens: Tensor | str) -> Int[Tensor, "batch pos"]:
        if isinstance(tokens, str):
            tokens = self.to_tokens(tokens)
        if not isinstance(tokens, Tensor) or tokens.dtype not in _INTEGERS:
            got = f"a {tokens.dtype} tensor" if isinstance(tokens, Tensor) else type(tokens).__name__
            raise ValueError(f"The model takes token ids, an integer tensor [batch pos]; got {got}.")
        if tokens.ndim == 1:
            tokens = tokens[None]
        if tokens.ndim != 2:
            raise ValueError(f"The model takes tokens [batch pos]; got shape {list(tokens.shape)}.")
        needs_positions = self.cfg.n_layers or self.cfg.positional_embedding_type == "standard"
        if needs_positions and tokens.shape[1] > self.cfg.n_ctx:
            raise ValueError(
                f"{tokens.shape[1]} tokens are more than the model's context of {self.cfg.n_ctx}."
            )
        if tokens.numel() and (tokens.min() < 0 or tokens.max() >= self.cfg.d_vocab):
            raise ValueError(f"Token ids must lie in 0 ... {self.cfg.d_vocab - 1}.")
        return tokens.long()

    # Hooks and cache -----------------------------------------------------------------------

    def _at(self, name: str, x: Tensor) -> Tensor:
        """Pass an activation through the hooks that stand at its name."""
        for fn in self._hooks.get(name, ()):
            changed = fn(x, hook=HookPoint(name))  # by keyword, as TransformerLens does
            x = x if changed is None else changed
        return x

    def hook_names(self) -> list[str]:
        """Every activation of this model, in the order in which a forward pass meets them."""
        standard = self.cfg.positional_embedding_type == "standard"
        names = ["hook_embed"] + ["hook_pos_embed"] * bool(self.cfg.n_layers or standard)
        attention = ("q", "k", "v", "attn_scores", "pattern", "z", "result")
        for layer in range(self.cfg.n_layers):
            here = ["resid_pre", *attention, "attn_out"]
            here += [] if self.cfg.attn_only else ["resid_mid", *_IN_MLP, "mlp_out"]
            names += [get_act_name(name, layer) for name in [*here, "resid_post"]]
        return names

    @contextmanager
    def hooks(self, fwd_hooks: Iterable[tuple[str | Callable[[str], bool], Hook]] = ()):
        """Within this context, `fn(tensor, hook)` sees each named activation and may return a
        replacement. The hooks are gone afterwards, also when something raised. Raises ValueError
        for a name the model does not have."""
        added = defaultdict(list, {name: list(fns) for name, fns in self._hooks.items()})
        names = self.hook_names()
        for name, fn in fwd_hooks:
            matching = [name] if isinstance(name, str) else [n for n in names if name(n)]
            for n in matching:
                if n not in names:
                    raise ValueError(f"No activation is called {n!r}. There are: {', '.join(names)}.")
                added[n].append(fn)
        before, self._hooks = self._hooks, dict(added)
        try:
            yield self
        finally:
            self._hooks = before

    def run_with_hooks(self, tokens, *, fwd_hooks=()) -> Float[Tensor, "batch pos d_vocab"]:
        """One forward pass with hooks, see `hooks`."""
        with self.hooks(fwd_hooks):
            return self(tokens)

    def run_with_cache(
        self, tokens, *, names_filter: str | list[str] | Callable[[str], bool] | None = None
    ) -> tuple[Float[Tensor, "batch pos d_vocab"], ActivationCache]:
        """Logits, and the activations whose names pass the filter (all of them by default),
        detached from the graph."""
        if isinstance(names_filter, str):
            names_filter = [names_filter]
        names = self.hook_names() if names_filter is None else names_filter
        if callable(names_filter):
            names = [name for name in self.hook_names() if names_filter(name)]
        kept: dict[str, Tensor] = {}

        def keep(x: Tensor, hook: HookPoint):
            kept[hook.name] = x.detach()

        logits = self.run_with_hooks(tokens, fwd_hooks=[(name, keep) for name in names])
        return logits, ActivationCache(kept, self.cfg.n_layers)

    # Weights -------------------------------------------------------------------------------

    @property
    def W_E(self) -> Float[Tensor, "d_vocab d_model"]:
        return self.embed.W_E

    @property
    def W_pos(self) -> Float[Tensor, "n_ctx d_model"]:
        return self.pos_embed.W_pos

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab"]:
        return self.unembed.W_U

    def _stack(self, part: str, name: str, *empty: int) -> Tensor:
        weights = [getattr(getattr(block, part), name) for block in self.blocks]
        return torch.stack(weights) if weights else torch.empty(0, *empty)

    @property
    def W_Q(self) -> Float[Tensor, "n_layers n_heads d_model d_head"]:
        return self._stack("attn", "W_Q", self.cfg.n_heads, self.cfg.d_model, self.cfg.d_head)

    @property
    def W_K(self) -> Float[Tensor, "n_layers n_heads d_model d_head"]:
        return self._stack("attn", "W_K", self.cfg.n_heads, self.cfg.d_model, self.cfg.d_head)

    @property
    def W_V(self) -> Float[Tensor, "n_layers n_heads d_model d_head"]:
        return self._stack("attn", "W_V", self.cfg.n_heads, self.cfg.d_model, self.cfg.d_head)

    @property
    def W_O(self) -> Float[Tensor, "n_layers n_heads d_head d_model"]:
        return self._stack("attn", "W_O", self.cfg.n_heads, self.cfg.d_head, self.cfg.d_model)

    @property
    def W_in(self) -> Float[Tensor, "n_layers d_model d_mlp"]:
        """Of a model with MLPs: column n is what neuron n looks for."""
        return self._stack("mlp", "W_in", self.cfg.d_model, self.cfg.d_mlp or 0)

    @property
    def W_out(self) -> Float[Tensor, "n_layers d_mlp d_model"]:
        """Of a model with MLPs: row n is what neuron n writes."""
        return self._stack("mlp", "W_out", self.cfg.d_mlp or 0, self.cfg.d_model)

    # Text ----------------------------------------------------------------------------------

    def _need_tokenizer(self):
        if self.tokenizer is None:
            raise ValueError("This model has no tokenizer: build it as Transformer(cfg, tokenizer).")
        return self.tokenizer

    def to_tokens(self, text: str | list[str], prepend_bos: bool = True) -> Int[Tensor, "batch pos"]:
        """Token ids of a text, or of several that have equally many tokens."""
        texts = [text] if isinstance(text, str) else text
        bos = [0] if prepend_bos else []
        rows = [bos + self._need_tokenizer().encode(t).ids for t in texts]
        if len({len(row) for row in rows}) > 1:
            lengths = ", ".join(str(len(row)) for row in rows)
            raise ValueError(f"The texts have different numbers of tokens: {lengths}.")
        return torch.tensor(rows, dtype=torch.long, device=self.W_E.device)

    def to_string(self, tokens: Int[Tensor, "..."] | list[int] | int) -> str:
        """The text of one sequence of tokens."""
        ids = torch.as_tensor(tokens).flatten().tolist()
        return self._need_tokenizer().decode(ids, skip_special_tokens=False)

    def to_str_tokens(self, text: str | Tensor | list[int], prepend_bos: bool = True) -> list[str]:
        """A text (or a sequence of ids) cut into its tokens, each as text."""
        ids = self.to_tokens(text, prepend_bos)[0] if isinstance(text, str) else text
        return [self.to_string(int(i)) for i in torch.as_tensor(ids).flatten()]

    def config_dict(self) -> dict[str, Any]:
        """The configuration as plain values, for saving."""
        return asdict(self.cfg)
