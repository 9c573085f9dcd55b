"""Clients that know nothing of Homespun, against the real server: each gets the line the company always writes."""

from __future__ import annotations

from collections.abc import Iterator

import huggingface_hub.constants
import mistralai.client
import ollama
import openai
import pytest

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
