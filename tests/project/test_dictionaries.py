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


@pytest.mark.parametrize("content", [None, b"", b"{", b"\x00" * 40])
def test_what_is_missing_or_damaged_is_said_in_a_line(content, monkeypatch, tmp_path):
    monkeypatch.setattr(dictionaries, "FOLDER", tmp_path)
    for name, load in (("mlp_1.safetensors", dictionaries.load_dictionary), ("frontier.json", dictionaries.frontier)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(CourseError, match=f"{name} is missing or damaged: fetch it again"):
            load()
