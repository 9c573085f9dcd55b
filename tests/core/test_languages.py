import pytest

from homespun_core.languages import comment_prefix, language_named, language_of_path, languages


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b.py", "python"),
        ("x.tsx", "tsx"),
        ("x.d.ts", "typescript"),
        ("Makefile", "make"),
        ("a.R", "r"),
        ("lib.rs", "rust"),
    ],
)
def test_files_are_recognised_by_name(path: str, name: str) -> None:
    language = language_of_path(path)
    assert language is not None and language.name == name


@pytest.mark.parametrize("path", ["README.md", "data.csv", "py", ".py/x", "a.lock"])
def test_what_is_not_source_is_none(path: str) -> None:
    assert language_of_path(path) is None


def test_editors_names_are_known() -> None:
    named = {n: language_named(n) for n in ("typescriptreact", "javascriptreact", "shellscript", "C++", "Python")}
    assert {n: lang.name for n, lang in named.items() if lang} == {
        "typescriptreact": "tsx",
        "javascriptreact": "javascript",
        "shellscript": "bash",
        "C++": "cpp",
        "Python": "python",
    }
    assert language_named("klingon") is None and comment_prefix(None) == "#" and comment_prefix("go") == "//"


def test_no_two_languages_claim_the_same_files_or_names() -> None:
    for claims in (
        [e for lang in languages().values() for e in lang.extensions],
        [f for lang in languages().values() for f in lang.filenames],
        [n for lang in languages().values() for n in (lang.name, *lang.aliases)],
    ):
        assert len(claims) == len(set(claims))
