from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_lsp.uris import path_of


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///c%3A/Users/me/a.py", r"c:\Users\me\a.py"),
        ("file:///C:/Users/me/a.py", r"c:\Users\me\a.py"),
        ("file:///C%3a/with%20space/%C3%A9.py", r"c:\with space\é.py"),
        ("file:///c:", "c:\\"),
        ("file://localhost/C:/a.py", r"c:\a.py"),
        ("file://server/share/Folder/a.py", r"\\server\share\Folder\a.py"),
        ("file://wsl%24/Debian/home/me/a.py", r"\\wsl$\Debian\home\me\a.py"),
        ("file:///c%3A/100%25/a%23b.py", r"c:\100%\a#b.py"),
    ],
)
def test_a_path_of_windows(uri: str, path: str) -> None:
    found = path_of(uri, is_windows=True)
    assert found == path
    assert PureWindowsPath(path).is_absolute()


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///home/me/A.py", "/home/me/A.py"),
        ("file:///home/a;b.py", "/home/a;b.py"),
        ("file:///home/a%3Fb%23c.py", "/home/a?b#c.py"),
        ("file:///Users/me/%F0%9F%A7%B6.swift", "/Users/me/🧶.swift"),
        ("file:///home/back%5Cslash.py", "/home/back\\slash.py"),
        ("untitled:Untitled-1", None),
        ("vscode-remote://ssh-remote%2Bhost/home/a.py", None),
        ("git:/home/me/a.py?HEAD", None),
        ("file:///a%00b.py", None),
        ("file://[", None),
        ("file:", None),
        ("", None),
        ("\udc80", None),
    ],
)
def test_a_path_of_elsewhere(uri: str, path: str | None) -> None:
    assert path_of(uri, is_windows=False) == path


@given(st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_any_name_comes_back(name: str) -> None:
    path = Path("/folder") / name / "a"
    assert path_of(path.as_uri(), is_windows=False) == str(path)


@given(st.text())
def test_nothing_that_an_editor_says_is_an_error(uri: str) -> None:
    for is_windows in (False, True):
        path_of(uri, is_windows=is_windows)
        path_of(f"file:///{uri}", is_windows=is_windows)
