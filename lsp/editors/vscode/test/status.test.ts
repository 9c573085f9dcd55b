import assert from "node:assert/strict";
import { test } from "node:test";
import { item, type State, statusOf } from "../src/status.ts";

const running: State = { phase: "running", enabled: true };

test("without news the server is ready", () => {
  assert.deepEqual(item(running), { text: "$(sparkle) Homespun", tooltip: "Homespun: ready", severity: "none" });
});

test("the server's own words are in the tooltip, and its kind is the colour", () => {
  const status = { kind: "Warning", message: "signed out", busy: false } as const;
  const shown = item({ ...running, status });
  assert.deepEqual(shown, { text: "$(warning) Homespun", tooltip: "Homespun: signed out", severity: "warning" });
  assert.equal(item({ ...running, status: { ...status, kind: "Error" } }).severity, "error");
  assert.equal(item({ ...running, status: { ...status, kind: "Inactive" } }).severity, "none");
});

test("what the user turned off is not shown as a fault of the server", () => {
  const status = { kind: "Error", message: "offline", busy: false } as const;
  assert.equal(item({ ...running, status, enabled: false }).severity, "none");
  assert.match(item({ ...running, status, languageOff: "go" }).tooltip, /off for go/);
});

test("a missing command is an error that says what to do", () => {
  const shown = item({ phase: "missing", problem: "install it with: pip", enabled: true });
  assert.equal(shown.severity, "error");
  assert.match(shown.tooltip, /pip/);
});

test("busy turns", () => {
  const status = { kind: "Normal", message: "", busy: true } as const;
  assert.match(item({ ...running, status }).text, /spin/);
});

test("what isn't a status is none", () => {
  for (const value of [null, 3, "Error", {}, { kind: "Sad", message: "x", busy: true }]) {
    assert.equal(statusOf(value), undefined);
  }
  assert.deepEqual(statusOf({ kind: "Error", message: 7 }), { kind: "Error", message: "", busy: false });
});
