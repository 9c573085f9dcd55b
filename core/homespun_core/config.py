"""Settings as data: one table. Where their values come from: loading.py."""

from __future__ import annotations

import os
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from homespun_core.errors import ConfigError

INDEX, TRAIN, RETRAIN, EVAL, ADAPTERS = "index", "train", "retrain", "eval", "adapters"
SERVE, LSP, PRETRAIN = "serve", "lsp", "pretrain"
WORKER, JOBS = "worker", "jobs"
METHODS = ("lora", "rslora", "dora", "ia3", "adaption-prompt")


def _setting(
    default: Any,
    help: str,
    *verbs: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    about = {"help": help, "verbs": verbs, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The table. `verbs` are the commands that offer the setting as a flag; the other sources work for every
    setting.
    """

    data_dir: str = _setting(
        "",
        "where everything is kept (default: ~/.local/share/homespun)",
        INDEX,
        TRAIN,
        SERVE,
        PRETRAIN,
        ADAPTERS,
        WORKER,
    )
    base_model: str = _setting(
        "builtin", "base model: builtin, a Hugging Face directory, or a hub name", INDEX, TRAIN, SERVE
    )
    fim_family: str = _setting(
        "auto", "fill-in-the-middle format of the base model; auto detects it", TRAIN, EVAL, SERVE
    )
    token_healing: str = _setting(
        "auto",
        "let completions spell the word before the cursor again, in tokens of their own; auto is on for families that"
        " it was measured to be better for, which is the built-in model's",
        TRAIN,
        EVAL,
        SERVE,
        choices=("auto", "on", "off"),
    )
    device: str = _setting(
        "auto", "where the model runs", TRAIN, EVAL, SERVE, PRETRAIN, choices=("auto", "cpu", "cuda")
    )
    dtype: str = _setting(
        "auto",
        "number format of the model; auto is what is fastest on a CPU (serving, int8 where the compiled kernels know"
        " the model) and bfloat16 on a GPU",
        TRAIN,
        EVAL,
        SERVE,
        PRETRAIN,
        choices=("auto", "int8", "float32", "bfloat16"),
    )
    num_threads: int = _setting(
        0,
        "threads for matrix work; 0 is what is fastest in int8, and PyTorch's own choice in other formats",
        TRAIN,
        EVAL,
        SERVE,
        PRETRAIN,
        low=0,
    )
    seed: int = _setting(0, "seed of everything random", TRAIN, EVAL, PRETRAIN, low=0)

    branch: str = _setting("", "branch to index (default: the repository's default branch)", INDEX)
    max_file_kb: int = _setting(1_000, "larger files are left out", INDEX, low=1)
    max_repo_mb: int = _setting(2_000, "stop reading a repository after this much source", INDEX, low=1)
    max_clone_mb: int = _setting(
        5_000, "stop cloning or fetching when a clone is larger than this", INDEX, PRETRAIN, low=1
    )
    git_timeout_s: int = _setting(1_800, "time limit for cloning and fetching", INDEX, PRETRAIN, low=1)
    index_minutes: int = _setting(
        120, "indexing of a repository ends after so long; what was finished is kept for the next time", INDEX, low=1
    )
    embedder: str = _setting(
        "none", "also find snippets by vectors: none, builtin, or a sentence-transformers directory", INDEX
    )
    uncommitted: bool = _setting(True, "index what is saved in a working tree and not committed yet", INDEX)
    fetch_minutes: float = _setting(5.0, "how often a watched URL is fetched", INDEX, low=0.1)

    train_minutes: float = _setting(5.0, "time budget for training the adapter", TRAIN, low=0.05)
    method: str = _setting("lora", "kind of adapter that is trained", TRAIN, choices=METHODS)
    base_format: str = _setting(
        "full",
        "format of the base model while an adapter is trained: nf4 (QLoRA, extra qlora) takes a quarter of the memory",
        TRAIN,
        choices=("full", "nf4"),
    )
    processes: int = _setting(1, "processes that train together; with GPUs, one each", TRAIN, low=1)
    lora_rank: int = _setting(0, "rank of the adapter; 0 chooses by size of code and model", TRAIN, low=0)
    on_top_of: str = _setting(
        "",
        "train on top of this adapter: a version of the repository's, @TEAM for what is live of it, or a folder;"
        " somebody's own is on top of what everybody has",
        TRAIN,
    )
    learning_rate: float = _setting(0.0, "peak learning rate; 0 chooses by model size", TRAIN, low=0)
    learning_rate_trials: str = _setting(
        "auto",
        "try half and twice of it first, for a seventh of the time; auto does from 20 minutes on",
        TRAIN,
        choices=("auto", "on", "off"),
    )
    demand_weights: str = _setting(
        "off",
        "auto: languages in which people ask for completions, and files in which they keep them, count for more",
        TRAIN,
        choices=("off", "auto"),
    )
    eval_tasks: int = _setting(200, "held-out places used to judge an adapter", TRAIN, low=20)
    approval: str = _setting(
        "automatic",
        "whether the gate's yes puts an adapter live (with an automatic rollout: and the users'), or"
        " `homespun adapters approve` does",
        TRAIN,
        SERVE,
        choices=("automatic", "manual"),
    )

    retrain_changed_kb: int = _setting(150, "train again once this much source code has changed", RETRAIN, low=0)
    retrain_changed_percent: float = _setting(
        2.0, "and this share of the repository's source code", RETRAIN, low=0, high=100
    )
    retrain_days: float = _setting(7.0, "or after this many days, if anything has changed", RETRAIN, low=0)
    retrain_gap_hours: float = _setting(12.0, "time between two trainings at least", RETRAIN, low=0)
    retrain_quiet_s: float = _setting(
        60.0, "wait until nothing was pushed for so long, at most five times as long", RETRAIN, low=0
    )
    retrain_schedule: str = _setting(
        "", "train whatever has changed at these times instead, in cron syntax (0 2 * * 1-5)", RETRAIN
    )
    retrain_window: str = _setting("", "train at these hours only (22:00-06:00), pause at their end", RETRAIN)
    retrain_timezone: str = _setting("", "of schedule and window (Europe/Berlin); default: the machine's", RETRAIN)
    drift_places: int = _setting(40, "fresh lines the live adapter is watched on each day; 0 is none", RETRAIN, low=0)
    drift_percent: float = _setting(3.0, "alarm when fresh code costs this many percent more bits", RETRAIN, low=0)
    retrain_on_drift: bool = _setting(False, "train again at that alarm, whatever the schedule", RETRAIN)

    host: str = _setting("127.0.0.1", "address to listen on; other than loopback needs accounts or api_token", SERVE)
    port: int = _setting(8080, "port to listen on; 0 picks a free one", SERVE, low=0, high=65_535)
    api_token: str = _setting(
        "", "a bearer token that may do everything, for want of accounts (better set as HOMESPUN_API_TOKEN)"
    )
    setup: bool = _setting(
        False, "where there is no admin yet, print a code with which a browser makes the first one", SERVE
    )
    default_access: str = _setting(
        "nobody",
        "with accounts, who but admins may read a repository without groups",
        SERVE,
        choices=("nobody", "everyone"),
    )
    requests_per_minute: int = _setting(1_200, "requests with one token of an account; 0 is no limit", SERVE, low=0)
    user_requests_per_minute: int = _setting(2_400, "and with all of a user's tokens", SERVE, low=0)
    public_url: str = _setting("", "where people reach the server (https://homespun.example.com)", SERVE)
    oidc_issuer: str = _setting("", "sign-in with this OpenID Connect provider (https://login.example.com)", SERVE)
    oidc_client_id: str = _setting("", "what the provider calls this server", SERVE)
    oidc_client_secret: str = _setting("", "its secret there, if any (better set as HOMESPUN_OIDC_CLIENT_SECRET)")
    oidc_scopes: str = _setting("openid profile email", "what the provider is asked for", SERVE)
    oidc_groups_claim: str = _setting("groups", "where it says what groups somebody is in; they become teams", SERVE)
    oidc_admin_group: str = _setting("", "who is in this group is an admin, and who isn't is none", SERVE)
    oidc_link_claim: str = _setting("sub", "what it says that SCIM has as externalId or userName", SERVE)
    oidc_ca_file: str = _setting("", "certificates to trust besides the machine's when asking it (PEM)", SERVE)
    scim_token: str = _setting("", "what the provider shows to announce people (better set as HOMESPUN_SCIM_TOKEN)")
    session_hours: float = _setting(12.0, "a sign-in in the browser lasts so long at most", SERVE, low=0.01)
    session_idle_minutes: float = _setting(120.0, "and ends when nothing was looked at for so long", SERVE, low=0.1)
    device_token_days: float = _setting(90.0, "so long an editor stays signed in", SERVE, low=0.01)
    webhook_secret: str = _setting("", "what forges sign their push hooks with (better set as HOMESPUN_WEBHOOK_SECRET)")
    retrieval: bool = _setting(True, "put snippets of the repository into the prompt", TRAIN, SERVE)
    retrieve_deadline_ms: int = _setting(
        15, "time allowed for retrieval; on expiry the prompt has no snippets", SERVE, low=0
    )
    mixing: bool = _setting(True, "let what stands in repository and file have a voice in each token", TRAIN, SERVE)
    snippet_count: int = _setting(3, "snippets in a prompt at most", TRAIN, EVAL, SERVE, PRETRAIN, low=0)
    max_prompt_tokens: int = _setting(960, "length of a prompt at most, snippets included", TRAIN, EVAL, SERVE, low=64)
    editor_context: bool = _setting(True, "use what editors send along (pieces of other open files)", SERVE)
    max_new_tokens: int = _setting(64, "length of a completion at most", SERVE, low=1)
    min_confidence: float = _setting(
        0.1,
        "completions end at the last line where the model's mean probability of a token was above this; 0 is never",
        SERVE,
        low=0,
        high=1,
    )
    completion_deadline_ms: int = _setting(5_000, "a completion ends here with what it has", SERVE, low=1)
    target_ms: int = _setting(300, "under load, completions go without something to be there by then", SERVE, low=1)
    kv_cache_mb: int = _setting(512, "memory for what was computed of prompts", SERVE, low=16)
    adapter_cache_mb: int = _setting(
        2_000, "memory for adapters; the least used are loaded again when needed", SERVE, low=1
    )
    canary_percent: float = _setting(
        0.0, "share of the users who try a new adapter before all get it; 0 is none", TRAIN, SERVE, low=0, high=100
    )
    shadow_percent: float = _setting(
        0.0,
        "share of completions that a new adapter makes too, for nobody to see, before users try it; 0 is none",
        TRAIN,
        SERVE,
        low=0,
        high=100,
    )
    rollout: str = _setting(
        "manual",
        "who ends that: a person (homespun adapters), or what becomes of completions",
        SERVE,
        RETRAIN,
        choices=("manual", "automatic"),
    )
    rollback_days: float = _setting(
        7.0,
        "with an automatic rollout, an adapter that users lose by is rolled back within these days; 0 is never",
        SERVE,
        low=0,
    )
    max_running: int = _setting(8, "completions computed at the same time", SERVE, low=1)
    max_queue: int = _setting(8, "waiting completions; more are refused with 429", SERVE, low=1)
    max_requests: int = _setting(
        0,
        "completions on their way; more are refused with 429 unread; 0 is six a core",
        SERVE,
        low=0,
    )
    vllm_urls: str = _setting("", "vLLM servers to use instead of the embedded engine, separated by commas", SERVE)
    vllm_token: str = _setting("", "their --api-key (better set as HOMESPUN_VLLM_TOKEN)")
    feedback_days: float = _setting(
        90.0, "what became of completions (counts, no code) is kept so long; 0 keeps nothing", SERVE, low=0
    )
    keep_completions_days: float = _setting(
        30.0, "completions of a [[repository]] with keep_completions, and their prompts, are kept so long", SERVE, low=0
    )
    feedback_days_by_class: str = _setting(
        "",
        "days that differ from that, as `shown: 30, accepted: 60, dismissed: 7, kept: 60, sums: 400` (numbers by day)",
        SERVE,
    )
    database_url: str = _setting("", "the server's database (default: SQLite in data_dir); may be PostgreSQL")

    show_filter: str = _setting(
        "off",
        "hide completions that are unlikely to be kept: auto trains a filter for that daily, and uses it if it passes",
        SERVE,
        choices=("off", "auto"),
    )

    worker_token: str = _setting(
        "", "what workers on other machines show the server (better set as HOMESPUN_WORKER_TOKEN)"
    )
    job_lease_s: float = _setting(
        60.0, "a worker that isn't heard from for so long has lost its job to another", SERVE, low=1
    )

    server_url: str = _setting(
        "http://127.0.0.1:8080", "where editors and workers find the Homespun server", LSP, WORKER, JOBS, RETRAIN
    )
    progress: str = _setting(
        "auto",
        "how progress is shown: bars on a terminal and lines elsewhere, or JSON for programs",
        INDEX,
        TRAIN,
        EVAL,
        choices=("auto", "json"),
    )
    log_level: str = _setting(
        "info",
        "how much is logged",
        INDEX,
        TRAIN,
        SERVE,
        LSP,
        PRETRAIN,
        choices=("debug", "info", "warning", "error"),
    )
    otlp_endpoint: str = _setting(
        "", "where traces go, as http://collector:4318; needs the extra otel. No code is in them", SERVE
    )
    log_format: str = _setting(
        "text", "log lines for people, or as JSON", INDEX, TRAIN, SERVE, PRETRAIN, choices=("text", "json")
    )

    @property
    def data_root(self) -> Path:
        """Raises ConfigError where it counts from a home directory that isn't known."""
        base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
        place = Path(self.data_dir) if self.data_dir else Path(base) / "homespun"
        try:
            return place.expanduser().absolute()
        except RuntimeError:
            raise ConfigError(f"data_dir: {place}: no such home directory; set HOME or give --data-dir") from None


SETTINGS: dict[str, Field[Any]] = {f.name: f for f in fields(Settings)}
