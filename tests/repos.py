"""Real git repositories for tests, made in milliseconds."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_DAY = 86_400
_START = 1_700_000_000


def git(path: Path, *args: str, when: int = _START) -> str:
    """Run git as its own person at its own time: the same calls make the same commit ids on every machine."""
    own = {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.com",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.com",
        "GIT_AUTHOR_DATE": f"{when} +0000",
        "GIT_COMMITTER_DATE": f"{when} +0000",
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(["git", *args], cwd=path, env=kept | own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {' '.join(args)}: {done.stderr}"
    return done.stdout.strip()


def make_repo(path: Path, files: Mapping[str, str | bytes] | None = None, message: str = "Start") -> Path:
    """A repository on branch `main`; with files, they are committed."""
    path.mkdir(parents=True, exist_ok=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    if files is not None:
        commit(path, files, message)
    return path


def commit(path: Path, files: Mapping[str, str | bytes], message: str = "Change", *, day: int = 0) -> str:
    """Write files and commit everything that is in the working tree. Returns the commit id."""
    write(path, files)
    git(path, "add", "--all", "--force")
    git(path, "commit", "--quiet", "--allow-empty", "--message", message, when=_START + day * _DAY)
    return git(path, "rev-parse", "HEAD")


def commit_dated(path: Path, files: Mapping[str, str], date: str) -> str:
    """As `commit`, with a date that git itself would refuse to write."""
    write(path, files)
    git(path, "add", "--all", "--force")
    who = f"Ada <ada@example.com> {date}"
    tree, parent = git(path, "write-tree"), git(path, "rev-parse", "HEAD")
    (path / ".git" / "crafted").write_text(f"tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\n\nChange\n")
    made = git(path, "hash-object", "-t", "commit", "--literally", "-w", ".git/crafted")
    git(path, "update-ref", "HEAD", made)
    return made


def write(path: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)


SHOP = {
    "shop/basket.py": '''"""A basket of items."""

from shop.prices import price_of


class Basket:
    """What a customer is about to buy."""

    def __init__(self, customer_number):
        self.customer_number = customer_number
        self.items = []

    def add(self, item, quantity=1):
        self.items.append((item, quantity))

    def total(self):
        """Sum of all prices."""
        return sum(price_of(item) * quantity for item, quantity in self.items)
''',
    "shop/prices.py": '''"""Prices, in cents."""

PRICES = {"apple": 30, "pear": 45}


def price_of(item):
    return PRICES[item]


def discounted_price(item, percent):
    full_price = price_of(item)
    return full_price - full_price * percent // 100
''',
    "shop/report.py": '''"""What was sold."""

from shop.basket import Basket


def print_receipt(basket: Basket) -> None:
    for item, quantity in basket.items:
        print(f"{quantity} x {item}")
    print(f"total: {basket.total()}")
''',
    "web/cart.ts": """export interface CartLine {
  item: string;
  quantity: number;
}

export const lineTotal = (line: CartLine, price: number): number => {
  return line.quantity * price;
};
""",
    "README.md": "# Shop\n",
}
"""A small program in two languages, with uses of what it defines."""
LFS_POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
"""What git holds of a file whose content is elsewhere."""
