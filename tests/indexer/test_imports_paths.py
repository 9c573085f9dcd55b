"""Imports lead to the files of the repository, and third parties' to none."""

from __future__ import annotations

import pytest

from homespun_indexer.imports import Import
from homespun_indexer.imports_paths import Resolver

PYTHON = (
    *("src/shop/__init__.py", "src/shop/basket.py", "src/shop/tax/__init__.py", "src/shop/tax/rates.py"),
    *("src/shop/json.py", "tools/shop/basket.py", "tools/run.py", "tests/test_basket.py"),
)
TYPESCRIPT = (
    *("src/app.ts", "src/basket.ts", "src/views/Cart.tsx", "src/views/index.ts", "src/types.d.ts"),
    *("packages/prices/package.json", "packages/prices/src/index.ts", "packages/prices/src/tax.ts", "lib/old.js"),
)
GO = (
    *("go.mod", "main.go", "basket/basket.go", "basket/basket_test.go", "basket/item.go"),
    *("backend/cmd/main.go", "backend/store/store.go", "internal/http/server.go", "services/pkg/prices/p.go"),
)
JAVA = (
    *("core/src/main/java/com/shop/Basket.java", "core/src/main/java/com/shop/Item.java"),
    *("core/src/main/java/com/shop/tax/Rates.java", "web/src/main/java/com/web/Page.java"),
)
RUST = (
    *("crates/shop/src/lib.rs", "crates/shop/src/basket.rs", "crates/shop/src/tax/mod.rs"),
    *("crates/shop/src/tax/rates.rs", "crates/shop-web/src/lib.rs", "crates/shop-web/src/page.rs"),
)


@pytest.mark.parametrize(
    ("imported", "from_path", "expected"),
    [
        (Import("shop.basket", "Basket"), "src/shop/tax/rates.py", ("src/shop/basket.py", "tools/shop/basket.py")),
        (Import("shop.basket", ""), "tools/run.py", ("tools/shop/basket.py", "src/shop/basket.py")),
        (Import("shop", "tax"), "tests/test_basket.py", ("src/shop/tax/__init__.py", "src/shop/__init__.py")),
        (Import("shop.tax", "*"), "tests/test_basket.py", ("src/shop/tax/__init__.py",)),
        (Import(".", "basket"), "src/shop/json.py", ("src/shop/basket.py", "src/shop/__init__.py")),
        (Import(".rates", "VAT"), "src/shop/tax/__init__.py", ("src/shop/tax/rates.py",)),
        (Import("..basket", "Basket"), "src/shop/tax/rates.py", ("src/shop/basket.py",)),
        (Import("json", ""), "src/shop/basket.py", ()),
        (Import("basket", ""), "tests/test_basket.py", ("tools/shop/basket.py",)),
        (Import("numpy", "array"), "src/shop/basket.py", ()),
        (Import("....a", "b"), "src/shop/basket.py", ()),
    ],
)
def test_python(imported: Import, from_path: str, expected: tuple[str, ...]) -> None:
    assert Resolver(PYTHON).files_of(imported, from_path, "python") == expected


@pytest.mark.parametrize(
    ("module", "from_path", "expected"),
    [
        ("./basket", "src/app.ts", ("src/basket.ts",)),
        ("./basket.js", "src/app.ts", ("src/basket.ts",)),
        ("./views", "src/app.ts", ("src/views/index.ts",)),
        ("../types", "src/views/Cart.tsx", ("src/types.d.ts",)),
        ("..", "src/views/Cart.tsx", ()),
        ("@/views/Cart", "src/app.ts", ("src/views/Cart.tsx",)),
        ("~/basket", "src/views/Cart.tsx", ("src/basket.ts",)),
        ("@shop/prices", "src/app.ts", ("packages/prices/src/index.ts",)),
        ("@shop/prices/tax", "src/app.ts", ("packages/prices/src/tax.ts",)),
        ("views/Cart", "src/app.ts", ("src/views/Cart.tsx",)),
        ("../lib/old", "src/app.ts", ("lib/old.js",)),
        ("react", "src/app.ts", ()),
        ("../../../x", "src/app.ts", ()),
    ],
)
def test_typescript(module: str, from_path: str, expected: tuple[str, ...]) -> None:
    assert Resolver(TYPESCRIPT).files_of(Import(module, ""), from_path, "typescript") == expected


@pytest.mark.parametrize(
    ("module", "from_path", "expected"),
    [
        ("example.com/shop/basket", "main.go", ("basket/basket.go", "basket/item.go")),
        ("example.com/backend/store", "backend/cmd/main.go", ("backend/store/store.go",)),
        ("example.com/app/store", "backend/cmd/main.go", ("backend/store/store.go",)),
        ("example.com/x/pkg/prices", "main.go", ("services/pkg/prices/p.go",)),
        ("net/http", "main.go", ()),
        ("github.com/other/http", "main.go", ()),
    ],
)
def test_go(module: str, from_path: str, expected: tuple[str, ...]) -> None:
    assert Resolver(GO).files_of(Import(module, ""), from_path, "go") == expected


@pytest.mark.parametrize(
    ("imported", "expected"),
    [
        (Import("com.shop.Basket", "Basket"), (JAVA[0],)),
        (Import("com.shop.Basket.Line", "Line"), (JAVA[0],)),
        (Import("com.shop.Basket", "of"), (JAVA[0],)),
        (Import("com.shop.Basket", "*"), (JAVA[0],)),
        (Import("com.shop", "*"), (JAVA[0], JAVA[1])),
        (Import("java.util.List", "List"), ()),
    ],
)
def test_java(imported: Import, expected: tuple[str, ...]) -> None:
    assert Resolver(JAVA).files_of(imported, JAVA[3], "java") == expected


@pytest.mark.parametrize(
    ("imported", "from_path", "expected"),
    [
        (Import("crate::basket", "Basket"), "crates/shop/src/tax/rates.rs", ("crates/shop/src/basket.rs",)),
        (Import("crate", "basket"), "crates/shop/src/lib.rs", ("crates/shop/src/basket.rs",)),
        (Import("crate", "Basket"), "crates/shop/src/basket.rs", ("crates/shop/src/lib.rs",)),
        (Import("super", "rates"), "crates/shop/src/tax/rates.rs", ("crates/shop/src/tax/rates.rs",)),
        (Import("super::super::basket", "B"), "crates/shop/src/tax/rates.rs", ("crates/shop/src/basket.rs",)),
        (Import("self::rates", ""), "crates/shop/src/tax/mod.rs", ("crates/shop/src/tax/rates.rs",)),
        (Import("shop::tax::rates", "VAT"), "crates/shop-web/src/page.rs", ("crates/shop/src/tax/rates.rs",)),
        (Import("shop_web", "page"), "crates/shop/src/lib.rs", ("crates/shop-web/src/page.rs",)),
        (Import("basket", "Basket"), "crates/shop/src/lib.rs", ("crates/shop/src/basket.rs",)),
        (Import("std::fmt", "Debug"), "crates/shop/src/lib.rs", ()),
    ],
)
def test_rust(imported: Import, from_path: str, expected: tuple[str, ...]) -> None:
    assert Resolver(RUST).files_of(imported, from_path, "rust") == expected


def test_neighbours_are_files_of_the_same_package() -> None:
    assert Resolver(GO).neighbours("basket/basket.go", "go") == ("basket/item.go",)
    assert Resolver(JAVA).neighbours(JAVA[0], "java") == (JAVA[1],)
    assert Resolver(PYTHON).neighbours(PYTHON[0], "python") == ()


@pytest.mark.parametrize("language", ["python", "typescript", "go", "java", "rust", "sql"])
@pytest.mark.parametrize("module", ["", ".", "..", "/", "@", "::", "a//b", "...", "@/", "crate", "super::super"])
@pytest.mark.parametrize("name", ["", "*", "x"])
def test_no_import_is_too_strange(language: str, module: str, name: str) -> None:
    resolver = Resolver([*PYTHON, *TYPESCRIPT, *GO, *JAVA, *RUST])
    assert set(resolver.files_of(Import(module, name), "a.b", language)) <= resolver.paths
