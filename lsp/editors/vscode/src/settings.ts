// What of the user's settings goes to the language server. Pure.

/** As `WorkspaceConfiguration.inspect` has it. */
export interface Inspected {
  globalValue?: unknown;
  workspaceValue?: unknown;
  workspaceFolderValue?: unknown;
}

/** Settings of this extension, which the server doesn't know. */
const OURS = new Set(["command", "trace"]);

/**
 * Only what somebody has set: the server has its defaults, and what its environment says (HOMESPUN_SERVER_URL) comes
 * before them. VS Code itself lets no workspace set one of the scopes `machine` and `application`.
 */
export function explicit(
  names: readonly string[],
  inspect: (name: string) => Inspected | undefined,
): Record<string, unknown> {
  const values = names
    .filter((name) => !OURS.has(name))
    .map((name) => [name, chosen(inspect(name))] as const)
    .filter(([, value]) => value !== undefined);
  return Object.fromEntries(values);
}

function chosen(value: Inspected | undefined): unknown {
  return value?.workspaceFolderValue ?? value?.workspaceValue ?? value?.globalValue;
}

/** The names of our settings, without the section, as package.json has them. */
export function settingNames(contributes: { configuration: { properties: object } }): string[] {
  return Object.keys(contributes.configuration.properties).map((name) => name.split(".")[1] ?? name);
}

/** The setting `languages` after one of them was turned on or off. */
export function toggled(languages: Record<string, boolean>, language: string): Record<string, boolean> {
  return { ...languages, [language]: !isOn(languages, language) };
}

export function isOn(languages: Record<string, boolean>, language: string): boolean {
  return languages[language] ?? languages["*"] ?? true;
}
