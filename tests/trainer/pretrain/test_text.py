from __future__ import annotations

from pathlib import Path

import pytest

from homespun_core.errors import RepositoryError
from homespun_core.types import Document, SilentProgress
from homespun_trainer.pretrain.text import Opened, Source, extract, publish, read, take
from tests.trainer.pretrain.rows import allowed, documents
from tests.trainer.tiny import document

MIT = "Permission is hereby granted, free of charge, to any person"
GPL = "GNU GENERAL PUBLIC LICENSE\nVersion 3"


def long(path: str, number: int, size: int = 2_000, language: str = "python") -> Document:
    return document(path, f"value_{number} = {number}\n" * (size // 11), language)


def source(*given: Document, licence: str = MIT) -> Source:
    return Source(licences={"LICENSE": licence}, documents=given, skipped={"generated": 2})


def opened(made: Source, commit: str = "c" * 40) -> Opened:
    return Opened(commit=commit, read=lambda: made)


def never() -> Source:
    raise AssertionError("it was read again")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (long("a.py", 1), None),
        (long("a.go", 1, language="go"), "other language"),
        (document("a.py", "x = 1\n"), "too small or too large"),
        (long("a.py", 1, size=130_000), "too small or too large"),
        (long("shop/migrations/0001.py", 1), "migration, fixture or translation"),
        (document("a.py", "# GNU General Public License\n" + "x = 1\n" * 100), "other licence"),
    ],
)
def test_what_goes_in(given: Document, reason: str | None) -> None:
    kept, dropped = take(allowed(), source(given), 1.0)
    assert kept == ([] if reason else [given])
    assert dropped == {"generated": 2} | ({reason: 1} if reason else {})


def test_a_repository_fills_its_cap_with_whole_folders_and_few_tests() -> None:
    many = [long(f"p{i // 10}/f{i}.py", i) for i in range(40)] + [
        long(f"tests/test_{i}.py", 100 + i) for i in range(40)
    ]
    kept, dropped = take(allowed(), source(*many), 0.008)  # 48 kB
    size = sum(len(d.text) for d in kept)
    assert 40_000 < size <= 48_000
    assert sum(len(d.text) for d in kept if d.path.startswith("tests/")) <= 0.35 * 48_000
    assert dropped["over the cap"] == 80 - len(kept)
    assert take(allowed(), source(*reversed(many)), 0.008)[0] == kept


@pytest.mark.parametrize("licences", [{"LICENSE": GPL}, {}, {"LICENSE": "Proprietary"}])
def test_a_repository_whose_licence_file_is_not_permissive_is_refused(licences: dict[str, str]) -> None:
    with pytest.raises(RepositoryError, match="whatever the list says"):
        take(allowed(), Source(licences=licences, documents=documents(3), skipped={}), 1.0)


def test_a_folder_with_a_licence_of_its_own_stays_out() -> None:
    given = [long("app/a.py", 1), long("ee/b.py", 2)]
    licences = {"LICENSE": MIT, "ee/LICENSE": "The Enterprise Edition licence. All rights reserved."}
    kept, dropped = take(allowed(), Source(licences=licences, documents=tuple(given), skipped={}), 1.0)
    assert kept == given[:1] and dropped == {"other licence": 1}


def test_what_cannot_be_had_today_stays_as_it_was(tmp_path: Path) -> None:
    """A run without a network deleted all that an earlier one had read."""
    publish(allowed(), opened(source(long("f.py", 1))), tmp_path, 1.0)

    def unreachable(entry: object) -> Opened:
        raise RepositoryError("acme/shop: no network")

    assert extract([allowed()], unreachable, tmp_path, scale=1.0, progress=SilentProgress()) == {
        "acme/shop": "acme/shop: no network"
    }
    assert [text.allowed.name for text in read([allowed()], tmp_path)] == ["acme/shop"]


def test_text_is_read_back_with_a_signature_for_each_file(tmp_path: Path) -> None:
    given = [long(f"f{i}.py", i) for i in range(3)]
    publish(allowed(), opened(source(*given)), tmp_path, 1.0)
    (text,) = read([allowed("other/one"), allowed()], tmp_path)
    assert sorted(text.documents, key=lambda d: d.path) == given
    assert len(text.signatures) == 3 and text.commit == "c" * 40
    assert text.report["files"] == 3


def test_what_is_there_already_is_not_read_again(tmp_path: Path) -> None:
    publish(allowed(), opened(source(long("f.py", 1))), tmp_path, 1.0)
    publish(allowed(), Opened(commit="c" * 40, read=never), tmp_path, 1.0)
    with pytest.raises(AssertionError):
        publish(allowed(), Opened(commit="d" * 40, read=never), tmp_path, 1.0)


def test_one_refused_repository_does_not_stop_the_others_and_leaves_nothing(tmp_path: Path) -> None:
    licence = {"acme/shop": MIT, "acme/tool": MIT}

    def open_(entry) -> Opened:  # type: ignore[no-untyped-def]
        return opened(
            source(long("f.py", 1), licence=licence[entry.name]), commit=licence[entry.name][:3].ljust(40, "0")
        )

    names = [allowed("acme/tool"), allowed()]

    def run() -> dict[str, str]:
        return extract(names, open_, tmp_path, scale=1.0, progress=SilentProgress())

    assert run() == {}
    licence["acme/tool"] = GPL  # it changed hands
    assert list(run()) == ["acme/tool"]
    assert [text.allowed.name for text in read(names, tmp_path)] == ["acme/shop"]
