// Where the command `homespun` may be. Pure: whether a place has it is asked through `exists`.
import * as path from "node:path";

export interface Surroundings {
  /** The setting `homespun.command`. */
  command: string;
  /** The interpreter of the active Python environment; absent in a workspace that isn't trusted. */
  python: string | undefined;
  /** The PATH of the editor, which on a desktop may be shorter than a terminal's. */
  searchPath: string;
  home: string;
  isWindows: boolean;
}

/** In order of preference. A command that is set is the only candidate: it is never silently another one. */
export function candidates(around: Surroundings): string[] {
  const { join, dirname, delimiter, isAbsolute } = around.isWindows ? path.win32 : path.posix;
  const name = around.isWindows ? "homespun.exe" : "homespun";
  if (around.command) {
    return [around.command.replace(/^~(?=[/\\])/, around.home)];
  }
  const folders = around.searchPath.split(delimiter).filter(isAbsolute); // a "." would be the workspace
  const inPython = around.python ? [dirname(around.python)] : [];
  return [...inPython, ...folders, join(around.home, ".local", "bin")].map((folder) => join(folder, name));
}

export async function find(
  around: Surroundings,
  exists: (file: string) => Promise<boolean>,
): Promise<string | undefined> {
  for (const file of candidates(around)) {
    if (await exists(file)) {
      return file;
    }
  }
  return undefined;
}

export function notFound(around: Surroundings): string {
  return around.command
    ? `homespun.command: there is no program ${around.command}; correct or clear the setting`
    : "the command homespun was not found on the PATH, in the Python environment or in ~/.local/bin; " +
        "install it with: pip install 'homespun[lsp]', or set homespun.command";
}
