"""The settings that the documents give for editors."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from homespun_lsp.options import Options, merge

EDITORS = Path(__file__).parents[2] / "lsp/editors"
INITIAL = ("initializationOptions", "initialization_options")


def examples() -> Iterator[object]:
    for text in re.findall(r"```json\n(\{.*?)```", (EDITORS / "README.md").read_text(), re.DOTALL):
        yield json.loads(text)
    yield {INITIAL[0]: json.loads((EDITORS / "jetbrains/initializationOptions.json").read_text())}


def options_in(value: object) -> Iterator[object]:
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield from [inner] if name in INITIAL else options_in(inner)


def test_every_option_in_an_example_is_one() -> None:
    found = [options for example in examples() for options in options_in(example)]
    assert len(found) >= 4
    for options in found:
        assert merge(Options(server_url=""), options)[1] == {}


def test_the_template_for_jetbrains_has_what_its_plugin_reads() -> None:
    """docs/UserDefinedLanguageServerTemplate.md of LSP4IJ."""
    template = json.loads((EDITORS / "jetbrains/template.json").read_text())
    assert set(template) == {"id", "name", "programArgs", "fileTypeMappings"}
    assert set(template["programArgs"]) == {"default", "windows"}
    for mapping in template["fileTypeMappings"]:
        assert mapping["languageId"] and set(mapping["fileType"]) == {"name", "patterns"}
