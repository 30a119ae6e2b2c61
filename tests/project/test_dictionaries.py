"""The dictionary that chapter 6 ships, and the figures of others."""

import pytest
import torch

from utils.errors import CourseError
from utils.materials import dictionaries


def test_the_shipped_dictionary_has_rows_of_length_1_and_says_how_many_fire():
    D = dictionaries.load_dictionary()
    d_model, n_latents = D["W_enc"].shape
    assert D["W_dec"].shape == (n_latents, d_model) and D["b_enc"].shape == (n_latents,)
    assert D["b_pre"].shape == (d_model,) and 0 < int(D["k"]) < n_latents
    assert all(W.dtype == torch.float32 for name, W in D.items() if name != "k")
    torch.testing.assert_close(D["W_dec"].norm(dim=-1), torch.ones(n_latents), rtol=0, atol=1e-3)


def test_the_frontier_has_both_kinds_and_more_explains_more():
    rows = dictionaries.frontier()
    assert len(rows) >= 6
    for kind in ("top-k", "l1"):
        own = sorted((row["l0"], row["explained_variance"], row["loss_recovered"]) for row in rows if row["kind"] == kind)
        assert len(own) >= 3
        assert [x[1] for x in own] == sorted(x[1] for x in own)
        assert [x[2] for x in own] == sorted(x[2] for x in own)


@pytest.mark.parametrize("k", [None, 3])
def test_latents_are_those_above_0_or_the_largest_of_each_vector(k):
    rng = torch.Generator().manual_seed(0)
    D = {"W_enc": torch.randn(5, 11, generator=rng), "b_enc": torch.randn(11, generator=rng), "b_pre": torch.randn(5, generator=rng)}
    x = torch.randn(2, 3, 5, generator=rng)
    acts = dictionaries.latents_of(D if k is None else {**D, "k": torch.tensor(k)}, x)
    assert acts.shape == (2, 3, 11)
    for vector, row in zip(x.flatten(0, 1), acts.flatten(0, 1), strict=True):
        own = [max(0.0, float((vector - D["b_pre"]) @ D["W_enc"][:, i] + D["b_enc"][i])) for i in range(11)]
        level = 0.0 if k is None else sorted(own)[-k]
        torch.testing.assert_close(row, torch.tensor([a if a >= level else 0.0 for a in own]))


def test_large_toys_hold_more_of_rarer_features():
    rows = dictionaries.large_toys()
    p, held = [row["p"] for row in rows], [len(row["shares"]) for row in rows]
    assert len(rows) > 20 and p == sorted(p, reverse=True) and min(held[16:]) > 190
    assert all(0 < d <= 1.001 for row in rows for d in row["shares"])
    assert held[:17] == sorted(held[:17]), "of those that are rarer still, some have not been learned"
    assert all(sum(row["shares"]) < 20.1 for row in rows), "of 20 dimensions"


@pytest.mark.parametrize("content", [None, b"", b"{", b"\x00" * 40])
def test_what_is_missing_or_damaged_is_said_in_a_line(content, monkeypatch, tmp_path):
    monkeypatch.setattr(dictionaries, "FOLDER", tmp_path)
    for name, load in (("mlp_1.safetensors", dictionaries.load_dictionary), ("frontier.json", dictionaries.frontier), ("toys.json", dictionaries.large_toys)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(CourseError, match=f"{name} is missing or damaged: fetch it again"):
            load()
