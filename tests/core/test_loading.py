import argparse
from pathlib import Path

import pytest

from homespun_core.config import (
    ADAPTERS,
    EVAL,
    INDEX,
    JOBS,
    LSP,
    PRETRAIN,
    RETRAIN,
    SERVE,
    SETTINGS,
    TRAIN,
    WORKER,
    Settings,
)
from homespun_core.errors import ConfigError
from homespun_core.loading import add_flags, as_flags, load_settings, settings_from_args


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_flags_beat_environment_beats_file_beats_default(here: Path) -> None:
    (here / "homespun.toml").write_text("port = 1\nseed = 1\nlora_rank = 1\n")
    loaded = load_settings({"port": "3"}, {"HOMESPUN_PORT": "2", "HOMESPUN_SEED": "2"})
    s = loaded.settings
    assert (s.port, s.seed, s.lora_rank, s.eval_tasks) == (3, 2, 1, Settings().eval_tasks)
    assert loaded.sources == {"port": "command line", "seed": "environment", "lora_rank": "homespun.toml"}


@pytest.mark.parametrize(
    ("file", "environ", "flags", "message"),
    [
        ("prot = 1", {}, {}, "homespun.toml: prot: unknown setting; did you mean 'port'?"),
        ("[[promt]]\nname = 'a'", {}, {}, "homespun.toml: promt: unknown setting; did you mean 'prompt'?"),
        (
            "",
            {"HOMESPUN_TRAIN_MINUTE": "1"},
            {},
            "HOMESPUN_TRAIN_MINUTE: unknown setting; did you mean 'train_minutes'?",
        ),
        ('port = "http"', {}, {}, "homespun.toml: port: 'http' is not a whole number"),
        ("port = true", {}, {}, "homespun.toml: port: True is not a whole number"),
        ("", {}, {"port": "70000"}, "--port: 70000 is above 65535; give 0 to 65535"),
        ("min_confidence = 7", {}, {}, "homespun.toml: min_confidence: 7.0 is above 1; give 0 to 1"),
        ("", {"HOMESPUN_CANARY_PERCENT": "101"}, {}, "HOMESPUN_CANARY_PERCENT: 101.0 is above 100; give 0 to 100"),
        ("", {}, {"shadow_percent": "1e3"}, "--shadow-percent: 1000.0 is above 100; give 0 to 100"),
        ("", {"HOMESPUN_RETRIEVAL": "maybe"}, {}, "HOMESPUN_RETRIEVAL: 'maybe' is not true or false"),
        ("", {}, {"eval_tasks": "3"}, "--eval-tasks: 3 is below 20"),
        ("", {}, {"train_minutes": "nan"}, "--train-minutes: 'nan' is not a number"),
        ("", {}, {"dtype": "float16"}, "--dtype: 'float16' is not one of auto, int8, float32, bfloat16"),
        ("port = ", {}, {}, "homespun.toml: Invalid value (at end of document)"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    here: Path, file: str, environ: dict[str, str], flags: dict[str, object], message: str
) -> None:
    (here / "homespun.toml").write_text(file)
    with pytest.raises(ConfigError) as caught:
        load_settings(flags, environ)
    assert str(caught.value) == message


def test_settings_in_a_repository_are_refused_unless_named(here: Path) -> None:
    (here / ".git").mkdir()
    (here / "homespun.toml").write_text('host = "0.0.0.0"\n')
    with pytest.raises(ConfigError, match="a repository's own settings are not followed"):
        load_settings({}, {})
    assert load_settings({}, {}, here / "homespun.toml").settings.host == "0.0.0.0"


def test_a_flag_at_its_default_still_beats_the_environment_in_a_child(here: Path) -> None:
    settings = load_settings({"port": "8080"}, {"HOMESPUN_PORT": "9000"}).settings
    parser = argparse.ArgumentParser()
    add_flags(parser, (SERVE,))
    child = settings_from_args(parser.parse_args(as_flags(settings, (SERVE,))), {"HOMESPUN_PORT": "9000"})
    assert child.settings.port == 8080


def test_a_named_settings_file_must_exist(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such settings file"):
        load_settings({}, {}, here / "nowhere.toml")


def test_children_get_the_same_settings_by_flags_but_never_the_token(here: Path) -> None:
    given = {
        "port": 0,
        "retrieval": False,
        "train_minutes": 0.5,
        "base_model": "a b",
        "api_token": "secret",
        "vllm_token": "secret",
    }
    settings = load_settings(given, {}).settings
    parser = argparse.ArgumentParser()
    add_flags(parser, (INDEX, TRAIN, SERVE))
    argv = as_flags(settings, (INDEX, TRAIN, SERVE))
    again = settings_from_args(parser.parse_args(argv), {}).settings
    assert "secret" not in " ".join(argv)
    others = SETTINGS.keys() - {"api_token", "vllm_token"}
    assert {n: getattr(again, n) for n in others} == {n: getattr(settings, n) for n in others}


@pytest.mark.parametrize("data_dir", ["", "~/data", "~nobody-by-this-name/data"])
def test_without_a_home_directory_the_remedy_is_said(data_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a user without an entry in passwd."""

    def unknown(_: object) -> None:
        raise KeyError

    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(ConfigError, match="set HOME or give --data-dir"):
        _ = Settings(data_dir=data_dir).data_root
    assert Settings(data_dir="/data").data_root == Path("/data")


def test_shares_and_probabilities_end_at_the_whole() -> None:
    """A `min_confidence` of 7 was taken once, and nothing was shown to anybody."""
    names = [name for name in SETTINGS if name.endswith(("_percent", "_share", "_confidence"))]
    unbounded = {name for name in names if SETTINGS[name].metadata["high"] is None}
    assert unbounded == {"drift_percent"}, "bits may more than double"
    for name, item in SETTINGS.items():
        low, high, default = item.metadata["low"], item.metadata["high"], getattr(Settings(), name)
        assert (high is None or low is not None) and (low is None or low <= default <= (high or default))


def test_every_setting_says_what_it_is_for() -> None:
    assert all(item.metadata["help"] for item in SETTINGS.values())
    verbs = {v for item in SETTINGS.values() for v in item.metadata["verbs"]}
    assert verbs == {INDEX, TRAIN, RETRAIN, EVAL, SERVE, LSP, PRETRAIN, ADAPTERS, WORKER, JOBS}
