"""Suggestions as the protocol's items, with the rules editors apply to them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lsprotocol import types

from homespun_lsp.context import Place, rest_of_line
from homespun_lsp.documents import Document

ACCEPTED = "homespun.accepted"
"""Command that editors execute after inserting an item: the only sign of acceptance that all of them give."""
_FIRST = "!"
"""Sorts before the letters and digits other servers use in `sortText`."""
_LABEL_CHARS = 80
_WORD = re.compile(r"\w*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What an editor that speaks Copilot's dialect says of an item it was given."""

    completion: str
    accepted: int | None
    """Characters since the start of the item's text; None where it says nothing of that."""


def told(params: object) -> Told | None:
    """`{item, acceptedLength?}`, in UTF-16 code units. No editor is obliged to send it, nor to send it well."""
    item, length = getattr(params, "item", None), getattr(params, "acceptedLength", None)
    command = getattr(item, "command", None)
    match getattr(command, "arguments", None), getattr(item, "insertText", None), length:
        case [[str(made), _], str(text), int(units)]:
            prefix = text.encode("utf-16-le", "surrogatepass")[: 2 * max(0, units)]
            return Told(completion=made, accepted=len(prefix.decode("utf-16-le", "ignore")))
        case [[str(made), _], _, _]:
            return Told(completion=made, accepted=None)
    return None


def place_of(document: Document, params: types.InlineCompletionParams) -> Place | None:
    """Where ghost text is wanted; None when a rule of the editor leaves nothing to suggest.

    With the suggestion list open VS Code shows ghost text only if it continues the chosen entry, so that is asked for.
    """
    chosen = params.context.selected_completion_info
    if chosen is None:
        return Place(document=document, text=document.text, offset=document.offset_at(params.position))
    if chosen.range.start.line != chosen.range.end.line:
        return None
    start, end = document.offset_at(chosen.range.start), document.offset_at(chosen.range.end)
    text = document.text[:start] + chosen.text + document.text[end:]
    return Place(document=document, text=text, offset=start + len(chosen.text), num_chosen=len(chosen.text))


def inline_item(
    place: Place, completion: str, chosen: types.SelectedCompletionInfo | None, made: str | None = None
) -> types.InlineCompletionItem | None:
    document, accepted = place.document, _accepted(made, completion)
    rest = rest_of_line(place.text, place.offset)
    if chosen is not None:  # its text and its range are given, so that a line to the right can't be taken in
        completion = completion.partition("\n")[0] if rest else completion
        return _inline(chosen.text + completion, chosen.range, accepted) if completion.strip() else None
    if rest and "\n" in completion:  # VS Code wants a range up to the end of the line for text of several lines
        where = document.range_at(place.offset, document.line_end_after(place.offset))
        return _inline(completion + rest, where, accepted)
    return _inline(completion, document.range_at(place.offset, place.offset), accepted)


def _inline(text: str, where: types.Range, accepted: types.Command) -> types.InlineCompletionItem:
    return types.InlineCompletionItem(insert_text=text, range=where, command=accepted)


def menu_item(place: Place, completion: str, *, markdown: bool, made: str | None = None) -> types.CompletionItem:
    """An entry for editors without ghost text. It covers the word before the cursor, which editors filter by."""
    document = place.document
    match = _WORD.search(place.text, max(0, place.offset - 200), place.offset)
    word = match[0] if match else ""
    text = word + completion
    return types.CompletionItem(
        label=_label(text),
        kind=types.CompletionItemKind.Text,
        detail="Homespun",
        documentation=_documentation(text, document.language, markdown=markdown),
        preselect=True,
        sort_text=_FIRST,
        filter_text=word or None,
        insert_text_format=types.InsertTextFormat.PlainText,
        insert_text_mode=types.InsertTextMode.AsIs,
        text_edit=types.TextEdit(range=document.range_at(place.offset - len(word), place.offset), new_text=text),
        command=_accepted(made, completion),
    )


def _label(text: str) -> str:
    line = text.strip().partition("\n")[0].rstrip()
    return line if len(line) <= _LABEL_CHARS else line[: _LABEL_CHARS - 1] + "…"


def _documentation(text: str, language: str, *, markdown: bool) -> types.MarkupContent | str:
    if not markdown:
        return text
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return types.MarkupContent(kind=types.MarkupKind.Markdown, value=f"{fence}{language}\n{text}\n{fence}")


def _accepted(made: str | None, completion: str) -> types.Command:
    """Says which completion was accepted, and how much of it was left to accept."""
    arguments = [made, len(completion)] if made else None
    return types.Command(title="Homespun: suggestion accepted", command=ACCEPTED, arguments=arguments)
