"""The model card: what a model is, in figures of its own run. A pure function of what the steps wrote down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from homespun_core.estimates import spelled

RANDOM_WEIGHTS = "random weights"
"""What a run begins from that goes on from no model."""
_CURVE_ROWS = 12

_FORMATS = """\
## Formats it was trained on

Prompts are those of Homespun's server (`core/homespun_core/prompt.py`); the word before the cursor is left to the
completion.

    PSM:            <|file_sep|>PATH\\n<|fim_prefix|>PREFIX<|fim_suffix|>SUFFIX<|fim_middle|>MIDDLE<|endoftext|>
    contiguous SPM: <|file_sep|>PATH\\n<|fim_prefix|><|fim_suffix|>SUFFIX<|fim_middle|>PREFIX MIDDLE<|endoftext|>
    with snippets:  <|repo_name|>REPO\\n (<|file_sep|>PATH\\nSNIPPET\\n)+ <|file_sep|>PATH\\n then either of the above
    plain:          <|file_sep|>PATH\\nTEXT<|endoftext|>
"""


def render(facts: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]]) -> str:
    parts = [
        f"# {facts['name']}",
        "A fill-in-the-middle code model made by `homespun pretrain`. Every figure was written down by the run itself.",
        "\n".join(_what(facts)),
        _FORMATS.strip(),
        "## Figures (measured)\n\n" + "\n\n".join(figures(evaluations)),
        "## Training\n\n" + "\n".join(_training(facts)),
        "## Loss\n\n" + "\n".join(_curve(facts["training"])),
        "## Data\n\n" + "\n".join(_data(facts["data"])),
        *([] if facts["run"]["from"].startswith(RANDOM_WEIGHTS) else [_before(facts["run"])]),
    ]
    return "\n\n".join(parts) + "\n"


def _what(facts: Mapping[str, Any]) -> Iterator[str]:
    shape, training = facts["architecture"], facts["training"]
    million = 1e6
    yield "| | |"
    yield "|---|---|"
    yield (
        f"| architecture | Llama: {shape['num_hidden_layers']} layers, width {shape['hidden_size']},"
        f" {shape['num_attention_heads']} query and {shape['num_key_value_heads']} key/value heads,"
        f" SwiGLU {shape['intermediate_size']}, {'tied' if shape['tie_word_embeddings'] else 'untied'} embeddings |"
    )
    yield (
        f"| parameters | {facts['parameters'] / million:.1f}M"
        f" ({facts['parameters_without_embeddings'] / million:.1f}M without embeddings) |"
    )
    yield (
        f"| weights | bfloat16 safetensors, {facts['weights_bytes'] / million:.1f} MB,"
        f" SHA-256 `{facts['weights_sha256']}` |"
    )
    yield f"| vocabulary | {shape['vocab_size']:,} tokens, byte-level |"
    yield f"| context | {shape['max_position_embeddings']:,} tokens |"
    yield f"| began from | {facts['run']['from']} |"
    yield f"| tokens seen | {training['tokens']:,} in {training['steps']:,} steps |"
    if training["share_of_budget"] < 1:
        yield f"| unfinished | {training['share_of_budget']:.0%} of its budget; the learning rate hadn't come down |"
    yield f"| seed | {facts['run']['recipe']['seed']} (training), {facts['data']['seed']} (data) |"


def figures(evaluations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Paragraphs and tables."""
    if not evaluations:
        yield "None yet: `homespun pretrain evaluate` measures it on the files that were held out, and adds them here."
    for evaluation in evaluations:
        yield f"In {evaluation['dtype']}, {evaluation['files']}, {evaluation['date']}."
        yield "\n".join(_bits(evaluation["bits_per_byte"]))
        if evaluation.get("lines"):
            yield "\n".join(_lines(evaluation["lines"]))
        if evaluation.get("infilling"):
            yield "\n".join(_infilling(evaluation["infilling"]))


def _before(run: Mapping[str, Any]) -> str:
    """The card of the weights it began from, a level lower."""
    if not run.get("card_of_from"):
        return f"## What it began from\n\n{run['from']} came without a card: what those weights have seen isn't known."
    lines = (f"##{line}" if line.startswith("#") else line for line in run["card_of_from"].strip().splitlines())
    return f"## What it began from\n\nThe card of {run['from']}:\n\n" + "\n".join(lines)


def _bits(by_language: Mapping[str, Any]) -> Iterator[str]:
    yield "| language | files | bits per byte (first 3,500 characters, path given) |"
    yield "|---|---|---|"
    for language, row in by_language.items():
        yield f"| {language} | {row['files']} | {row['bits_per_byte']:.3f} |"


def _lines(lines: Mapping[str, Any]) -> Iterator[str]:
    yield "Rest of a line at the cursor, greedy, prompts as served; in brackets 95 % intervals over files:"
    yield ""
    yield "| | places | exact match | edit similarity | bits per byte |"
    yield "|---|---|---|---|---|"
    for arm, groups in lines["arms"].items():
        for group, row in groups.items():
            yield f"| {arm}, {group} | {_row(row)} |"
    yield f"| gain from snippets | {_row(lines['gain_from_snippets'], '+')} |"


def _infilling(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"{row['source']}, compared with the text (nothing is run):"
    yield ""
    yield "| places | exact match | edit similarity | bits per byte |"
    yield "|---|---|---|---|"
    yield f"| {_row(row)} |"


def _row(row: Mapping[str, Any], sign: str = "") -> str:
    exact, similar, bits = (row[key] for key in ("exact_match", "edit_similarity", "bits_per_byte"))
    return " | ".join(
        [
            str(row["tasks"]),
            spelled(exact, f"{sign}.1%"),
            spelled(similar, f"{sign}.3f"),
            spelled(bits, f"{sign}.3f"),
        ]
    )


def _training(facts: Mapping[str, Any]) -> Iterator[str]:
    run, training = facts["run"], facts["training"]
    rate = training["tokens"] / training["seconds"] if training["seconds"] else 0
    yield f"- {training['seconds']:,} s, {rate:,.0f} tokens/s"
    yield from (f"- on {where}" for where in run["ran_on"])
    yield f"- rows drawn: {', '.join(f'{phase} {count:,}' for phase, count in training['rows'].items())}"
    for name, value in run["recipe"].items():
        yield f"- `{name}`: {value}"


def _curve(training: Mapping[str, Any]) -> Iterator[str]:
    """A dozen points of the curve; all of them stand in pretraining.json."""
    points = training["loss"]
    step = max(1, -(-len(points) // _CURVE_ROWS))
    yield "| tokens | seconds | loss per token |"
    yield "|---|---|---|"
    for tokens, seconds, loss in points[::-1][::step][::-1]:
        yield f"| {tokens:,} | {seconds:,.0f} | {loss:.3f} |"
    looks = training["held_out_loss"]
    for phase in dict.fromkeys(phase for _, phase, _ in looks):
        told = ", ".join(f"{loss:.3f}" for _, p, loss in looks if p == phase)
        yield f"\nOn rows of held-out files, {phase} phase, from first to last look: {told}."


def _data(data: Mapping[str, Any]) -> Iterator[str]:
    made = {name: data[name] for name in ("passes", "snippets", "held_out_share", "tokenizer")}
    yield "- made with " + ", ".join(f"`{name}`: {value}" for name, value in made.items() if value is not None)
    for part, row in data["parts"].items():
        kinds = ", ".join(f"{kind} {tokens:,}" for kind, tokens in row["kinds"].items())
        yield f"- {part}: {row['tokens']:,} tokens in {row['rows']:,} rows of {row['row_tokens']:,} ({kinds})"
    yield ""
    yield "| repository | commit | licence | files | held out | copies left out | kB |"
    yield "|---|---|---|---|---|---|---|"
    for name, row in data["repositories"].items():
        size = sum(row["bytes"].values()) / 1000
        yield (
            f"| {name} | {row['commit']} | {row['licence']} | {row['files']} | {row['held_out']} | {row['copies']}"
            f" | {size:,.0f} |"
        )
    if data["refused"]:
        yield "\nRefused: " + "; ".join(data["refused"].values())
    if data["missing"]:
        yield f"\nOn the list, not at hand: {len(data['missing'])} repositories."
