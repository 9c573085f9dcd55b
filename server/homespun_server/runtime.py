"""The parts of a running server, loaded in the background so that the port answers at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from homespun_core import acceptance, demand, personal
from homespun_core.config import Settings
from homespun_core.errors import ConfigError, HomespunError
from homespun_core.fim import resolve_family
from homespun_core.paths import DataDir
from homespun_core.prompt_versions import PromptVersion
from homespun_core.scopes import ScopeConfig
from homespun_core.types import ModelFiles, Tokenizer
from homespun_indexer import forgotten
from homespun_indexer.tokenizer import load_tokenizer
from homespun_server.access.decisions import Guarded, may
from homespun_server.access.guarding import adapter_groups
from homespun_server.access.lookup import Lookup
from homespun_server.access.principal import Principal
from homespun_server.console import usage
from homespun_server.database.opening import open_database, refuse_damaged
from homespun_server.engine.protocol import Engine
from homespun_server.engine.vllm.wire import urls_of
from homespun_server.exposure import is_private
from homespun_server.feedback.filter.live import LiveFilter
from homespun_server.feedback.keeping import Keeping, kept
from homespun_server.feedback.kept import announced
from homespun_server.feedback.kept import forget as forget_kept
from homespun_server.feedback.recorder import Recorder
from homespun_server.feedback.retention import retention_of
from homespun_server.feedback.store import FeedbackStore
from homespun_server.feedback.sums import whole_days_ago
from homespun_server.metrics import Metrics
from homespun_server.rollout.follower import RolloutFollower
from homespun_server.rollout.prompts import Trial
from homespun_server.rollout.stages import shadow_use
from homespun_server.services import Completer
from homespun_server.shadow.shadowing import Shadow
from homespun_server.snapshots import SnapshotWatcher
from homespun_server.tracing import Trace, tracer

logger = logging.getLogger(__name__)

_PATIENCE_S = 5.0

EngineLoader = Callable[[ModelFiles, Settings], Engine]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    engine: Engine
    watcher: SnapshotWatcher
    completer: Completer
    family: str


class Runtime:
    """`loaded` is None until the engine is ready, and stays None when loading failed: `error` says why."""

    def __init__(
        self,
        settings: Settings,
        model: ModelFiles,
        load_engine: EngineLoader,
        scopes: Sequence[ScopeConfig] = (),
        keeping: frozenset[str] = frozenset(),
        prompts: Sequence[PromptVersion] = (),
    ) -> None:
        """`keeping`: ids of the repositories whose completions are kept with their prompts; `prompts` are tried by a
        share of the users."""
        self.settings, self.model, self.metrics = settings, model, Metrics()
        self._retention = retention_of(settings)
        self.loaded: Loaded | None = None
        self.error: str | None = None
        self.database = open_database(settings.database_url, DataDir(settings.data_root).database)
        refuse_damaged(self.database)
        self.lookup = Lookup(
            self.database, self.guarded, is_open=settings.default_access == "everyone", api_token=settings.api_token
        )
        self.recorder: Recorder | None = None
        """None until it is opened, and where feedback_days is 0."""
        self.ask_for_index: Callable[[str], object] | None = None
        """Told of an index that can't be used."""
        self.rollout: RolloutFollower | None = None
        """None where a person decides."""
        self._trace, self._end_traces = _traces(settings, model)
        self._load_engine, self._scopes, self._keeping = load_engine, scopes, keeping
        self._trial = Trial(prompts)
        self._thread: threading.Thread | None = None

    def start(self, on_loaded: Callable[[Runtime], None]) -> None:
        """Returns at once; `on_loaded` is called in the loading thread, whichever way it went."""
        self.lookup.start()
        self._thread = threading.Thread(target=self._load, args=[on_loaded], name="load", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._thread is not None:
            # It may be waiting for a vLLM server that doesn't come, for longer than a pod has to end.
            self._thread.join(_PATIENCE_S if self.settings.vllm_urls else None)
        if self.rollout is not None:
            self.rollout.close()
        if self.loaded is not None:
            self.loaded.watcher.close()
            self.loaded.completer.close()
            self.loaded.engine.close()
        if self.recorder is not None:
            self.recorder.close()
        self.lookup.close()
        self._end_traces()
        self.database.dispose()

    def state(self, reader: Principal) -> dict[str, Any]:
        """What `/readyz` says: of repositories, what this reader may know."""
        state: dict[str, Any] = {"ready": self.loaded is not None}
        if not may(reader, "read-index"):
            return state
        state["base_model"] = self.model.name
        if self.error is not None:
            state["error"] = self.error
        if self.loaded is not None:
            engine, watcher = self.loaded.engine, self.loaded.watcher
            num_kept = self.recorder.num_kept if self.recorder else {}
            seen = watcher.visible_to(reader.readable)
            state |= {
                "family": self.loaded.family,
                "dtype": engine.dtype,
                "device": engine.device,
                "max_context": engine.max_context,
                "repositories": [
                    r.state() | ({"kept_completions": num_kept.get(r.id, 0)} if r.id in self._keeping else {})
                    for r in seen
                ],
                "problems": watcher.problems if may(reader, "manage-people") else [],
            }
        return state

    def keeps_of(self, reader: Principal) -> list[str]:
        """Names of the repositories whose completions are kept with their prompts, of those that somebody may read."""
        seen = self.loaded.watcher.visible_to(reader.readable) if self.loaded else ()
        return sorted(r.name or r.id for r in seen if r.id in self._keeping)

    def guarded(self) -> tuple[Guarded, ...]:
        """What there is to read; nothing until it is loaded."""
        return self.loaded.watcher.guarded if self.loaded else ()

    def problems(self) -> list[str]:
        """A line for each snapshot that can't be served."""
        return self.loaded.watcher.problems if self.loaded else []

    def _load(self, on_loaded: Callable[[Runtime], None]) -> None:
        try:
            self.loaded = self._parts()
        except HomespunError as error:
            self.error = str(error)
        except Exception as error:  # else the port would answer "loading" for ever
            logger.exception("loading the base model failed")
            self.error = f"loading the base model failed ({type(error).__name__}); see the log"
        on_loaded(self)

    def _parts(self) -> Loaded:
        settings, model = self.settings, self.model
        tokenizer = load_tokenizer(model)
        format = resolve_family(tokenizer, model.config, name=model.name, forced=model.family)
        personal.sweep(DataDir(settings.data_root))  # what somebody took back while a process was killed
        self.recorder = self._opened_recorder()
        engine = self._load_engine(model, settings)
        watcher = SnapshotWatcher(
            DataDir(settings.data_root),
            tokenizer=tokenizer,
            engine=engine,
            base_digest=model.digest,
            is_private=is_private(settings),
            canary_percent=settings.canary_percent,
            shadow=shadow_use(settings),
            adapter_groups=adapter_groups(self._scopes),
            ask_for_index=self.ask_for_index,
            on_index=lambda manifest: self.metrics.indexes.labels(str(manifest.info.get("state", ""))).inc(),
        )
        completer = Completer(
            engine=engine,
            tokenizer=tokenizer,
            format=format,
            repositories=watcher,
            settings=settings,
            metrics=self.metrics,
            record=self.recorder.record if self.recorder else None,
            trace=self._trace,
            shadow=self._shadow(engine, tokenizer),
            trial=self._trial,
            keeping=Keeping(self._keeping, model.digest, self.recorder.hold) if self.recorder else None,
            judged=LiveFilter(DataDir(settings.data_root).filters, may_hide=settings.show_filter == "auto").judged,
        )
        self._gauges(engine, watcher)
        watcher.start()
        self.rollout = self._started_rollout()
        return Loaded(engine=engine, watcher=watcher, completer=completer, family=format.family.name)

    def _shadow(self, engine: Engine, tokenizer: Tokenizer) -> Shadow | None:
        settings = self.settings
        if not settings.shadow_percent:
            return None
        return Shadow(engine, tokenizer, DataDir(settings.data_root), settings.shadow_percent)

    def _started_rollout(self) -> RolloutFollower | None:
        settings = self.settings
        if settings.rollout != "automatic" or self.recorder is None:
            return None
        follower = RolloutFollower(
            DataDir(settings.data_root),
            self.recorder.store,
            canary_percent=settings.canary_percent,
            watch_days=settings.rollback_days,
            shadow=shadow_use(settings),
            approval=settings.approval,
        )
        follower.start()
        return follower

    def _opened_recorder(self) -> Recorder | None:
        settings = self.settings
        announced(self.database, self._keeping)
        if settings.feedback_days <= 0:
            if self._keeping:
                raise ConfigError("keep_completions: is about what becomes of them too; set feedback_days above 0")
            if settings.rollout == "automatic":
                raise ConfigError("rollout: automatic decides on feedback; set feedback_days above 0, or it to manual")
            if self._trial.tried:
                raise ConfigError(
                    "prompt: what becomes of it says which is better; set feedback_days above 0, or take [[prompt]] out"
                )
            self._forget_feedback()
            return None
        store = FeedbackStore(self.database)
        return Recorder(
            store,
            retention=self._retention,
            on_lost=lambda reason, number: self.metrics.lost_facts.labels(reason).inc(number),
            on_sweep=self._swept,
            kept=partial(kept, DataDir(settings.data_root)),
        )

    def _swept(self, store: FeedbackStore) -> None:
        store.keep_only(self._keeping, self.settings.keep_completions_days)
        for request in forgotten.load(DataDir(self.settings.data_root)):  # what was being written meanwhile
            forget_kept(self.database, request)
        self._count(store)

    def _forget_feedback(self) -> None:
        """What was kept under another setting. While that can't be, completions are made all the same."""
        try:
            FeedbackStore(self.database).forget_all()
            data = DataDir(self.settings.data_root)
            for made_of_it in (data.demand, data.kept_by_file, data.acceptance):
                made_of_it.unlink(missing_ok=True)
        except (SQLAlchemyError, OSError) as error:
            logger.warning("feedback of before isn't deleted; restart for that (%s)", type(error).__name__)

    def _count(self, store: FeedbackStore) -> None:
        """What training asks of feedback."""
        data, since = DataDir(self.settings.data_root), whole_days_ago(demand.DAYS)
        found = usage.receptions(self.database, whole_days_ago(acceptance.DAYS))
        acceptance.write(data, acceptance.counted(found))
        kept = demand.kept_by_file(store.outcomes(None, since, only_kept=True), store.files_of_kept(since))
        demand.write(data, demand.counted(one for one in found if one.time >= since), kept)

    def _gauges(self, engine: Engine, watcher: SnapshotWatcher) -> None:
        self.metrics.queue_depth.set_function(lambda: engine.num_waiting)
        self.metrics.adapters.set_function(lambda: len(engine.adapters))
        self.metrics.adapter_loads.set_function(lambda: engine.num_adapter_loads)
        self.metrics.index_age.set_function(lambda: watcher.index_age_s() or 0.0)


def _traces(settings: Settings, model: ModelFiles) -> tuple[Trace, Callable[[], None]]:
    if not settings.otlp_endpoint:
        return (lambda fields: None), (lambda: None)
    return tracer(settings.otlp_endpoint, model.name)


def load_engine(model: ModelFiles, settings: Settings) -> Engine:
    """The engine that the settings name: vLLM servers, or else the one in this process."""
    urls = urls_of(settings.vllm_urls)
    if not urls:
        return load_torch_engine(model, settings)
    from homespun_server.engine.vllm.engine import VllmEngine

    return VllmEngine(
        urls, token=settings.vllm_token, max_queue=settings.max_queue, base=Path(model.path), dtype=settings.dtype
    )


def load_torch_engine(model: ModelFiles, settings: Settings) -> Engine:
    # Imported here: torch takes seconds, and its threads read their settings from the environment at that moment.
    from homespun_server.engine.torch_engine import TorchEngine

    return TorchEngine(
        Path(model.path),
        dtype=settings.dtype,
        device=settings.device,
        num_threads=settings.num_threads,
        max_queue=settings.max_queue,
        max_running=settings.max_running,
        kv_bytes=settings.kv_cache_mb * 1_000_000,
        adapter_bytes=settings.adapter_cache_mb * 1_000_000,
    )
