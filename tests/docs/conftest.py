from __future__ import annotations

from pathlib import Path

import pytest

from docs.build import build_site
from tests.docs.pages import Page, read


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it: strictly, so that a dead link or anchor that mkdocs sees is an error here."""
    return build_site(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[str, Page]:
    """By their place in the site."""
    return {path.relative_to(site).as_posix(): read(path) for path in site.rglob("*.html") if path.name != "404.html"}
