"""Train the models' tokenizer anew, on those files of this Python's library that they were trained on: prints it as JSON.

.venv/bin/python tools/train_tokenizer.py > tokenizer.json
"""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from utils.corpus import BOS, is_heldout, read_files, standard_library


def train_tokenizer(texts: list[str], d_vocab: int = 2048) -> Tokenizer:
    """Byte-level BPE: every text has tokens, and they decode to it again."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=d_vocab,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


if __name__ == "__main__":
    texts = read_files(standard_library(), "*.py")
    print(train_tokenizer([text for path, text in texts.items() if not is_heldout(path)]).to_str(pretty=True), end="")
