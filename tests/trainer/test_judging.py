from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from homespun_core.prompt import Prompt
from homespun_core.types import EvalTask, ModelFiles, SilentProgress
from homespun_trainer.evaluate import Generate, Lookup, LookupBesides, Mixing, ScoreIds, Written
from homespun_trainer.judging import CANDIDATE, _arms, scores_of
from tests.trainer.test_pipeline import corpus, make_job
from tests.trainer.tiny import TOKENIZER


class Hearing:
    """Writes what was voiced where anything was, and keeps the files that it was told to leave out."""

    def __init__(self) -> None:
        self.left_out: list[str] = []

    def load_adapter(self, version: str, path: Path) -> None: ...

    def generate(self, prompt: Prompt, max_new_tokens: int, end_ids: frozenset[int], adapter: str | None) -> Written:
        return Written(ids=TOKENIZER.encode("silence"), is_truncated=False)

    def score(self, ids: Sequence[int], start: int, adapter: str | None) -> Sequence[float]:
        return [-1.0] * (len(ids) - start)

    def mixing(self, lookup: LookupBesides, end_ids: frozenset[int]) -> Mixing:
        def besides(task: EvalTask, opening: str) -> tuple[Generate, ScoreIds]:
            self.left_out.append(task.path)
            heard = [*lookup(task)([1])[1]]
            return lambda *_: Written(ids=heard, is_truncated=False), self.score

        return besides


def everywhere(task: EvalTask) -> Lookup:
    return lambda ids: (4, dict.fromkeys(TOKENIZER.encode("voice"), 1))


def test_an_adapter_is_judged_with_the_voice_that_people_hear_and_without_where_they_hear_none(tmp_path: Path) -> None:
    files = ModelFiles(name="tiny", path=str(tmp_path), family="homespun", digest="d", config={"vocab_size": 260})
    job, engine = make_job(files, tmp_path, corpus(num_tasks=2)), Hearing()
    for lookup, expected in ((everywhere, "voice"), (None, "silence")):
        part = replace(job.parts[0], corpus=replace(job.parts[0].corpus, lookup=lookup))
        found = scores_of(replace(job, parts=(part,)), _arms(engine, tmp_path, None), engine, SilentProgress())
        texts = {name: {score.text for score in scores if score is not None} for name, scores in found.items()}
        assert texts["base"] == texts["adapter"] == {"silence"}
        assert texts["base+retrieval"] == texts["adapter+retrieval"] == {expected}
    assert set(engine.left_out) == {"new0.py", "new1.py"} and CANDIDATE
