from __future__ import annotations

import hashlib
from collections.abc import Sequence

from homespun_core.types import Document, EvalTask
from homespun_indexer import filters
from homespun_indexer.apart import Share, apart


def document(path: str, text: str) -> Document:
    return Document(path=path, language="python", blob=hashlib.sha1(text.encode()).hexdigest(), text=text)


def task(line: str, *, seen: bool = False) -> EvalTask:
    """With the cursor behind the second word."""
    head, middle = line[:4], line[4:]
    prefix = f"def f():\n    {head}"
    return EvalTask(path="a.py", language="python", commit="c", prefix=prefix, middle=middle, suffix="", seen=seen)


def share(documents: Sequence[Document], *tasks: EvalTask) -> Share:
    return Share(documents=documents, tasks=tasks, report={"skipped": {"empty": 2}, "cut": "abc"})


def code(name: str, last: str = "") -> str:
    return "".join(f"    {name}_{i} = load_{name}(item_{i}, {i})\n" for i in range(30)) + last


def paths(shares: Sequence[Share]) -> list[list[str]]:
    return [[d.path for d in each.documents] for each in shares]


def test_a_file_that_was_copied_to_another_repository_is_learned_once() -> None:
    shop = share([document("pay.py", code("pay")), document("basket.py", code("basket"))])
    web = share([document("copied/pay.py", code("pay")), document("page.py", code("page"))])
    assert paths(apart([shop, web])) == [["pay.py", "basket.py"], ["page.py"]]
    assert paths(apart([web, shop])) == [["copied/pay.py", "page.py"], ["basket.py"]]


def test_so_is_one_that_was_changed_a_little_after_it_was_copied() -> None:
    shop = share([document("pay.py", code("pay"))])
    web = share([document("pay.py", code("pay", "    return pay_1\n")), document("page.py", code("page"))])
    assert paths(apart([shop, web])) == [["pay.py"], ["page.py"]]


def test_a_line_that_is_learned_in_one_is_not_asked_for_in_another() -> None:
    """It was: the gate took learning it by heart for a gain in the other."""
    learned, own, seen = "total = add_up(items)", "title = page_of(items)", "count = len(items)"
    shop = share([document("pay.py", f"def pay(items):\n        {learned}\n    {seen}\n")], task("x = y + z"))
    web = share([document("page.py", f"    {seen}\n")], task(learned), task(own), task(seen, seen=True))
    left = [[t.middle for t in each.tasks] for each in apart([shop, web])]
    assert left == [["x = y + z"[4:]], [own[4:], seen[4:]]]


def test_the_report_says_what_is_left_and_what_is_not() -> None:
    learned = "total = add_up(items)"
    shop = share([document("pay.py", code("pay", f"    {learned}\n"))])
    web = share([document("pay.py", code("pay", f"    {learned}\n")), document("page.py", code("page"))], task(learned))
    report = apart([shop, web])[1].report
    assert report["skipped"] == {"empty": 2, filters.COPY: 1} and report["cut"] == "abc"
    assert (report["documents"], report["tasks"], report["tasks_in_others"]) == (1, 0, 1)
    assert report["characters"] == len(code("page"))


def test_repositories_with_nothing_in_common_are_as_they_were() -> None:
    shop, web = share([document("pay.py", code("pay"))], task("x = y + z")), share([document("page.py", code("page"))])
    assert [(each.documents, each.tasks) for each in apart([shop, web])] == [
        (list(each.documents), list(each.tasks)) for each in (shop, web)
    ]
