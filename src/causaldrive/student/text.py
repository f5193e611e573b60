"""The student's own tokenizer: byte-level BPE trained on the label corpus, Qwen's chat marks, the extra vocabulary.

Reads strings, makes a tokenizer. Knows nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AddedToken, PreTrainedTokenizerFast

from causaldrive.ground.errors import UserError
from causaldrive.student.tokens import CHAT_NAMES, special, special_names, trajectory_strings

_CONTROL = re.compile(r"<(?=\||i\d+>)")


def train_tokenizer(corpus: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A base tokenizer of at most `vocab_size` text ids (256 bytes and merges) and the 8 chat marks after them.

    The same corpus in the same order gives the same tokenizer. Every string survives encode and decode.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)  # pyright: ignore
    backend.decoder = decoders.ByteLevel()  # pyright: ignore
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator(list(corpus), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=special("endoftext"), eos_token=special("im_end"), padding_side="left",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    _add_specials(tokenizer, CHAT_NAMES)
    return tokenizer


def extend_tokenizer(
    tokenizer: PreTrainedTokenizerFast, future_bins: int, history_bins: int, layout: str = "causaldrive"
) -> dict[str, int]:
    """Add `<i0>`... and the 29 special strings in their fixed order; returns name -> id of chat marks and specials.

    Raises UserError when the tokenizer lacks one of Qwen's chat marks.
    """
    known = tokenizer.get_vocab()
    missing = [special(name) for name in CHAT_NAMES if special(name) not in known]
    if missing:
        raise UserError(
            f"the tokenizer {tokenizer.name_or_path or 'given'} lacks {', '.join(missing)}; expected the marks of a "
            "Qwen-VL tokenizer, so use the tokenizer files that came with the backbone."
        )
    tokenizer.add_tokens(trajectory_strings(future_bins + history_bins))
    _add_specials(tokenizer, special_names(layout))
    names = dict.fromkeys((*CHAT_NAMES, *special_names(layout)))
    return {name: int(tokenizer.convert_tokens_to_ids(special(name))) for name in names}  # pyright: ignore


def add_phrases(tokenizer: PreTrainedTokenizerFast, phrases: Iterable[str]) -> None:
    """Make one token of each phrase, behind the chat marks, so that no answer can hold it."""
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in phrases])


def _add_specials(tokenizer: PreTrainedTokenizerFast, names: Iterable[str]) -> None:
    tokens: list[str | AddedToken] = [AddedToken(special(name), special=True) for name in names]
    tokenizer.add_tokens(tokens, special_tokens=True)


def plain(text: str) -> str:
    """`text` with control strings written in it (`<|...`, `<i5>`) broken up, so that they stay plain text."""
    return _CONTROL.sub("< ", text)


def plain_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of `text`, control strings in it kept as plain text."""
    return tokenizer.encode(plain(text), add_special_tokens=False)
