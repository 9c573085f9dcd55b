"""Builds the documentation site: gathers its pages in build/docs and renders them to build/site."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from docs import alerts, api, reference
from docs.gather import BrokenLinkError, gather

ROOT = Path(__file__).parent.parent


def build_site(folder: Path) -> Path:
    """Everything is made in `folder`; returns the site's folder. Raises BrokenLinkError, or mkdocs' Abort."""
    pages, site = folder / "docs", folder / "site"
    shutil.rmtree(pages, ignore_errors=True)
    document = api.document()
    gather(ROOT, pages, _generated(document), {"reference/openapi.json": json.dumps(document, indent=1)})
    build(load_config(str(ROOT / "mkdocs.yml"), docs_dir=str(pages), site_dir=str(site), strict=True))
    return site


def _generated(document: dict[str, Any]) -> dict[str, str]:
    """Texts that pages include by these names."""
    rules = alerts.rules(ROOT / "deploy/observability/alerts.yaml")
    return {
        "settings": reference.settings(),
        "command-line": reference.command_line(),
        "api": api.page(document),
        **{f"alert/{name}": alerts.shown(rule) for name, rule in rules.items()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    logging.basicConfig(format="docs: %(message)s")  # of mkdocs: what strict mode fails for
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build", help="where to build (default: build)")
    try:
        print(build_site(parser.parse_args().folder) / "index.html")
    except BrokenLinkError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    except Abort:
        return 1  # mkdocs has said why
    return 0


if __name__ == "__main__":
    sys.exit(main())
