"""Which adapter an evaluation is of, as `--adapter` and `--for` name it."""

from __future__ import annotations

from pathlib import Path

from homespun_core import registry, storage
from homespun_core.errors import ModelError
from homespun_core.paths import DataDir
from homespun_core.personal import Wish, personal_id
from homespun_core.registry import Adapter
from homespun_core.scopes import ScopeConfig, is_scope
from homespun_core.types import ModelFiles
from homespun_trainer import own

LIVE, NONE = "live", "none"


def of_scope(scope: ScopeConfig, name: str) -> str:
    """The name of a shared adapter where its owner is not the repository: `@team` is what is live of it."""
    return {LIVE: scope.id, NONE: NONE}.get(name, f"{scope.id}/{name}")


def chosen(data: DataDir, repository: str, name: str, files: ModelFiles, wish: Wish | None) -> Adapter | None:
    """None is the base model. Raises ModelError where there is none of that name, or it is for another base model."""
    if name == NONE:
        return None
    if name == LIVE and wish is None:
        return own.served(data, repository, files.digest)
    place, version = _place(repository, name, wish)
    adapters = data.adapters(place)
    found = registry.live(adapters) if version == LIVE else _version(adapters, version)
    if found is None:
        raise ModelError(f"{_flag(place, name, wish)} ({_known(adapters)})")
    if found.base_digest != files.digest:
        raise ModelError(f"--adapter: {found.version} was trained on another base model; name it with --base-model")
    return found


def label(adapter: Adapter, repository: str) -> str:
    """As servers call one that isn't the repository's own."""
    place = adapter.path.parent.name
    return adapter.version if place == repository else f"{place}/{adapter.version}"


def _place(repository: str, name: str, wish: Wish | None) -> tuple[str, str]:
    """The adapter's directory name, and the version."""
    if is_scope(name):
        place, _, version = name.partition("/")
        return place, version or LIVE
    return (personal_id(wish.user, repository) if wish else repository), name


def _version(adapters: Path, name: str) -> Adapter | None:
    is_there = Path(name).name == name and (adapters / name / storage.MANIFEST).is_file()
    return registry.load_adapter(adapters / name) if is_there else None


def _flag(place: str, name: str, wish: Wish | None) -> str:
    whose = place if is_scope(place) else f"{wish.name}'s own adapter" if wish else "this repository's adapter"
    if name in (LIVE, place):
        return f"--{'for' if wish and not is_scope(place) else 'adapter'}: no version of {whose} is live"
    return f"--adapter: no version {name!r} of {whose}"


def _known(adapters: Path) -> str:
    return ", ".join(registry.versions(adapters)) or "there are none"
