"""`homespun doctor`: what this machine and the settings are fit for, each problem with its remedy."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from homespun_core.config import INDEX, SERVE, TRAIN, Settings
from homespun_core.errors import HomespunError
from homespun_core.fim import resolve_family
from homespun_core.languages import languages
from homespun_core.loading import LoadedSettings, add_flags, settings_from_args
from homespun_core.memory import available_bytes
from homespun_core.paths import DataDir
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.tokenizer import load_tokenizer
from homespun_server.engine.decoders.kernels import library_paths
from homespun_server.signin.service import provider_of

_MIN_FREE_GB = 5
_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "tokenizers",
    "faiss-cpu",
    "tree-sitter",
    "fastapi",
    "uvicorn",
    "watchdog",
)


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    found: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, (INDEX, TRAIN, SERVE))


def run(args: argparse.Namespace) -> int:
    loaded = settings_from_args(args)
    checks = list(examine(loaded))
    for check in checks:
        print(f"{'ok  ' if check.ok else 'BAD '} {check.name:<14} {check.found}")
        if not check.ok:
            print(f"     {'':<14} -> {check.remedy}")
    return 0 if all(check.ok for check in checks) else 1


def examine(loaded: LoadedSettings) -> Iterator[Check]:
    settings = loaded.settings
    given = ", ".join(f"{name} from {source}" for name, source in loaded.sources.items())
    yield Check("settings", True, given or "all defaults")
    yield Check("python", sys.version_info >= (3, 11), platform.python_version(), "install Python 3.11 or newer")
    yield _git()
    for package in _PACKAGES:
        yield _package(package)
    yield _grammars()
    yield _kernels()
    yield _data_dir(settings)
    yield _memory()
    yield _port(settings)
    yield _model(settings)
    if settings.oidc_issuer:
        yield _sign_in(settings)


def _git() -> Check:
    git = shutil.which("git")
    if git is None:
        return Check("git", False, "not found", "install git")
    version = subprocess.run([git, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Check("git", bool(version), version or "does not run", "reinstall git")


def _package(name: str) -> Check:
    try:
        return Check(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, "not installed", "pip install 'homespun[server,trainer]'")


def _grammars() -> Check:
    missing = [lang.name for lang in languages().values() if lang.grammar and not _importable(lang.grammar[0])]
    found = "all there" if not missing else f"missing for {', '.join(missing)} (chunked by lines)"
    return Check("grammars", not missing, found, "pip install 'homespun[indexer]'")


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _kernels() -> Check:
    names = [path.stem.removeprefix("kernels-") for path in library_paths()]
    remedy = "install a C++ compiler (g++) and set up again; until then completions on a CPU are several times slower"
    return Check("kernels", bool(names), f"int8 for {names[0]}" if names else "not compiled", remedy)


def _data_dir(settings: Settings) -> Check:
    root = DataDir(settings.data_root).root
    existing = next(p for p in (root, *root.parents) if p.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    found = f"{root}, {free_gb:.0f} GB free"
    if not os.access(existing, os.W_OK):
        return Check(
            "data directory", False, found, f"{existing} is not writable; choose another place with --data-dir"
        )
    return Check("data directory", free_gb >= _MIN_FREE_GB, found, f"free some space: {_MIN_FREE_GB} GB is comfortable")


def _memory() -> Check:
    left = available_bytes()
    if left is None:
        return Check("memory", True, "unknown")
    return Check("memory", left > 2e9, f"{left / 1e9:.1f} GB free", "close something: 2 GB is the least")


def _port(settings: Settings) -> Check:
    address = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            remedy = "if that isn't Homespun itself, choose another with --port"
            return Check("port", False, f"{address}: {error.strerror}", remedy)
    return Check("port", True, f"{address} is free")


def _model(settings: Settings) -> Check:
    """Resolve the base model and its FIM format; loads no weights."""
    try:
        model = resolve_base_model(settings.base_model, settings.fim_family)
        fim = resolve_family(load_tokenizer(model), model.config, name=model.name, forced=model.family)
    except HomespunError as error:
        return Check("base model", False, str(error), "see base_model in the settings")
    return Check("base model", True, f"{model.name}, FIM format {fim.family.name}")


def _sign_in(settings: Settings) -> Check:
    try:
        provider = provider_of(settings)
        assert provider is not None
        with closing(provider):
            provider.look()
    except HomespunError as error:
        return Check("sign-in", False, settings.oidc_issuer, str(error))
    return Check("sign-in", True, f"{settings.oidc_issuer} answers; it must know {provider.registration.redirect_uri}")
