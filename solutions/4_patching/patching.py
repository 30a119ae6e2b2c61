# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 · Patching: from correlation to cause

# %% tags=["setup"]
import torch
from jaxtyping import Float, Int
from torch import Tensor

from utils import Transformer, check, get_act_name, hint, progress, reveal

# %%
from utils import load_model, plots
from utils.patching import LogitDiff, sweep
from utils.prompts import TEMPLATE, draw_names, draw_pairs

one, two = (load_model(name).requires_grad_(False) for name in ("one_layer", "two_layer"))
pairs = draw_pairs(two, 64, torch.Generator().manual_seed(0))
clean, corrupted, right, wrong = pairs

# %% [markdown]
# ## From a head to a connection

