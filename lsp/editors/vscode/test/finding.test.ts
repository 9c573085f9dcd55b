import assert from "node:assert/strict";
import { test } from "node:test";
import { candidates, find, notFound, type Surroundings } from "../src/finding.ts";

const linux: Surroundings = {
  command: "",
  python: undefined,
  searchPath: "/usr/bin:.::relative/bin",
  home: "/home/ada",
  isWindows: false,
};

test("the active Python environment comes before the PATH", () => {
  const found = candidates({ ...linux, python: "/code/.venv/bin/python" });
  assert.deepEqual(found, ["/code/.venv/bin/homespun", "/usr/bin/homespun", "/home/ada/.local/bin/homespun"]);
});

test("folders of the workspace are not searched, whatever the PATH says", () => {
  assert.deepEqual(candidates(linux), ["/usr/bin/homespun", "/home/ada/.local/bin/homespun"]);
});

test("a command that is set is the only one", async () => {
  const around = { ...linux, command: "~/bin/homespun" };
  assert.deepEqual(candidates(around), ["/home/ada/bin/homespun"]);
  assert.equal(await find(around, async (file) => file.startsWith("/usr")), undefined);
  assert.match(notFound(around), /~\/bin\/homespun/);
});

test("on Windows it is an .exe beside python.exe", () => {
  const around = { ...linux, isWindows: true, searchPath: "C:\\bin;D:\\tools", home: "C:\\Users\\ada" };
  assert.deepEqual(candidates({ ...around, python: "C:\\venv\\Scripts\\python.exe" }), [
    "C:\\venv\\Scripts\\homespun.exe",
    "C:\\bin\\homespun.exe",
    "D:\\tools\\homespun.exe",
    "C:\\Users\\ada\\.local\\bin\\homespun.exe",
  ]);
});

test("the first that exists is taken, and where none does the remedy is named", async () => {
  assert.equal(await find(linux, async (file) => file.includes("local")), "/home/ada/.local/bin/homespun");
  assert.equal(await find(linux, async () => false), undefined);
  assert.match(notFound(linux), /pip install 'homespun\[lsp\]'/);
});
