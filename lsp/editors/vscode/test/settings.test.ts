import assert from "node:assert/strict";
import { test } from "node:test";
import manifest from "../package.json" with { type: "json" };
import { explicit, isOn, settingNames, toggled } from "../src/settings.ts";

test("only what is set is sent, a folder's before a workspace's before the user's", () => {
  const values: Record<string, object> = {
    enable: { defaultValue: true },
    debounceMs: { defaultValue: 60, globalValue: 10, workspaceValue: 20 },
    maxTokens: { globalValue: 0, workspaceFolderValue: 5, workspaceValue: 6 },
    completion: { globalValue: false },
  };
  const sent = explicit(Object.keys(values), (name) => values[name]);
  assert.deepEqual(sent, { debounceMs: 20, maxTokens: 5, completion: false });
});

test("settings of the extension itself are not sent", () => {
  const names = settingNames(manifest.contributes);
  assert.ok(names.includes("command") && names.includes("serverUrl"));
  const sent = explicit(names, () => ({ globalValue: "x" }));
  assert.ok(!("command" in sent) && !("trace" in sent) && "serverUrl" in sent);
});

test("no workspace can say where code and token are sent", () => {
  const properties: Record<string, { scope: string }> = manifest.contributes.configuration.properties;
  for (const name of ["command", "serverUrl", "token", "sendEvents"]) {
    assert.ok(["machine", "application"].includes(properties[`homespun.${name}`]?.scope ?? ""), name);
  }
});

test("a language that was toggled is toggled back", () => {
  const off = toggled({}, "python");
  assert.deepEqual(off, { python: false });
  assert.equal(isOn(off, "python"), false);
  assert.deepEqual(toggled(off, "python"), { python: true });
});

test("a language that isn't named goes by the star", () => {
  assert.equal(isOn({ "*": false, go: true }, "python"), false);
  assert.equal(isOn({ "*": false, go: true }, "go"), true);
  assert.deepEqual(toggled({ "*": false }, "go"), { "*": false, go: true });
});
