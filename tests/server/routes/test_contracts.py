"""Each dialect over HTTP, on the built-in model: what its clients send, and the fields that they read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx
import pytest

from homespun_core.config import Settings
from homespun_core.types import ModelFiles
from tests.server.test_http import Started

PREFIX, SUFFIX = "def add(a, b):\n    return", "\n\n\ndef sub(a, b):\n    return a - b\n"


@pytest.fixture(scope="module")
def started(builtin: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    settings = Settings(data_dir=str(tmp_path_factory.mktemp("data")), completion_deadline_ms=60_000, max_new_tokens=12)
    made = Started(settings, builtin)
    assert made.loaded.wait(60)
    yield made
    made.runtime.close()


async def post(started: Started, path: str, body: Any) -> httpx.Response:
    async with started.client() as client:
        return await client.post(path, json=body)


async def reply(started: Started, path: str, body: Any) -> Any:
    response = await post(started, path, body)
    assert response.status_code == 200, response.text
    return response.json()


def events(response: httpx.Response) -> list[Any]:
    assert response.status_code == 200 and response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def wanted(started: Started) -> str:
    """What every dialect should answer at the same place."""
    text = (await reply(started, "/v1/completions", {"prompt": PREFIX, "suffix": SUFFIX}))["choices"][0]["text"]
    assert text
    return str(text)


class TestOpenAI:
    async def test_logprobs_are_those_of_the_text(self, started: Started) -> None:
        body = {"prompt": PREFIX, "suffix": SUFFIX, "logprobs": 3}
        choice = (await reply(started, "/v1/completions", body))["choices"][0]
        told = choice["logprobs"]
        assert "".join(told["tokens"]) == choice["text"] == await wanted(started)
        assert all(x <= 0 for x in told["token_logprobs"])
        assert [choice["text"][a:][: len(t)] for a, t in zip(told["text_offset"], told["tokens"], strict=True)] == (
            told["tokens"]
        )
        last = told["top_logprobs"][-1]  # the first ones spell the typed word again, and were not free
        assert 3 <= len(last) <= 4 and last[told["tokens"][-1]] == told["token_logprobs"][-1] == max(last.values())

    async def test_choices_are_the_same_greedily_and_differ_by_chance(self, started: Started) -> None:
        body = {"prompt": "x = ", "n": 3, "homespun": {"raw": True}}
        greedy = await reply(started, "/v1/completions", body)
        assert [c["index"] for c in greedy["choices"]] == [0, 1, 2]
        assert len({c["text"] for c in greedy["choices"]}) == 1
        drawn = [await reply(started, "/v1/completions", body | {"temperature": 1.5, "seed": 5}) for _ in range(2)]
        assert drawn[0]["choices"] == drawn[1]["choices"]
        assert len({c["text"] for c in drawn[0]["choices"]}) == 3
        assert drawn[0]["usage"]["completion_tokens"] > greedy["usage"]["completion_tokens"] / 3

    async def test_a_stream_of_several_choices_says_what_the_whole_reply_says(self, started: Started) -> None:
        body = {"prompt": "x = ", "n": 2, "temperature": 1.5, "seed": 5, "logprobs": 0, "echo": False}
        whole = await reply(started, "/v1/completions", body)
        options = {"stream": True, "stream_options": {"include_usage": True}}
        *chunks, usage, done = events(await post(started, "/v1/completions", body | options))
        for choice in whole["choices"]:
            own = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == choice["index"]]
            assert "".join(c["text"] for c in own) == choice["text"]
            assert own[-1]["finish_reason"] == choice["finish_reason"]
            assert [c["logprobs"] for c in own if c["text"]] in ([choice["logprobs"]], [])
        assert done == "[DONE]" and usage["usage"]["total_tokens"] == whole["usage"]["total_tokens"]

    async def test_a_stream_tells_tokens_with_their_text_as_it_is_decoded(self, started: Started) -> None:
        body = {"prompt": "x = ", "logprobs": 2, "homespun": {"raw": True}}
        whole = (await reply(started, "/v1/completions", body))["choices"][0]
        *chunks, _ = events(await post(started, "/v1/completions", body | {"stream": True}))
        parts = [c["choices"][0] for c in chunks if c["choices"][0]["text"]]
        assert len(parts) > 3
        assert all("".join(part["logprobs"]["tokens"]) == part["text"] for part in parts)
        for name, value in whole["logprobs"].items():
            assert [one for part in parts for one in part["logprobs"][name]] == value, name

    async def test_several_prompts_are_answered_each_for_itself(self, started: Started) -> None:
        prompts = ["def add(a, b):\n    return ", "x = ", "class Shop:\n"]
        alone = [(await reply(started, "/v1/completions", {"prompt": p, "echo": True})) for p in prompts]
        together = {"prompt": prompts, "n": 2, "echo": True}
        whole = await reply(started, "/v1/completions", together)
        texts = [reply["choices"][0]["text"] for reply in alone]
        assert [(c["index"], c["text"]) for c in whole["choices"]] == [(n, texts[n // 2]) for n in range(6)]
        assert whole["usage"]["prompt_tokens"] == sum(reply["usage"]["prompt_tokens"] for reply in alone)
        *chunks, done = events(await post(started, "/v1/completions", together | {"stream": True}))
        told = dict.fromkeys(range(6), "")
        for chunk in chunks:
            told[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
        assert list(told.values()) == [texts[n // 2] for n in range(6)] and done == "[DONE]"

    async def test_a_nucleus_of_one_token_is_the_greedy_text(self, started: Started) -> None:
        body = {"prompt": "x = ", "homespun": {"raw": True}}
        greedy = (await reply(started, "/v1/completions", body))["choices"][0]["text"]
        for narrow in ({"top_p": 0.0}, {"top_p": 1e-9}):
            drawn = await reply(started, "/v1/completions", body | narrow | {"temperature": 2.0, "seed": 3})
            assert drawn["choices"][0]["text"] == greedy
        wide = await reply(started, "/v1/completions", body | {"temperature": 2.0, "seed": 3})
        assert wide["choices"][0]["text"] != greedy

    async def test_deepseek_and_engines_are_the_same(self, started: Started) -> None:
        for path in ("/beta/completions", "/v1/engines/codegen/completions"):
            got = await reply(started, path, {"model": "m", "prompt": PREFIX, "suffix": SUFFIX})
            assert got["choices"][0]["text"] == await wanted(started) and got["model"] == "m"

    async def test_a_model_is_found_by_its_id(self, started: Started) -> None:
        async with started.client() as client:
            (card,) = (await client.get("/v1/models")).json()["data"]
            assert (await client.get(f"/v1/models/{card['id']}")).json() == card
            missing = await client.get("/v1/models/other/model")
        assert missing.status_code == 404 and missing.json()["error"]["code"] == "not_found"


class TestTemplates:
    @pytest.mark.parametrize(
        "template",
        [
            "<|fim_prefix|>{p}<|fim_suffix|>{s}<|fim_middle|>",
            "<PRE> {p} <SUF>{s} <MID>",
            "[SUFFIX]{s}[PREFIX]{p}",
        ],
    )
    async def test_a_prompt_for_another_model_completes_the_same_place(self, started: Started, template: str) -> None:
        prompt = template.format(p=PREFIX, s=SUFFIX)
        text = await wanted(started)
        assert (await reply(started, "/v1/completions", {"prompt": prompt}))["choices"][0]["text"] == text
        assert (await reply(started, "/completion", {"prompt": prompt}))["content"] == text
        assert (await reply(started, "/generate", {"inputs": prompt}))["generated_text"] == text
        generate = {"prompt": prompt, "raw": True, "stream": False}
        assert (await reply(started, "/api/generate", generate))["response"] == text


class TestMistral:
    BODY: ClassVar[dict[str, Any]] = {
        "model": "codestral-latest",
        "prompt": PREFIX,
        "suffix": SUFFIX,
        "random_seed": 1,
        "min_tokens": 0,
    }

    async def test_a_reply_is_a_message(self, started: Started) -> None:
        got = await reply(started, "/v1/fim/completions", self.BODY)
        (choice,) = got["choices"]
        assert choice["message"]["role"] == "assistant" and choice["message"]["content"] == await wanted(started)
        assert got["object"] == "chat.completion" and got["usage"]["total_tokens"] > 0
        assert choice["finish_reason"] in ("stop", "length")

    async def test_a_stream_has_deltas(self, started: Started) -> None:
        *chunks, done = events(await post(started, "/v1/fim/completions", self.BODY | {"stream": True}))
        assert done == "[DONE]"
        text = "".join(c["choices"][0]["delta"]["content"] for c in chunks)
        assert text == await wanted(started) and chunks[-1]["usage"]["completion_tokens"] > 0

    async def test_an_error_has_a_message_and_detail(self, started: Started) -> None:
        response = await post(started, "/v1/fim/completions", {"prompt": 7})
        error = response.json()
        assert response.status_code == 400 and error["object"] == "error"
        assert error["message"] == error["detail"] == "prompt must be a text"


class TestLlamaCpp:
    BODY: ClassVar[dict[str, Any]] = {
        "id_slot": 0,
        "input_prefix": "def add(a, b):\n",
        "input_suffix": SUFFIX,
        "input_extra": [{"filename": "util.py", "text": "def mul(a, b):\n    return a * b\n"}],
        "prompt": "    return",
        "n_predict": 12,
        "n_indent": 0,
        "top_k": 40,
        "top_p": 0.9,
        "samplers": ["top_k", "top_p", "infill"],
        "stream": False,
        "cache_prompt": True,
        "t_max_prompt_ms": 500,
        "t_max_predict_ms": 1000,
    }

    async def test_the_cursors_line_stands_in_the_prompt(self, started: Started) -> None:
        got = await reply(started, "/infill", self.BODY | {"input_extra": []})
        assert got["content"] == await wanted(started) and got["stop"] is True and got["truncated"] is False
        timings = got["timings"]
        assert timings["prompt_n"] + timings["cache_n"] == got["tokens_evaluated"]
        assert timings["predicted_n"] == got["tokens_predicted"] > 0 and timings["predicted_per_second"] > 0
        assert got["generation_settings"]["n_predict"] == 12

    async def test_extras_go_into_the_prompt(self, started: Started) -> None:
        plain = await reply(started, "/infill", self.BODY | {"input_extra": []})
        got = await reply(started, "/infill", self.BODY)
        assert got["tokens_evaluated"] > plain["tokens_evaluated"] + 10

    async def test_only_the_fields_asked_for_come_back(self, started: Started) -> None:
        fields = ["content", "timings/prompt_n", "timings/nothing", "truncated", "generation_settings/n_predict"]
        got = await reply(started, "/infill", self.BODY | {"response_fields": fields})
        assert got.keys() == {"content", "timings/prompt_n", "truncated", "generation_settings/n_predict"}

    async def test_it_says_what_ended_it(self, started: Started) -> None:
        body = self.BODY | {"input_extra": [], "n_predict": 1}
        limited = await reply(started, "/infill", body)
        assert (limited["stop_type"], limited["stopping_word"]) == ("limit", "")
        word = (await wanted(started))[2:4]
        for stream in (False, True):
            response = await post(started, "/infill", self.BODY | {"input_extra": [], "stop": [word], "stream": stream})
            last = events(response)[-1] if stream else response.json()
            assert (last["stop_type"], last["stopping_word"]) == ("word", word)

    async def test_several_completions_are_a_list(self, started: Started) -> None:
        got = await reply(started, "/infill", self.BODY | {"n_cmpl": 3, "temperature": 1.0, "seed": 3})
        assert [one["index"] for one in got] == [0, 1, 2] and all("content" in one for one in got)
        assert isinstance(await reply(started, "/infill", self.BODY | {"n_cmpl": 1}), dict)

    async def test_a_warm_up_prepares_and_writes_nothing(self, started: Started) -> None:
        place = {"input_prefix": "class Warm:\n" * 20, "prompt": ""}
        warm = {"n_predict": 0, "t_max_predict_ms": 1, "samplers": [], "response_fields": [""]}
        assert await reply(started, "/infill", self.BODY | place | warm) == {}
        got = await reply(started, "/infill", self.BODY | place)
        assert got["timings"]["cache_n"] > 20 and got["content"] is not None

    async def test_a_stream_ends_with_stop_and_no_done(self, started: Started) -> None:
        *parts, last = events(await post(started, "/infill", self.BODY | {"stream": True, "input_extra": []}))
        assert "".join(part["content"] for part in parts) == await wanted(started)
        assert all(part["stop"] is False for part in parts) and last["stop"] is True and last["content"] == ""
        assert last["timings"]["predicted_n"] > 0

    async def test_an_error_has_code_message_and_type(self, started: Started) -> None:
        response = await post(started, "/infill", {"input_prefix": "a"})
        assert response.status_code == 400
        message = "input_suffix is required"
        assert response.json() == {"error": {"code": 400, "message": message, "type": "invalid_request_error"}}

    async def test_what_it_says_about_itself(self, started: Started) -> None:
        async with started.client() as client:
            assert (await client.get("/health")).json() == {"status": "ok"}
            props = (await client.get("/props")).json()
            slots = (await client.get("/slots")).json()
        assert props["default_generation_settings"]["n_ctx"] > 1000 and props["total_slots"] == len(slots)


class TestOllama:
    BODY: ClassVar[dict[str, Any]] = {
        "model": "qwen2.5-coder:7b",
        "prompt": PREFIX,
        "suffix": SUFFIX,
        "keep_alive": 1800,
        "options": {"num_predict": 12, "temperature": 0.0, "num_ctx": 4096, "stop": ["\n\n\n\n"]},
    }

    async def test_lines_unless_told_otherwise(self, started: Started) -> None:
        response = await post(started, "/api/generate", self.BODY)
        assert response.headers["content-type"] == "application/x-ndjson"
        *parts, last = [json.loads(line) for line in response.text.splitlines()]
        assert "".join(part["response"] for part in parts) == await wanted(started)
        assert not any(part["done"] for part in parts) and last["done"] and last["done_reason"] in ("stop", "length")
        assert last["eval_count"] > 0 and last["prompt_eval_count"] > 0 and last["total_duration"] > 0
        whole = await reply(started, "/api/generate", self.BODY | {"stream": False})
        assert whole["response"] == await wanted(started) and whole["model"] == "qwen2.5-coder:7b"

    async def test_without_a_prompt_the_model_is_only_loaded(self, started: Started) -> None:
        got = await reply(started, "/api/generate", {"model": "m", "stream": False})
        assert (got["response"], got["done"], got["done_reason"]) == ("", True, "load")

    async def test_an_error_is_a_text(self, started: Started) -> None:
        response = await post(started, "/api/generate", {"model": "m", "prompt": "x", "options": {"temperature": 9}})
        assert response.status_code == 400
        assert response.json() == {"error": "options.temperature must be a number from 0 to 2"}

    async def test_what_it_says_about_itself(self, started: Started) -> None:
        async with started.client() as client:
            (tag,) = (await client.get("/api/tags")).json()["models"]
            show = (await client.post("/api/show", json={"model": "any"})).json()
            version = (await client.get("/api/version")).json()["version"]
            (running,) = (await client.get("/api/ps")).json()["models"]
        assert tag["name"] == running["name"] == "homespun" and tag["size"] > 1_000_000 and len(tag["digest"]) == 64
        assert ".Suffix" in show["template"] and "insert" in show["capabilities"]
        assert tuple(map(int, version.split("."))) >= (0, 6, 4)


class TestTgi:
    BODY: ClassVar[dict[str, Any]] = {
        "inputs": f"<fim_prefix>{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>",
        "parameters": {"max_new_tokens": 12, "do_sample": False, "return_full_text": False, "stop": ["<|endoftext|>"]},
    }

    async def test_generate(self, started: Started) -> None:
        assert await reply(started, "/generate", self.BODY) == {"generated_text": await wanted(started)}
        full = self.BODY | {"parameters": {"return_full_text": True, "max_new_tokens": 12}}
        assert (await reply(started, "/", full)) == [{"generated_text": self.BODY["inputs"] + await wanted(started)}]

    async def test_details_tell_every_token(self, started: Started) -> None:
        parameters = {"details": True, "max_new_tokens": 12}
        got = await reply(started, "/generate", self.BODY | {"parameters": parameters})
        tokens = got["details"]["tokens"]
        assert "".join(t["text"] for t in tokens) == got["generated_text"] and all(t["logprob"] <= 0 for t in tokens)
        assert got["details"]["finish_reason"] in ("length", "eos_token")
        stopped = self.BODY | {"parameters": parameters | {"stop": [(await wanted(started))[2:4]]}}
        assert (await reply(started, "/generate", stopped))["details"]["finish_reason"] == "stop_sequence"

    @pytest.mark.parametrize("path", ["/generate_stream", "/"])
    async def test_a_stream_tells_token_by_token(self, started: Started, path: str) -> None:
        *parts, last = events(await post(started, path, self.BODY | {"stream": True}))
        assert "".join(part["token"]["text"] for part in parts) == await wanted(started) == last["generated_text"]
        assert len(parts) > 1 and all(part["generated_text"] is None for part in parts)
        assert last["token"]["special"] and last["details"]["input_length"] > 0

    async def test_an_error_has_its_type(self, started: Started) -> None:
        response = await post(started, "/generate", {"inputs": "x", "parameters": {"best_of": 2}})
        error = response.json()
        assert response.status_code == 400 and error["error_type"] == "validation" and "best_of" in error["error"]

    async def test_info(self, started: Started) -> None:
        async with started.client() as client:
            info = (await client.get("/info")).json()
        assert info["model_id"] == "homespun" and 0 < info["max_input_length"] < info["max_total_tokens"]


class TestTabby:
    SEGMENTS: ClassVar[dict[str, Any]] = {
        "prefix": PREFIX,
        "suffix": SUFFIX,
        "filepath": "math.py",
        "git_url": "https://git.example.com/a.git",
        "declarations": [{"filepath": "util.py", "body": "def mul(a, b):\n    return a * b\n"}],
        "relevant_snippets_from_changed_files": [{"filepath": "b.py", "body": "b = 1", "score": 0.5}],
        "relevant_snippets_from_recently_opened_files": [],
        "clipboard": "c",
    }

    async def test_what_the_editor_gathered_comes_into_the_prompt(self, started: Started) -> None:
        body = {"language": "python", "segments": self.SEGMENTS, "debug_options": {"return_snippets": True}}
        got = await reply(started, "/v1/completions", body)
        assert got["id"].startswith("cmpl-") and isinstance(got["choices"][0]["text"], str)
        assert {s["filepath"] for s in got["debug_data"]["snippets"]} == {"util.py", "b.py"}

    async def test_health_by_either_method(self, started: Started) -> None:
        async with started.client() as client:
            health = (await client.get("/v1/health")).json()
            assert (await client.post("/v1/health")).json() == health
            setting = (await client.get("/v1beta/server_setting")).json()
            models = (await client.get("/v1beta/models")).json()
        required = {"device", "arch", "cpu_info", "cpu_count", "cuda_devices", "version"}
        assert required <= health.keys() and health["model"] == "homespun" == models["completion"][0]
        assert health["version"].keys() == {"build_date", "build_timestamp", "git_sha", "git_describe"}
        assert setting == {"disable_client_side_telemetry": True}
