// What the status bar says. Pure.

/** The server's notification `didChangeStatus` and its answer to `homespun/status`. */
export interface Status {
  kind: "Normal" | "Error" | "Warning" | "Inactive";
  message: string;
  busy: boolean;
}

export interface State {
  phase: "missing" | "starting" | "running" | "stopped";
  /** Why it is missing or stopped. */
  problem?: string | undefined;
  status?: Status | undefined;
  enabled: boolean;
  /** The language of the file that is being edited, if suggestions are off in it. */
  languageOff?: string | undefined;
}

export interface Item {
  text: string;
  tooltip: string;
  severity: "none" | "warning" | "error";
}

export function item(state: State): Item {
  switch (state.phase) {
    case "missing":
      return { text: "$(error) Homespun", tooltip: `Homespun: ${state.problem}`, severity: "error" };
    case "stopped":
      return { text: "$(warning) Homespun", tooltip: `Homespun stopped: ${state.problem}`, severity: "warning" };
    case "starting":
      return { text: "$(loading~spin) Homespun", tooltip: "Homespun: starting", severity: "none" };
    case "running":
      return running(state);
  }
}

function running({ enabled, languageOff, status }: State): Item {
  if (!enabled) {
    return { text: "$(circle-slash) Homespun", tooltip: "Homespun: suggestions are off", severity: "none" };
  }
  if (languageOff) {
    const tooltip = `Homespun: suggestions are off for ${languageOff}`;
    return { text: "$(circle-slash) Homespun", tooltip, severity: "none" };
  }
  const tooltip = `Homespun: ${status?.message || "ready"}`;
  switch (status?.kind) {
    case "Error":
      return { text: "$(error) Homespun", tooltip, severity: "error" };
    case "Warning":
      return { text: "$(warning) Homespun", tooltip, severity: "warning" };
    case "Inactive":
      return { text: "$(circle-slash) Homespun", tooltip, severity: "none" };
    default:
      return { text: `${status?.busy ? "$(loading~spin)" : "$(sparkle)"} Homespun`, tooltip, severity: "none" };
  }
}

/** What came over the wire, if it is a status. */
export function statusOf(value: unknown): Status | undefined {
  if (typeof value !== "object" || value === null) {
    return undefined;
  }
  const { kind, message, busy } = value as Partial<Record<keyof Status, unknown>>;
  const known = ["Normal", "Error", "Warning", "Inactive"].find((one) => one === kind) as Status["kind"] | undefined;
  return known && { kind: known, message: typeof message === "string" ? message : "", busy: busy === true };
}
