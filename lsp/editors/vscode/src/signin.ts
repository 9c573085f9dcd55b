// The answer to the command `homespun.signIn`. Pure.

export interface Verification {
  userCode: string;
  /** Where the code is to be entered, with the code in it where the server offers that. */
  uri: string;
}

/** Undefined where there is nothing to verify. Only web addresses are opened, whatever the server says. */
export function verificationOf(answer: unknown): Verification | undefined {
  if (typeof answer !== "object" || answer === null) {
    return undefined;
  }
  const { userCode, verificationUri, verificationUriComplete } = answer as Record<string, unknown>;
  const uri = [verificationUriComplete, verificationUri].find((one) => isWebAddress(one));
  return typeof userCode === "string" && typeof uri === "string" ? { userCode, uri } : undefined;
}

function isWebAddress(value: unknown): boolean {
  return typeof value === "string" && /^https?:\/\/[^\s@]+$/i.test(value) && URL.canParse(value);
}
