"""What single chapters bring along: prompts, hand-made models, names of edges, GPT-2."""
