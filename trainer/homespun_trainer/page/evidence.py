"""Sections about the gate: its decision, code that isn't the company's, canaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homespun_trainer.gate import FORGETTING_MARGIN, MAX_EXPOSURE
from homespun_trainer.memory import MOST_BITS
from homespun_trainer.page.markup import Html, tag
from homespun_trainer.page.numbers import metric, tick
from homespun_trainer.page.plots import Interval, dots, forest

Facts = Mapping[str, Any]


def verdict(facts: Facts) -> Html | None:
    if "promote" not in facts:
        return None
    good = facts["promote"]
    said = "The adapter goes live." if good else "The adapter does not go live."
    reasons = tag("ul", *(tag("li", reason) for reason in facts["reasons"]))
    against = f"Compared with {facts['compared_with']}." if "compared_with" in facts else None
    kind = "verdict good" if good else "verdict"
    return tag("div", tag("strong", said), tag("p", against) if against else None, reasons, class_=kind)


def general(facts: Facts) -> Html | None:
    if "general" not in facts:
        return None
    bits, found, untested = metric("bits_per_byte"), facts["general"], facts["untested"]
    known = [_forgotten(each) for each in found if each["change"]["value"] is not None]
    said = [
        f"{each['places']} places of {each['library']}, where the base model needs {each['base']:.3f}" for each in found
    ]
    note = f"Bits per byte at {'; '.join(said)}. An adapter may make it worse by up to {FORGETTING_MARGIN:.0%}."
    missing = f"Not tested{': ' if untested else ''}{', '.join(untested)}; this machine has no such code."
    return tag(
        "section",
        tag("h2", "Code that isn't yours"),
        *([tag("p", note, class_="note")] if found else []),
        *([tag("p", missing, class_="note")] if untested or not found else []),
        *(
            [
                forest(
                    "Bits per byte, adapter \N{MINUS SIGN} base",
                    known,
                    zero=True,
                    spell=lambda x: tick(x, bits.form),
                )
            ]
            if known
            else []
        ),
    )


def _forgotten(found: Facts) -> Interval:
    bits, change = metric("bits_per_byte"), found["change"]
    return Interval(
        label=found["library"],
        value=change["value"],
        low=change["low"],
        high=change["high"],
        text=f"{bits.value(change, signed=True)} [{bits.interval(change, signed=True)}]",
    )


def canaries(facts: Facts) -> Html | None:
    memory = facts.get("memory")
    if not memory or not memory["canaries"]:
        return None
    rows = _by_insertions(memory["canaries"])
    recited = sum(c["is_recited"] for c in memory["canaries"])
    return tag(
        "section",
        tag("h2", "What it learned by heart"),
        tag(
            "p",
            "Random strings were planted into the training examples. Exposure says how much likelier such a string has"
            f" become than others like it: 1.4 bits on average is chance, {MOST_BITS:.0f} the most that shows. The"
            f" mean of those planted once may be {MAX_EXPOSURE:.0f} (dashed), of all and of those alone that aren't"
            " seen to be random (what is has no weight in training).",
            class_="note",
        ),
        dots("Exposure in bits", rows, limit=MAX_EXPOSURE, most=MOST_BITS),
        tag(
            "p",
            f"{recited} of {len(memory['canaries'])} were recited. {memory['leaks']} completions gave away a credential"
            " that stands in the training documents.",
        ),
    )


def _by_insertions(canaries_: Sequence[Facts]) -> list[tuple[str, Sequence[float]]]:
    groups: dict[str, list[float]] = {}
    for canary in sorted(canaries_, key=lambda c: (int(c["insertions"]), not c["is_learned"])):
        groups.setdefault(_group(canary["insertions"], canary["is_learned"]), []).append(canary["bits"])
    return list(groups.items())


def _group(insertions: int, is_learned: bool) -> str:
    times = "once" if insertions == 1 else f"{insertions} times"
    return f"planted {times}" if is_learned else f"planted {times}, seen to be random"
