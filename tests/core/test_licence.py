from __future__ import annotations

import pytest

from homespun_core.licence import folder_licences, is_left_out, is_licence_file, is_permissive, licence_of

MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software"
GPL = "GNU GENERAL PUBLIC LICENSE\n  Version 3, 29 June 2007\n"
GPL_2 = """\
GNU GENERAL PUBLIC LICENSE
  Version 2, June 1991
(Some other Free Software Foundation software is covered by the GNU Lesser General Public License instead.)
"""
LGPL = "GNU LESSER GENERAL PUBLIC LICENSE\n  Version 3, 29 June 2007\n"
AGPL = "GNU AFFERO GENERAL PUBLIC LICENSE\n  Version 3, 19 November 2007\n"
OURS = "Copyright Acme. All rights reserved."


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("// SPDX-License-Identifier: MIT\n", "mit"),
        ("# SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note\n", "gpl-2.0-only with linux-syscall-note"),
        ("/* SPDX-License-Identifier: (MIT OR Apache-2.0) */", "(mit or apache-2.0)"),
        ("<!-- SPDX-License-Identifier: MIT -->\n<b>", "mit"),
        (MIT, "mit"),
        (GPL, "gpl-3.0"),
        (GPL_2, "gpl-3.0"),
        (LGPL + "this version incorporates the terms of version 3 of the GNU General Public License", "lgpl-3.0"),
        ("/*\n * This file is part of x, under the GNU Lesser\n * General Public License.\n */", "lgpl-3.0"),
        ("# the GNU Affero General\n# Public License as published", "agpl-3.0"),
        ("// This Source Code Form is subject to the terms of the Mozilla Public\n// License, v. 2.0.", "mpl-2.0"),
        ("// Licensed under the Apache License, Version 2.0 (the License)", "apache-2.0"),
        ("Redistribution and use in source and binary forms, with or without", "bsd-3-clause"),
        ("Business Source License 1.1", "busl-1.1"),
        ("def licence_plate(): ...", None),
        ("import os\n", None),
        ("x = 1\n" * 1000 + GPL, None),
    ],
)
def test_a_licence_is_recognised_by_what_the_head_says(text: str, licence: str | None) -> None:
    assert licence_of(text) == licence


@pytest.mark.parametrize(
    ("licence", "permissive"),
    [
        ("mit", True),
        ("(mit or gpl-3.0-only)", True),
        ("mit and gpl-3.0-or-later", False),
        ("(mit or apache-2.0) and gpl-3.0-only", False),
        ("(mit or gpl-2.0-only) and (isc or (agpl-3.0-only and mit))", True),
        ("gpl-3.0-only and mit or isc", True),
        ("(mit", True),
        ("apache-2.0 with llvm-exception", True),
        ("lgpl-2.1+", False),
        ("busl-1.1", False),
        ("licenseref-proprietary", False),
        ("cc-by-nc-4.0", False),
        ("unknown", False),
    ],
)
def test_only_named_licences_are_permissive(licence: str, permissive: bool) -> None:
    assert is_permissive(licence) is permissive


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("LICENSE", True),
        ("lib/x/COPYING.LESSER", True),
        ("lib/LICENSE-MIT", True),
        ("Licence.txt", True),
        ("src/license.py", False),
        ("LICENSES/GPL-3.0-or-later.txt", True),
        ("LICENSES/Apache-2.0", True),
        ("src/LICENSES/MIT.txt", False),
        ("LICENSES/old/MIT.txt", False),
        ("licenses_view.md", False),
    ],
)
def test_licence_files_go_by_their_names(path: str, is_one: bool) -> None:
    assert is_licence_file(path) is is_one


GPL_HEADER = "# GNU General Public License\nx = 1\n"


@pytest.mark.parametrize(
    ("path", "text", "licences", "out"),
    [
        ("a.py", "x = 1\n", {"LICENSE": GPL}, False),
        ("a.py", GPL_HEADER, {"LICENSE": GPL}, False),
        ("a.py", GPL_HEADER, {"LICENSE": MIT}, True),
        ("a.py", GPL_HEADER, {}, True),
        ("lib/x/a.py", "x = 1\n", {"lib/x/LICENSE": GPL}, True),
        ("lib/x/deep/a.py", "x = 1\n", {"lib/x/LICENSE": GPL}, True),
        ("lib/xy/a.py", "x = 1\n", {"lib/x/LICENSE": GPL}, False),
        ("lib/x/a.py", "// SPDX-License-Identifier: MIT\n", {"lib/x/LICENSE": GPL}, False),
        ("lib/x/a.py", "x = 1\n", {"lib/COPYING": GPL, "lib/x/LICENSE": MIT}, False),
        ("lib/x/a.py", "x = 1\n", {"lib/x/LICENSE": "All rights reserved. Do not copy."}, True),
        ("lib/x/a.py", "x = 1\n", {"LICENSE": "All rights ours.", "lib/x/LICENSE": "All rights ours."}, False),
        ("lib/x/a.py", "x = 1\n", {"lib/x/LICENSE": "Either MIT or CC-0 - see the individual files"}, False),
        ("lib/x/a.py", "x = 1\n", {"lib/x/LICENSE": "AGPL, see the web site"}, True),
        ("lib/x/a.py", "x = 1\n", {"lib/x/LICENSE-GPL": GPL, "lib/x/LICENSE-MIT": MIT}, False),
    ],
)
def test_other_peoples_code_needs_a_permissive_licence(
    path: str, text: str, licences: dict[str, str], out: bool
) -> None:
    assert is_left_out(path, text, folder_licences(licences)) is out


def spdx(words: str) -> str:
    return f"/* SPDX-License-Identifier: {words} */\nint x;\n"


@pytest.mark.parametrize(
    ("text", "licences"),
    [
        (spdx("GPL-2.0"), {"COPYING": GPL_2}),
        (spdx("GPL-2.0-only WITH Linux-syscall-note"), {"COPYING": GPL_2}),
        (spdx("GPL-2.0"), {"COPYING": "SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note\n"}),
        (spdx("GPL-3.0-or-later"), {"LICENSE": GPL}),
        (spdx("AGPL-3.0-only"), {"LICENSE": AGPL}),
        (spdx("(GPL-2.0-only AND LGPL-2.1-only)"), {"COPYING": GPL_2, "COPYING.LIB": LGPL}),
        ("# GNU Lesser General Public License\n", {"COPYING": GPL, "COPYING.LESSER": LGPL}),
        ("# GNU General Public License\n", {"COPYING": GPL, "COPYING.LESSER": LGPL}),
        (spdx("GPL-3.0-only"), {"LICENSE": "Either MIT or GPL", "LICENSE-GPL": GPL, "LICENSE-MIT": MIT}),
        (spdx("LicenseRef-Acme"), {}),
        (spdx("LicenseRef-Acme"), {"LICENSE": OURS}),
        (spdx("LicenseRef-Acme AND MIT"), {"LICENSE": OURS}),
        (spdx("UNLICENSED"), {}),
        (spdx("UNLICENSED"), {"LICENSE": OURS}),
        (spdx("GPL-3.0-only"), {"LICENSES/GPL-3.0-or-later.txt": GPL, "LICENSES/CC0-1.0.txt": "CC0"}),
        (spdx("AGPL-3.0-or-later"), {"LICENSES/AGPL-3.0-or-later": "", "LICENSES/MIT.txt": MIT}),
        (spdx("EUPL-1.2"), {"LICENSES/EUPL-1.2.md": "a text that is not known"}),
        (spdx("LicenseRef-A OR EUPL-1.2"), {"LICENSES/LicenseRef-A.txt": OURS, "LICENSES/EUPL-1.2.txt": ""}),
        ("# GNU General Public License\n", {"LICENSES/GPL-2.0-only.txt": GPL_2}),
    ],
)
def test_the_licence_of_the_repository_itself_keeps_nothing_out(text: str, licences: dict[str, str]) -> None:
    """Files that named it in other words than its text did were left out, all of the repository."""
    for path in ("a.c", "src/deep/a.c"):
        assert not is_left_out(path, text, folder_licences(licences))


@pytest.mark.parametrize(
    ("path", "text", "licences"),
    [
        ("a.c", spdx("GPL-2.0"), {}),
        ("a.c", spdx("GPL-2.0"), {"LICENSE": MIT}),
        ("a.c", spdx("GPL-2.0"), {"LICENSE": OURS}),
        ("a.c", spdx("(GPL-2.0)"), {"LICENSE": OURS}),
        ("a.c", spdx("AGPL-3.0-only"), {"LICENSE": GPL}),
        ("a.c", spdx("GPL-3.0-only"), {"LICENSE": AGPL}),
        ("a.c", "# GNU Lesser General Public License\n", {"COPYING": GPL_2}),
        ("a.c", spdx("GPL-2.0-only AND LGPL-2.1-only"), {"COPYING": GPL_2}),
        ("a.c", spdx("GPL-2.0"), {"LICENSE": OURS, "LICENSE-3RD-PARTY.txt": GPL_2}),
        ("a.c", spdx("GPL-2.0"), {"LICENSE": OURS, "THIRD_PARTY_LICENSE": GPL_2}),
        ("a.c", spdx("GPL-2.0"), {"LICENSE": OURS, "LICENSES/GPL-2.0-only.txt": GPL_2}),
        ("a.c", spdx("GPL-2.0"), {"LICENSES/MIT.txt": MIT, "lib/x/LICENSES/GPL-2.0-only.txt": GPL_2}),
        ("lib/x/a.c", "int x;\n", {"LICENSES/MIT.txt": MIT, "lib/x/LICENSE": GPL}),
        ("lib/x/a.c", "int x;\n", {"COPYING": GPL, "lib/x/COPYING": GPL, "lib/x/COPYING.LESSER": LGPL}),
        ("a.c", spdx("LicenseRef-Qt-Commercial OR LGPL-3.0-only"), {"LICENSE": OURS}),
        ("a.c", spdx("LicenseRef-Other AND GPL-2.0-only"), {"LICENSE": OURS}),
        ("lib/x/a.c", spdx("LicenseRef-Other"), {"LICENSE": OURS, "lib/x/LICENSE": OURS}),
        ("lib/x/a.c", spdx("UNLICENSED"), {"lib/x/LICENSE": MIT}),
        ("lib/x/a.c", "int x;\n", {"lib/x/LICENSE": spdx("LicenseRef-Other")}),
    ],
)
def test_copyleft_and_other_companies_code_stays_out(path: str, text: str, licences: dict[str, str]) -> None:
    assert is_left_out(path, text, folder_licences(licences))
