"""Other right answers to chapter 4, in other styles. Each must pass."""

import torch

from utils.checking import variant
