"""What stock servers are sent, and what is understood of their replies: shapes as their documentation has them."""

from typing import Any

import pytest

from homespun_core.fim import FAMILIES
from homespun_lsp.backends import BACKENDS, Recognised, is_tabby, recognise
from homespun_lsp.backends.exchange import Ask, Call
from homespun_lsp.backends.templates import family_named, family_of_model, fill_in, stops
from homespun_lsp.context import Query
from tests.lsp.editor import editor
from tests.lsp.fake_server import FakeServer

QUERY = Query(
    prefix="def f():\n    x = ", suffix="\n", path="src/a.py", language="python", repo="https://g.example/t/p"
)


def ask(**changes: Any) -> Ask:
    return Ask(**{"query": QUERY, "max_tokens": 7, "client": "c", **changes})


def call(backend: str, **changes: Any) -> Call:
    return BACKENDS[backend].call(ask(**changes))


CHOICES = {"id": "cmpl-1", "choices": [{"index": 0, "text": "1", "finish_reason": "length"}]}
REPLIES: dict[str, object] = {
    "homespun": CHOICES,
    "openai": CHOICES,
    "deepseek": CHOICES,
    "tabby": CHOICES,
    "mistral": {"choices": [{"message": {"role": "assistant", "content": "1"}, "finish_reason": "length"}]},
    "llama.cpp": {"content": "1", "stop_type": "limit", "tokens_cached": 3},
    "ollama": {"model": "m", "response": "1", "done": True, "done_reason": "length"},
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_reply_of_every_kind_of_server_is_understood(backend: str) -> None:
    answer = BACKENDS[backend].answer(REPLIES[backend])
    assert answer.text == "1"
    assert answer.is_truncated == (backend not in ("homespun", "tabby"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "body", [None, [], "text", {}, {"choices": []}, {"choices": "?"}, {"choices": [{"text": None}]}, {"content": 1}]
)
def test_anything_else_is_refused(backend: str, body: object) -> None:
    with pytest.raises((LookupError, TypeError)):
        BACKENDS[backend].answer(body)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "homespun"])
def test_stock_servers_are_not_told_who_asks(backend: str) -> None:
    asked = call(backend, user="u5er", client="cl1ent")
    body = asked.body
    assert "homespun" not in body and not asked.headers
    assert not {"u5er", "cl1ent"} & set(map(str, body.values()))


def test_only_tabby_and_homespun_are_told_of_the_file() -> None:
    told = {name for name in BACKENDS if "src/a.py" in str(call(name).body)}
    assert told == {"homespun", "tabby"}


@pytest.mark.parametrize(
    ("backend", "path"),
    [
        ("openai", "/v1/completions"),
        ("mistral", "/v1/fim/completions"),
        ("deepseek", "/beta/completions"),
        ("ollama", "/api/generate"),
    ],
)
def test_these_get_prefix_and_suffix(backend: str, path: str) -> None:
    made = call(backend, model="m")
    assert made.path == path
    assert (made.body["prompt"], made.body["suffix"], made.body["model"]) == (QUERY.prefix, QUERY.suffix, "m")
    assert made.body["stream"] is False


def test_llama_cpp_gets_the_line_before_the_cursor_by_itself() -> None:
    body = call("llama.cpp").body
    assert (body["input_prefix"], body["prompt"], body["input_suffix"]) == ("def f():\n", "    x = ", "\n")
    assert body["n_predict"] == 7


def test_llama_cpp_gets_the_whole_prompt_of_a_model_that_wants_the_suffix_first() -> None:
    """Its `/infill` knows one order, whatever the model learned: the built-in model answered nonsense to it."""
    made = call("llama.cpp", template=family_named("homespun"))
    assert made.path == "/completion"
    assert made.body["prompt"] == f"<|fim_prefix|><|fim_suffix|>\n<|fim_middle|>{QUERY.prefix}"
    assert made.body["stop"] == ["<|endoftext|>"] and made.body["n_predict"] == 7


def test_tabby_gets_segments() -> None:
    segments = {"prefix": QUERY.prefix, "suffix": "\n", "filepath": "src/a.py", "git_url": "https://g.example/t/p"}
    assert call("tabby").body["segments"] == segments


def test_a_template_replaces_the_suffix() -> None:
    qwen = family_named("qwen2.5-coder")
    made = call("openai", template=qwen, model="Qwen/Qwen2.5-Coder-7B").body
    assert made["prompt"] == f"<|fim_prefix|>{QUERY.prefix}<|fim_suffix|>\n<|fim_middle|>"
    assert "suffix" not in made and made["stop"] == ["<|endoftext|>"]
    raw = call("ollama", template=qwen).body
    assert raw["raw"] is True and raw["prompt"] == made["prompt"] and "suffix" not in raw


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_template_holds_both_sides_once_and_ends_where_the_middle_begins(family: Any) -> None:
    prompt = fill_in(family, "BEFORE", "AFTER")
    assert prompt.count("BEFORE") == prompt.count("AFTER") == 1
    assert all(stop and stop == stop.strip() for stop in stops(family))


@pytest.mark.parametrize(
    ("family", "prompt"),
    [
        ("deepseek-coder", "<｜fim▁begin｜>A<｜fim▁hole｜>B<｜fim▁end｜>"),
        ("codellama", "<PRE>A <SUF>B <MID>"),
        ("codestral", "[SUFFIX]B[PREFIX]A"),
    ],
)
def test_control_tokens_are_spelled_as_tokenizers_read_them(family: str, prompt: str) -> None:
    """DeepSeek's were sent with spaces in place of ▁, and were no control tokens any more."""
    found = family_named(family)
    assert found and fill_in(found, "A", "B") == prompt


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("homespun-builtin.gguf", "homespun"),
        ("/home/me/homespun/qwen2.5-coder-q8_0.gguf", "qwen2.5-coder"),
        (r"C:\codellama\other.gguf", None),
        ("Qwen/Qwen2.5-Coder-7B", "qwen2.5-coder"),
        ("qwen2.5-coder:1.5b-base", "qwen2.5-coder"),
        ("deepseek-ai/deepseek-coder-6.7b-base", "deepseek-coder"),
        ("bigcode/starcoder2-3b", "starcoder2"),
        ("codellama/CodeLlama-7b-hf", "codellama"),
        ("ibm-granite/granite-4.0-h-tiny", "granite-4"),
        ("ibm-granite/granite-3b-code-base", "granite"),
        ("JetBrains/Mellum-4b-base", "mellum"),
        ("gpt-3.5-turbo-instruct", None),
        ("", None),
    ],
)
def test_the_family_is_known_by_the_models_name(model: str, family: str | None) -> None:
    found = family_of_model(model)
    assert (found and found.name) == family


@pytest.mark.parametrize(
    ("models", "found"),
    [
        ({"object": "list", "data": [{"id": "m", "owned_by": "homespun"}]}, Recognised("homespun", "m")),
        ({"data": [{"id": "q.gguf", "object": "model", "owned_by": "llamacpp"}]}, Recognised("llama.cpp", "q.gguf")),
        ({"data": [{"id": "Qwen/Q", "owned_by": "vllm"}, {"id": "lora"}]}, Recognised("openai", "Qwen/Q")),
        ({"data": [{"id": "q:7b", "owned_by": "library"}]}, Recognised("ollama", "q:7b")),
        ({"data": [{"id": "codestral", "owned_by": "mistralai"}]}, Recognised("mistral", "codestral")),
        ({"data": []}, None),
        ({"detail": "?"}, None),
        (None, None),
    ],
)
def test_servers_are_recognised_by_their_models(models: object, found: Recognised | None) -> None:
    assert recognise(models) == found


def test_tabby_is_recognised_by_its_health() -> None:
    assert is_tabby({"model": "StarCoder-1B", "device": "cpu", "version": {"git_describe": "v0.30"}})
    assert not is_tabby({"alive": True})


async def test_a_stock_server_is_recognised_and_asked_in_its_own_way(fake: FakeServer) -> None:
    """And what it says is post-processed here, since nobody did so there."""
    fake.pages["/v1/models"] = {"data": [{"id": "q.gguf", "owned_by": "llamacpp"}]}
    fake.default = {"content": "1)\n\n\n", "stop_type": "eos"}
    async with editor(serverUrl=fake.url + "/v1", debounceMs=0) as session:
        item = await session.open("f(|)").ghost()
        assert item and item.insert_text == "1"
        await session.accepted(item)
    assert {request.path for request in fake.requests} == {"/infill"}, "nobody is told what became of it"


async def test_vllm_gets_a_prompt_with_its_models_control_tokens(fake: FakeServer) -> None:
    fake.pages["/v1/models"] = {"data": [{"id": "Qwen/Qwen2.5-Coder-0.5B", "owned_by": "vllm"}]}
    async with editor(serverUrl=fake.url, token="k3y", debounceMs=0) as session:
        assert await session.open("x = |").ghost()
    body = fake.requests[0].body
    assert body["model"] == "Qwen/Qwen2.5-Coder-0.5B"
    assert body["prompt"] == "<|fim_prefix|>x = <|fim_suffix|><|fim_middle|>"
    assert fake.requests[0].headers["authorization"] == "Bearer k3y"


async def test_the_users_choice_of_kind_model_and_form_wins(fake: FakeServer) -> None:
    fake.pages["/v1/models"] = {"data": [{"id": "qwen", "owned_by": "vllm"}]}
    options: dict[str, Any] = {"backend": "ollama", "model": "codegemma:2b", "fim": "codegemma", "debounceMs": 0}
    fake.default = {"response": "1", "done": True}
    async with editor(serverUrl=fake.url, **options) as session:
        assert await session.open("x = |").ghost()
    assert fake.requests[0].path == "/api/generate"
    assert (fake.requests[0].body["model"], fake.requests[0].body["raw"]) == ("codegemma:2b", True)
