from __future__ import annotations

import pytest

from homespun_trainer.pretrain.licences import is_copyleft, problem

MIT = "MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining a copy"
APACHE = "                                 Apache License\n                           Version 2.0, January 2004\n"
GPL = "                    GNU GENERAL PUBLIC LICENSE\n                       Version 3, 29 June 2007\n"
MPL = "Mozilla Public License Version 2.0\n=====\n"


@pytest.mark.parametrize("texts", [[MIT], [APACHE], [MIT, APACHE], [MIT + "\n" * 9000 + GPL]])
def test_permissive_licences_pass(texts: list[str]) -> None:
    assert problem(texts) is None


@pytest.mark.parametrize("texts", [[], [""], [GPL], [MPL], [MIT, GPL], ["All rights reserved."]])
def test_copyleft_unknown_and_missing_licences_are_refused(texts: list[str]) -> None:
    assert problem(texts) is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# SPDX-License-Identifier: GPL-2.0\nimport os\n", True),
        ("// This Source Code Form is subject to the terms of the Mozilla Public\n", False),
        ("# under the terms of the GNU Lesser General Public License\n", True),
        ("# SPDX-License-Identifier: MIT\n", False),
        ("import os\n", False),
    ],
)
def test_a_source_file_that_says_copyleft_is_known(text: str, expected: bool) -> None:
    assert is_copyleft(text) is expected
