"""HTML and SVG as values: text is escaped unless it is markup already, so no repository can write into a page."""

from __future__ import annotations

import html


class Html(str):
    """Markup; a plain `str` is text."""

    __slots__ = ()


def tag(name: str, *children: str | None, **attributes: str | float | None) -> Html:
    """An element. `class_` stands for class, `stroke_width` for stroke-width; what is None is left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: str | None) -> Html:
    return Html("".join(child if isinstance(child, Html) else html.escape(child) for child in children if child))


def _text(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
