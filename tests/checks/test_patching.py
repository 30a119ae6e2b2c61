"""Checks of chapter 4. Each says in its name what must be true of an answer."""

import torch

from utils.checking import exercise, expect, fail, require
from utils.model import Config, Transformer
