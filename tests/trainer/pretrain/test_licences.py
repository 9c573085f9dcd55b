from __future__ import annotations

import pytest

from homespun_trainer.pretrain.licences import is_copyleft, problem

MIT = "MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining a copy"
APACHE = "                                 Apache License\n                           Version 2.0, January 2004\n"
GPL = "                    GNU GENERAL PUBLIC LICENSE\n                       Version 3, 29 June 2007\n"
MPL = "Mozilla Public License Version 2.0\n=====\n"


CLAUSE = "“Commons Clause” License Condition v1.0\n\nSoftware: Thing\nLicense: Apache 2.0\n" + APACHE
FUNCTIONAL = "# Functional Source License, Version 1.1, MIT Future License\n"
RESERVED = "All rights reserved. You may not copy this."


def named(*texts: str) -> dict[str, str]:
    return {f"LICENSE-{i}": text for i, text in enumerate(texts)}


@pytest.mark.parametrize(
    "texts",
    [
        named(MIT),
        named(APACHE),
        named(MIT, APACHE),
        named(MIT + "\n" * 9000 + GPL),
        {"LICENSE": MIT, "LICENSES_bundled.txt": GPL, "vendor/LICENSE": GPL},
    ],
)
def test_permissive_licences_pass(texts: dict[str, str]) -> None:
    assert problem(texts) is None


@pytest.mark.parametrize(
    "texts",
    [{}, named(""), named(GPL), named(MPL), named(MIT, GPL), named(MIT, RESERVED), named(CLAUSE), named(FUNCTIONAL)],
)
def test_copyleft_unknown_and_missing_licences_are_refused(texts: dict[str, str]) -> None:
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
