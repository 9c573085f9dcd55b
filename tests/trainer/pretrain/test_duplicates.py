from __future__ import annotations

import random

from homespun_trainer.pretrain.duplicates import originals, signature


def text(seed: int, words: int = 400) -> str:
    rng = random.Random(seed)
    return " ".join(f"name{rng.randrange(5000)}" for _ in range(words))


def test_copies_are_found_whatever_their_blanks() -> None:
    assert originals(map(signature, [text(1), text(1).replace(" ", "\n  "), text(2)])) == [True, False, True]


def test_a_file_with_a_few_other_words_is_a_copy() -> None:
    words = text(3).split()
    words[200:204] = ["other", "words", "stand", "here"]
    assert originals(map(signature, [text(3), " ".join(words)])) == [True, False]


def test_files_that_share_half_of_their_words_are_not_copies() -> None:
    half = text(4, 200)
    assert originals(map(signature, [f"{half} {text(5, 200)}", f"{half} {text(6, 200)}"])) == [True, True]


def test_a_text_of_a_word_has_a_signature() -> None:
    assert originals(map(signature, ["a", "", "a"])) == [True, True, False]
