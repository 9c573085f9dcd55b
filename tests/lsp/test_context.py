from pathlib import Path

from homespun_lsp.context import Place, query_at, window
from homespun_lsp.documents import Document
from homespun_lsp.repository import Repositories


def place(marked: str, uri: str = "file:///nowhere/a.py") -> Place:
    before, _, after = marked.partition("|")
    document = Document(uri=uri, language="python", version=1, text=before + after, encoding="utf-16")
    return Place(document=document, text=document.text, offset=len(before))


def test_the_window_holds_whole_lines_around_the_cursor() -> None:
    text = "".join(f"line {n}\n" for n in range(10_000))
    offset = text.index("line 5000\n") + 4
    prefix, suffix = window(text, offset)
    assert prefix.startswith("line ") and prefix.endswith("\nline") and 7_000 < len(prefix) <= 8_000
    assert suffix.startswith(" 5000\n") and suffix.endswith("\n") and 3_900 < len(suffix) <= 4_000


def test_the_window_starts_at_the_same_line_while_the_cursor_moves_down_a_little() -> None:
    """Otherwise each new line would change the beginning of the prompt, and the server's cache of it would be void."""
    text = "".join(f"line {n}\n" for n in range(10_000))
    starts = [window(text, text.index(f"line {n}\n"))[0].partition("\n")[0] for n in range(5000, 5160)]
    assert len(set(starts)) <= 11
    assert {int(start.removeprefix("line ")) % 16 for start in starts} == {0}


def test_a_file_of_one_long_line_is_cut_within_it() -> None:
    assert window("x" * 50_000, 20_000) == ("x" * 8_000, "x" * 4_000)


def test_all_line_ends_are_sent_as_newlines() -> None:
    assert window("a\r\nb\rc\r\nd", 4) == ("a\nb", "\nc\nd")


def test_a_path_is_relative_to_the_repository_then_to_the_folder_then_absolute(tmp_path: Path) -> None:
    repo, folder = tmp_path / "repo", tmp_path / "folder"
    (repo / ".git").mkdir(parents=True)

    def names(path: Path | str) -> tuple[str | None, str | None]:
        uri = path if isinstance(path, str) else path.as_uri()
        query = query_at(place("|", uri), (folder,), Repositories())
        return query.path, query.repo

    assert names(repo / "src" / "a b.py") == ("src/a b.py", "repo")
    assert names(folder / "src" / "b.py") == ("src/b.py", None)
    assert names(tmp_path / "c.py") == (str(tmp_path / "c.py"), None)
    assert names("untitled:Untitled-1") == (None, None)
