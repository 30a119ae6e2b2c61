"""GPT-2 as chapter 4's last section loads it, and what a learner's functions do with it.

Where there is no network, a folder `gpt2` in the working directory stands in for it: the same
architecture, tiny, with random weights and a tokenizer of its own. The loading code is the real one.
"""

import ast
import time

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from circuits.chapters import Chapter, load_answers, read_cells, source
from circuits import gpt2 as helper
from circuits.gpt2 import load_gpt2
from utils.patching import sweep

CHAPTER = Chapter("4_patching")
GPT2_CELL = next(text for text in map(source, read_cells(CHAPTER.source)) if "gpt2 = load_gpt2()" in text)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that holds the folder `gpt2`."""
    root = tmp_path_factory.mktemp("weights")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([GPT2_CELL], trainer)  # so that its names are one token each
    end = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **end).save_pretrained(root / "gpt2")
    torch.manual_seed(0)
    cfg = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_positions=32, n_ctx=32, n_embd=24, n_layer=3, n_head=4, initializer_range=0.4,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(cfg)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:  # biases and LayerNorms that matter
                p.add_(torch.randn_like(p) / 4)
    model.save_pretrained(root / "gpt2")
    return root


@pytest.fixture
def gpt2(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(helper, "_answers", lambda seconds: pytest.fail("asked the network"))
    model = load_gpt2()
    assert model is not None, capsys.readouterr().out
    return model


@pytest.fixture
def prompts(gpt2):
    return gpt2.to_tokens("def f(abc):"), gpt2.to_tokens("def f(xyz):")


def test_is_the_model_in_the_folder(gpt2, prompts, folder):
    original = GPT2LMHeadModel.from_pretrained(folder / "gpt2").eval()
    with torch.no_grad():
        got, want = gpt2(prompts[0]).log_softmax(-1), original(prompts[0]).logits.log_softmax(-1)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)  # centring moves all logits alike
    assert (gpt2.cfg.n_layers, gpt2.cfg.n_heads, gpt2.cfg.d_mlp) == (3, 4, 96)


def patch_heads(model, clean, corrupted, metric):
    """Activation patching of every head's output, as a learner writes it."""
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(model.cfg.n_layers)]
    _, cache = model.run_with_cache(clean, names_filter=names)
    values = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    for layer, name in enumerate(names):
        for head in range(model.cfg.n_heads):

            def put(z, hook, head=head):
                z[:, :, head] = cache[hook.name][:, :, head]
                return z

            values[layer, head] = metric(model.run_with_hooks(corrupted, fwd_hooks=[(name, put)]))
    return values


def test_patching(gpt2, prompts):
    clean, corrupted = prompts
    metric = lambda logits: logits[0, -1, 5] - logits[0, -1, 6]  # noqa: E731
    with torch.no_grad():
        same = patch_heads(gpt2, clean, clean, metric)
        other = patch_heads(gpt2, clean, corrupted, metric)
        torch.testing.assert_close(same, metric(gpt2(clean)).expand_as(same), rtol=0, atol=1e-4)
        assert (other - metric(gpt2(corrupted))).abs().min() > 0

        def put_all(resid, hook):
            return cache[hook.name]

        _, cache = gpt2.run_with_cache(clean, names_filter=lambda name: name.endswith("resid_pre"))
        for layer in range(gpt2.cfg.n_layers):
            hooks = [(f"blocks.{layer}.hook_resid_pre", put_all)]
            logits = gpt2.run_with_hooks(corrupted, fwd_hooks=hooks)
            torch.testing.assert_close(logits, gpt2(clean), rtol=1e-4, atol=1e-4)


def test_direct_effects_sum_to_the_logit_difference(gpt2, prompts):
    """With LayerNorm only if its scale is held at that of the run, and if MLPs, biases and the
    embeddings are counted."""
    with torch.no_grad():
        logits, cache = gpt2.run_with_cache(prompts[0])
        direction = (gpt2.W_U[:, 5] - gpt2.W_U[:, 6]) / cache["ln_final.hook_scale"][0, -1]
        parts = [cache["hook_embed"], cache["hook_pos_embed"]]
        for layer in range(gpt2.cfg.n_layers):
            heads = torch.einsum("bphe,hed->bphd", cache["z", layer], gpt2.W_O[layer])
            parts += [*heads.unbind(2), gpt2.b_O[layer], cache["mlp_out", layer]]
        effects = [(part[0, -1] if part.ndim == 3 else part) @ direction for part in parts]
        total = sum(effects) + gpt2.b_U[5] - gpt2.b_U[6]
    torch.testing.assert_close(total, logits[0, -1, 5] - logits[0, -1, 6], rtol=1e-3, atol=1e-3)


def test_every_head_writes_its_result(gpt2, prompts):
    """Which TransformerLens leaves out by default: a hook there would wait in vain."""
    _, cache = gpt2.run_with_cache(prompts[0], names_filter=["blocks.1.attn.hook_result"])
    assert cache["result", 1].shape[2] == gpt2.cfg.n_heads

    def silence(result, hook):
        result[:, :, 0] = 0

    hooks = [("blocks.1.attn.hook_result", silence)]
    with torch.no_grad():
        change = gpt2.run_with_hooks(prompts[0], fwd_hooks=hooks) - gpt2(prompts[0])
    assert change.abs().max() > 1e-3


def test_the_logit_lens_ends_at_the_logits(gpt2, prompts):
    with torch.no_grad():
        logits, cache = gpt2.run_with_cache(prompts[0])
        lens = gpt2.unembed(gpt2.ln_final(cache["resid_post", gpt2.cfg.n_layers - 1]))
    torch.testing.assert_close(lens, logits)


def test_the_fast_sweep_refuses_it(gpt2, prompts):
    with pytest.raises(TypeError, match="HookedTransformer with hooks"):
        sweep(gpt2, *prompts, lambda logits: logits[0, -1, 5], "z")


def test_gradients_reach_a_hook(gpt2, prompts):
    """Attribution patching: the gradient of a metric at every head's output, from one backward."""
    seen = {}

    def keep(z, hook):
        z.retain_grad()
        seen[hook.name] = z

    is_z = lambda name: name.endswith("hook_z")  # noqa: E731
    gpt2.run_with_hooks(prompts[1], fwd_hooks=[(is_z, keep)])[0, -1, 5].backward()
    assert len(seen) == gpt2.cfg.n_layers
    assert all(z.grad.shape == z.shape and z.grad.abs().sum() > 0 for z in seen.values())


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No folder `gpt2`, no cache, and a host of the weights that refuses connections."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")


def one_line_and_none(capsys, *words: str) -> None:
    capsys.readouterr()
    start = time.monotonic()
    assert load_gpt2() is None
    assert time.monotonic() - start < 300
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and out.startswith("GPT-2 is left out: ") and err == ""
    assert all(word in out for word in words), out


def test_no_network_is_one_line(nowhere, capsys):
    one_line_and_none(capsys, "no network")


def test_a_network_that_swallows_questions_is_one_line(nowhere, monkeypatch, capsys):
    monkeypatch.setattr(helper, "urlopen", lambda *args, **kwargs: time.sleep(600))
    one_line_and_none(capsys, "no network")


def test_a_download_that_fails_is_one_line(nowhere, monkeypatch, capsys):
    """The host answered, then it did not: the reason is what was raised, on one line."""
    monkeypatch.setattr(helper, "_answers", lambda seconds: True)
    load = []

    def breaks(*args, **kwargs):
        load.append(args)
        raise OSError("disk full\nthere is no room")

    monkeypatch.setattr("transformer_lens.HookedTransformer.from_pretrained", breaks)
    one_line_and_none(capsys, "disk full there is no room")
    assert load == [("gpt2",), ("gpt2",)]


def test_broken_weights_are_one_line(folder, monkeypatch, capsys):
    weights = folder / "gpt2" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"not weights")
    monkeypatch.chdir(folder)
    try:
        one_line_and_none(capsys)
    finally:
        weights.write_bytes(whole)


def test_the_switch_for_offline_is_put_back(nowhere, capsys):
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    load_gpt2()
    assert constants.HF_HUB_OFFLINE == before


def test_the_chapter_s_own_cell_runs_a_learner_s_functions_on_it(gpt2, capsys):
    """The last section of chapter 4 with the reference answers, figures and all."""
    import matplotlib

    matplotlib.use("agg")
    answers, problems = load_answers(CHAPTER.source)
    assert problems == {}
    for cell in read_cells(CHAPTER.source):  # and with all that the chapter imports
        if cell["cell_type"] == "code":
            body = [node for node in ast.parse(source(cell)).body if isinstance(node, ast.Import | ast.ImportFrom)]
            exec(compile(ast.Module(body, []), "imports", "exec"), answers)
    exec(GPT2_CELL, answers)
    assert "GPT-2: mean logit difference clean" in capsys.readouterr().out
    shape = gpt2.cfg.n_layers, gpt2.cfg.n_heads
    assert answers["grid"].shape == answers["writes"].shape == shape
    assert answers["grid"].isfinite().all() and answers["grid"].std() > 0
    # Direct effects by hand: what each head writes at the end, through the last LayerNorm's scale.
    tokens, (right, wrong) = answers["tokens"], answers["ids"]
    with torch.no_grad():
        _, cache = gpt2.run_with_cache(tokens)
        scale = cache["ln_final.hook_scale"][:, -1]
        for layer in range(shape[0]):
            writes = cache["result", layer][:, -1] / scale[:, None]
            logits = writes @ gpt2.W_U  # [batch n_heads d_vocab]
            rows = torch.arange(len(tokens))
            want = (logits[rows, :, right] - logits[rows, :, wrong]).mean(0)
            torch.testing.assert_close(answers["writes"][layer], want, rtol=1e-4, atol=1e-5)
