// The answers to the commands `homespun.signIn` and `homespun.signOut`. Pure.

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

/** What is to be told instead: that it failed and why, or that there was nothing to do. */
export function outcomeOf(answer: unknown): { isError: boolean; message: string } | undefined {
  if (typeof answer !== "object" || answer === null) {
    return undefined;
  }
  const { status, message } = answer as Record<string, unknown>;
  if (status === "Error") {
    return { isError: true, message: typeof message === "string" ? message : "the server did not say why" };
  }
  return status === "AlreadySignedIn" ? { isError: false, message: "you are signed in already" } : undefined;
}

function isWebAddress(value: unknown): boolean {
  return typeof value === "string" && /^https?:\/\/[^\s@]+$/i.test(value) && URL.canParse(value);
}
