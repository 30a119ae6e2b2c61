"""Known wrong answers to chapter 4, each with the hint it deserves. A learner whose answer does
what one of these does is shown its hint."""

import torch

from utils.checking import mistake
