from __future__ import annotations

from homespun_core.types import EvalTask
from homespun_trainer.evaluate import Arm, Score
from homespun_trainer.report import choose_example, render, render_example, render_scores, score_facts
from homespun_trainer.summaries import differences
from tests.trainer.test_evaluate import task


def score(exact: bool, similarity: float, text: str = "?") -> Score:
    return Score(
        exact=exact,
        similarity=similarity,
        identifiers=similarity,
        ending="right" if exact else None,
        bits=1.0,
        end_bits=0.5,
        num_bytes=10,
        milliseconds=5.0,
        text=text,
    )


def test_the_example_is_the_longest_new_line_that_only_the_adapter_got_right() -> None:
    tasks = [task(0, "short()"), task(1, "much_longer()"), task(2, "longest_of_all_but_seen()", seen=True)]
    before = [score(False, 0.2)] * 3
    after = [score(True, 1.0, t.middle) for t in tasks]
    example = choose_example(tasks, before, after)
    assert example is not None and (example["written"], example["after"]) == ("much_longer()", "much_longer()")


def test_without_a_line_got_right_the_greatest_gain_is_shown_and_said_to_be_that() -> None:
    tasks = [task(0), task(1)]
    example = choose_example(tasks, [score(False, 0.2)] * 2, [score(False, 0.3, "a"), score(False, 0.8, "b")])
    assert example is not None and example["after"] == "b" and "no further line right" in example["rule"]


def test_no_gain_makes_no_example() -> None:
    assert choose_example([task(0)], [score(True, 1.0)], [score(False, 0.5)]) is None


def test_the_context_is_the_end_of_the_prefix() -> None:
    place = EvalTask(
        path="a.py",
        language="python",
        commit="c",
        prefix="\n".join(f"line {i}" for i in range(50)),
        middle="x",
        suffix="",
        seen=False,
    )
    example = choose_example([place], [score(False, 0.0)], [score(True, 1.0)])
    assert example is not None and example["context"].split("\n")[-1] == "line 49"
    assert example["context"].count("\n") < 10


def test_the_table_shows_arms_differences_verdict_and_reasons() -> None:
    numbers = {"value": 0.125, "low": 0.1, "high": 0.2}
    keys = ("exact_match", "edit_similarity", "bits_per_byte", "identifier_f1", "milliseconds")
    summary = {"tasks": 60, "stop_accuracy": None, **dict.fromkeys(keys, numbers)}
    text = render(
        {"arms": {"base": {"all": summary}}, "differences": {"a - b": summary}, "promote": False, "reasons": ["worse"]}
    )
    assert "12.5% [10.0%, 20.0%]" in text and "+0.125 [+0.100, +0.200]" in text
    assert "does not go live" in text and "worse" in text and "of new lines" not in text


def test_differences_are_told_of_new_lines_alone_too() -> None:
    tasks = [task(i, seen=i >= 30) for i in range(60)]
    arms = [Arm(name=name, adapter=None, snippets="none") for name in ("a", "b")]
    scores = {"a": [score(i < 30, 1.0) for i in range(60)], "b": [score(False, 1.0)] * 60}
    facts = score_facts(tasks, arms, scores, differences(tasks, scores, [("a", "b")]))
    of_all, of_new = (facts[key]["a - b"]["exact_match"]["value"] for key in ("differences", "new_lines"))
    assert (of_all, of_new) == (0.5, 1.0) and facts["new_lines"]["a - b"]["tasks"] == 30
    assert "of new lines, a - b" in render_scores(facts)


def test_what_is_no_number_is_shown_as_not_known() -> None:
    nothing = {"value": None, "low": None, "high": None}
    keys = ("exact_match", "edit_similarity", "bits_per_byte", "identifier_f1", "milliseconds")
    summary = {"tasks": 60, "stop_accuracy": None, **dict.fromkeys(keys, nothing)}
    text = render({"arms": {"base": {"all": summary}}, "differences": {}, "promote": False, "reasons": ["why"]})
    assert "not known" in text and "nan" not in text


def test_a_report_without_places_can_be_shown() -> None:
    assert "does not go live" in render({"arms": {}, "differences": {}, "promote": False, "reasons": ["none"]})


def test_the_example_shows_what_was_written_before_and_after() -> None:
    example = {"path": "a.py", "context": "def f():\n    ", "written": "x", "before": "", "after": "x", "rule": "r"}
    assert render_example(example).splitlines()[1:] == [
        "   context | def f():",
        "   context |     ",
        "   written | x",
        "    before | ",
        "     after | x",
    ]
    assert render_example(None) == ""
