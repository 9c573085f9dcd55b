import assert from "node:assert/strict";
import { test } from "node:test";
import { outcomeOf, verificationOf } from "../src/signin.ts";

test("the address with the code in it is preferred", () => {
  const answer = {
    userCode: "WOOL-YARN",
    verificationUri: "https://homespun.example.com/device",
    verificationUriComplete: "https://homespun.example.com/device?user_code=WOOL-YARN",
  };
  assert.equal(verificationOf(answer)?.uri, answer.verificationUriComplete);
  const { verificationUriComplete: _, ...short } = answer;
  assert.deepEqual(verificationOf(short), { userCode: "WOOL-YARN", uri: short.verificationUri });
});

test("nothing but a web address is opened", () => {
  for (const verificationUri of [
    "file:///etc/passwd",
    "vscode://x",
    "javascript:1",
    "https://ada@evil",
    5,
    undefined,
  ]) {
    assert.equal(verificationOf({ userCode: "A", verificationUri }), undefined);
  }
  assert.equal(verificationOf(null), undefined);
  assert.equal(verificationOf("x"), undefined);
});

test("a failure is told with its reason, and so is that there was nothing to do", () => {
  assert.deepEqual(outcomeOf({ status: "Error", message: "offline" }), { isError: true, message: "offline" });
  assert.equal(outcomeOf({ status: "Error" })?.isError, true);
  assert.equal(outcomeOf({ status: "AlreadySignedIn" })?.isError, false);
  assert.equal(outcomeOf({ status: "PromptUserDeviceFlow", userCode: "A" }), undefined);
  assert.equal(outcomeOf(undefined), undefined);
});
