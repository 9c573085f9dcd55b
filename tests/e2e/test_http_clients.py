"""Clients that know nothing of Homespun, against the real server: each gets the line the company always writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import mistralai.client
import ollama
import openai
import pytest
from lsprotocol import types

from tests.e2e.clients import node
from tests.e2e.clients.continue_core import completed
from tests.e2e.clients.llama_vim import llama_vim
from tests.e2e.clients.tabby_agent import PROJECT, tabby_agent, tabby_lines
from tests.e2e.served import EXPECTED, PREFIX, SUFFIX, Served, served

pytestmark = pytest.mark.e2e

TEMPLATED = f"<fim_prefix>{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served")) as running:
        yield running


class TestOpenAI:
    @pytest.fixture
    def client(self, server: Served) -> Iterator[openai.OpenAI]:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused") as client:
            yield client

    def test_completions_and_models(self, client: openai.OpenAI, server: Served) -> None:
        made = client.completions.create(model=server.model, prompt=PREFIX, suffix=SUFFIX, max_tokens=48, logprobs=2)
        (choice,) = made.choices
        assert choice.text == EXPECTED and choice.finish_reason == "stop"
        assert choice.logprobs and "".join(choice.logprobs.tokens or []) == EXPECTED
        assert made.usage and made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens
        assert [model.id for model in client.models.list()] == [server.model]
        assert client.models.retrieve(server.model).id == server.model

    def test_a_stream(self, client: openai.OpenAI, server: Served) -> None:
        options: openai.types.chat.ChatCompletionStreamOptionsParam = {"include_usage": True}
        with client.completions.create(
            model=server.model, prompt=TEMPLATED, max_tokens=48, stream=True, stream_options=options
        ) as stream:
            *chunks, last = list(stream)
        assert "".join(chunk.choices[0].text for chunk in chunks) == EXPECTED
        assert last.usage and last.usage.completion_tokens > 0

    def test_errors_are_recognised(self, client: openai.OpenAI, server: Served) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(model=server.model, prompt="x", temperature=7)
        assert refused.value.param == "temperature" and refused.value.code == "invalid_value"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("another")


class TestMistral:
    def test_fill_in_the_middle(self, server: Served) -> None:
        with mistralai.client.Mistral(api_key="unused", server_url=server.url) as client:
            made = client.fim.complete(model="codestral-latest", prompt=PREFIX, suffix=SUFFIX, max_tokens=48)
            assert made.choices and made.choices[0].message and made.choices[0].message.content == EXPECTED
            with client.fim.stream(model="codestral-latest", prompt=PREFIX, suffix=SUFFIX) as stream:
                deltas = [event.data.choices[0].delta.content for event in stream]
        assert "".join(str(delta) for delta in deltas) == EXPECTED


class TestOllama:
    @pytest.fixture
    def client(self, server: Served) -> Iterator[ollama.Client]:
        with ollama.Client(host=server.url) as client:
            yield client

    def test_generate(self, client: ollama.Client) -> None:
        made = client.generate("qwen2.5-coder", prompt=PREFIX, suffix=SUFFIX, options={"num_predict": 48})
        assert made.response == EXPECTED and made.done and made.done_reason == "stop" and made.eval_count
        parts = list(client.generate("qwen2.5-coder", prompt=TEMPLATED, raw=True, stream=True))
        assert "".join(part.response or "" for part in parts) == EXPECTED and parts[-1].done

    def test_models_and_errors(self, client: ollama.Client, server: Served) -> None:
        assert [model.model for model in client.list().models] == [server.model]
        shown = client.show("anything")
        assert ".Suffix" in (shown.template or "") and "insert" in (shown.capabilities or [])
        assert [model.model for model in client.ps().models] == [server.model]
        with pytest.raises(ollama.ResponseError) as refused:
            client.generate("m", prompt="x", options={"temperature": 9})
        assert refused.value.error == "options.temperature must be a number from 0 to 2"


class TestHuggingFace:
    @pytest.fixture
    def client(self, server: Served, monkeypatch: pytest.MonkeyPatch) -> huggingface_hub.InferenceClient:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # it would refuse this server too
        return huggingface_hub.InferenceClient(model=server.url, token="unused")

    def test_text_generation(self, client: huggingface_hub.InferenceClient) -> None:
        assert client.text_generation(TEMPLATED, max_new_tokens=48) == EXPECTED
        detailed = client.text_generation(TEMPLATED, max_new_tokens=48, details=True)
        assert detailed.details and "".join(token.text for token in detailed.details.tokens) == EXPECTED
        assert detailed.details.finish_reason == "eos_token"

    def test_a_stream(self, client: huggingface_hub.InferenceClient) -> None:
        assert "".join(client.text_generation(TEMPLATED, max_new_tokens=48, stream=True)) == EXPECTED


class TestJavaScript:
    def test_openai(self, server: Served) -> None:
        folder = node.installed(PROJECT)
        script = shutil.copy(PROJECT / "openai.mjs", folder)
        words = [str(node.NODE), script, server.url, PREFIX, SUFFIX]
        done = subprocess.run(words, env=dict(node.environ()), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["text"] == said["streamed"] == "".join(said["tokens"]) == EXPECTED
        assert said["models"] == [server.model]
        assert (said["status"], said["param"], said["code"]) == (400, "temperature", "invalid_value")

    def test_continue(self, server: Served, tmp_path: Path) -> None:
        """With Qwen's template, Codestral's protocol, Ollama's, and StarCoder's template for llama.cpp."""
        said = completed(server.url, PREFIX, SUFFIX, tmp_path)
        assert said == dict.fromkeys(("openai", "mistral", "ollama", "llama.cpp"), EXPECTED)

    async def test_tabby_agent(self, server: Served, tmp_path: Path) -> None:
        async with tabby_agent(server.url, tmp_path) as agent:
            (item,) = await agent.complete(tmp_path / "invoices.py", PREFIX)
            assert isinstance(item.text_edit, types.TextEdit) and item.text_edit.new_text == EXPECTED

    async def test_tabby_agent_tells_what_became_of_it(self, server: Served, tmp_path: Path) -> None:
        place = {"filepath": str(tmp_path / "a.py"), "language": "python", "text": PREFIX, "position": len(PREFIX)}
        async with tabby_lines(server.url, tmp_path) as agent:
            made = await agent.call("provideCompletions", place | {"manually": True})
            assert made["choices"][0]["text"] == EXPECTED
            for kind in ("view", "select"):
                assert await agent.call("postEvent", {"type": kind, "completion_id": made["id"], "choice_index": 0})
        assert 'kind="accepted"} 1.0' in counted(server, "homespun_events_total")
        assert 'kind="shown"} 1.0' in counted(server, "homespun_events_total")


class TestLlamaVim:
    def test_ghost_text_is_shown_and_accepted(self, server: Served, tmp_path: Path) -> None:
        file = tmp_path / "invoices.py"
        file.write_text(PREFIX + "\n")
        with llama_vim(server.url, file) as editor:
            editor.type("GA")
            editor.wait_for_ghost(EXPECTED)
            editor.type("<Tab>")
            editor.wait_for_text(PREFIX + EXPECTED)


def counted(server: Served, metric: str) -> str:
    """The lines of a metric."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as page:
        return "\n".join(line for line in page.read().decode().splitlines() if line.startswith(metric))


class TestRecorded:
    """Requests of clients that no registry has, as their sources make them."""

    def test_tabbys_load_script(self, server: Served) -> None:
        """Its `tests/default.loadtest.js` for k6: eight users with this body, and no answer may be an error."""
        segments = {"prefix": "def binarySearch(arr, left, right, x):\n    mid = (left +"}
        with ThreadPoolExecutor(8) as users:
            body = {"language": "python", "segments": segments}
            said = list(users.map(lambda _: asked(server, "/v1/completions", body), range(24)))
        assert len({one["choices"][0]["text"] for one in said if "homespun" not in one}) == 1

    def test_zed(self, server: Served) -> None:
        prompt = f"<|fim_prefix|>{PREFIX}<|fim_suffix|>{SUFFIX}<|fim_middle|>"
        body = {"model": "m", "prompt": prompt, "max_tokens": 64, "temperature": 0.2, "stop": ["<|endoftext|>"]}
        said = asked(server, "/v1/completions", body | {"seed": 1})
        assert said["id"] and isinstance(said["choices"][0]["text"], str)

    def test_twinny(self, server: Served) -> None:
        """Sends Ollama's options to whatever it asks."""
        prompt = f"<PRE> {PREFIX} <SUF>{SUFFIX} <MID>"
        options = {"temperature": 0.0, "num_predict": 512}
        body = {"model": "codellama:7b-code", "prompt": prompt, "stream": False, "options": options, "keep_alive": "5m"}
        assert asked(server, "/api/generate", body)["response"] == EXPECTED
        assert asked(server, "/v1/completions", body)["choices"][0]["text"] == EXPECTED

    def test_minuet(self, server: Served) -> None:
        body = {"model": "m", "prompt": PREFIX, "suffix": SUFFIX, "stream": True, "n": 1, "max_tokens": 128}
        request = urllib.request.Request(
            f"{server.url}/v1/fim/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            events = [line.removeprefix("data: ") for line in response.read().decode().splitlines() if line]
        deltas = [json.loads(event)["choices"][0]["delta"]["content"] for event in events if event != "[DONE]"]
        assert "".join(deltas) == EXPECTED and events[-1] == "[DONE]"

    def test_llama_vscode(self, server: Served) -> None:
        *above, line = PREFIX.split("\n")
        body: dict[str, Any] = {
            "id_slot": 0,
            "input_prefix": "\n".join(above) + "\n",
            "input_suffix": SUFFIX,
            "input_extra": [{"text": "def helper(): ...", "time": 1, "filename": "helper.py"}],
            "prompt": line,
            "n_predict": 128,
            "n_cmpl": 3,
            "top_k": 40,
            "top_p": 0.99,
            "stream": False,
            "samplers": ["top_k", "top_p", "infill"],
            "cache_prompt": True,
            "t_max_prompt_ms": 500,
            "t_max_predict_ms": 2500,
        }
        said = asked(server, "/infill", body)
        assert [one["content"] for one in said] == [EXPECTED] * 3


def asked(server: Served, path: str, body: Any) -> Any:
    headers = {"Content-Type": "application/json", "Authorization": "Bearer unused"}
    request = urllib.request.Request(f"{server.url}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)
