"""The shape of the distribution: what is in it, what it imports, what it depends on."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES = [ROOT / path for path in PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
BASE_MODEL = ROOT / "server" / "homespun_base_model"

# Runs in a fresh interpreter: this one has long imported half of the list.
IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
for name in ("homespun_core", "homespun_lsp"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
print("\\n".join(sys.modules))
"""
HEAVY = {
    "faiss",
    "fastapi",
    "git",
    "huggingface_hub",
    "numpy",
    "peft",
    "pydantic",
    "tokenizers",
    "torch",
    "transformers",
    "tree_sitter",
    "uvicorn",
}


def test_lsp_extra_alone_imports_no_heavy_packages() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_EVERYTHING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert {"homespun_core", "homespun_lsp"} <= imported
    assert not imported & HEAVY


@pytest.mark.parametrize("path", sorted((ROOT / "core").rglob("*.py")), ids=lambda path: path.stem)
def test_core_imports_the_standard_library_only(path: Path) -> None:
    """import-linter knows a list of packages; this knows what is not on it. Imports inside functions count too."""
    allowed = sys.stdlib_module_names | {"homespun_core"}
    foreign = {name for name in imports(path) if name.split(".")[0] not in allowed}
    if path.name == "cli.py":  # one command with verbs: it may call the other packages' clis
        foreign = {name for name in foreign if not re.match(r"homespun_\w+\.cli\b", name)}
    assert not foreign


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", [*PACKAGES, BASE_MODEL], ids=lambda path: path.name)
def test_every_package_is_typed(package: Path) -> None:
    assert (package / "__init__.py").is_file()
    assert (package / "py.typed").is_file()


def test_the_wheel_contains_every_package(tmp_path: Path) -> None:
    names = build_wheel(ROOT, tmp_path)
    assert {package.name for package in PACKAGES} == {name.split("/")[0] for name in names if ".dist-info/" not in name}
    missing = {name for package in PACKAGES for name in files(package)} - names
    assert not missing


def test_the_base_model_wheel_has_the_weights(tmp_path: Path) -> None:
    names = {name for name in build_wheel(BASE_MODEL, tmp_path) if ".dist-info/" not in name}
    assert "homespun_base_model/model.safetensors" in names
    assert names == set(files(BASE_MODEL)) - {"homespun_base_model/pyproject.toml"}


def build_wheel(project: Path, out: Path) -> set[str]:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def files(package: Path) -> Iterator[str]:
    for path in package.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(package.parent).as_posix()


def test_every_dependency_is_pinned_and_has_its_reason() -> None:
    pins = set(re.findall(r"^([\w-]+)==", normalise((ROOT / "constraints.txt").read_text("utf-8")), re.MULTILINE))
    reasons = set(re.findall(r"`([^`]+)`", normalise((ROOT / "CONTRIBUTING.md").read_text("utf-8"))))
    declared = {name for extra in PYPROJECT["project"]["optional-dependencies"].values() for name in map(bare, extra)}
    ours = {"homespun", "homespun-base-model"}
    assert not declared - ours - pins, "run `make lock`"
    assert not declared - ours - reasons, "the table in CONTRIBUTING.md lacks these"


def bare(requirement: str) -> str:
    found = re.match(r"[\w-]+", requirement)
    assert found
    return normalise(found[0])


def normalise(text: str) -> str:
    return text.lower().replace("_", "-")


def test_the_makefile_installs_the_torch_that_is_pinned() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    version = re.search(r"^TORCH +:= (\S+)$", makefile, re.MULTILINE)
    assert version
    assert f"\ntorch=={version[1]}\n" in (ROOT / "constraints.txt").read_text("utf-8")
