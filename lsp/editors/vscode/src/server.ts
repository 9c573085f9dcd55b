// The language server's process and our end of the protocol.
import * as vscode from "vscode";
import {
  CloseAction,
  type ConfigurationParams,
  DidChangeConfigurationNotification,
  ErrorAction,
  LanguageClient,
  RevealOutputChannelOn,
  State,
} from "vscode-languageclient/node";
import { explicit } from "./settings.ts";
import { type Status, statusOf } from "./status.ts";

const RESTARTS = 4;
const WITHIN_MS = 180_000;

export interface Events {
  onStatus(status: Status): void;
  /** It ended more often than is reasonable, or didn't start. */
  onStopped(problem: string): void;
}

export class Server {
  private readonly client: LanguageClient;
  private ends: number[] = [];

  constructor(command: string, names: readonly string[], log: vscode.LogOutputChannel, events: Events) {
    const run = { command, args: ["lsp"] };
    this.client = new LanguageClient("homespun", "Homespun", run, {
      documentSelector: [{ scheme: "file" }, { scheme: "untitled" }],
      // Told with the first message, so that the server needn't wait for its question to be answered. By itself it
      // reports its status only to editors that it knows by name.
      initializationOptions: () => ({ untilConfigured: configured({ section: "homespun" }, names), sendStatus: "on" }),
      outputChannel: log,
      revealOutputChannelOn: RevealOutputChannelOn.Never,
      // The library's own answer to trouble is a pop-up, in front of somebody who is writing.
      initializationFailedHandler: () => false,
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => this.closed(events),
      },
      middleware: {
        workspace: {
          configuration: (params) => params.items.map((item) => configured(item, names)),
          // The new values are asked for, in the form above.
          didChangeConfiguration: () =>
            this.client.sendNotification(DidChangeConfigurationNotification.type, { settings: null }),
        },
      },
    });
    this.client.onNotification("didChangeStatus", (value: unknown) => report(value, events));
    this.client.onDidChangeState(({ newState }) => log.debug(`language server: ${State[newState]}`));
  }

  async start(events: Events): Promise<void> {
    try {
      await this.client.start();
    } catch (error) {
      events.onStopped(`it did not start (${error instanceof Error ? error.message : String(error)})`);
      return;
    }
    // With parameters, though there are none: pygls answers no request without.
    await this.client.sendRequest("homespun/status", {}).then(
      (value) => report(value, events),
      () => undefined, // an older server
    );
  }

  /** Runs a command of the server's. */
  run(command: string): Promise<unknown> {
    return this.client.sendRequest("workspace/executeCommand", { command, arguments: [] });
  }

  /** Says which file is in front, and where the cursor is in it. */
  focus(editor: vscode.TextEditor | undefined): void {
    if (this.client.isRunning()) {
      const { asTextDocumentIdentifier, asPosition } = this.client.code2ProtocolConverter;
      const params = editor && {
        textDocument: asTextDocumentIdentifier(editor.document),
        position: asPosition(editor.selection.active),
      };
      this.client.sendNotification("textDocument/didFocus", params ?? {});
    }
  }

  async dispose(): Promise<void> {
    if (this.client.needsStop()) {
      await this.client.dispose().catch(() => undefined); // it was ending already
    }
  }

  private closed(events: Events): { action: CloseAction; handled: boolean } {
    const now = Date.now();
    this.ends = [...this.ends.filter((end) => now - end < WITHIN_MS), now];
    if (this.ends.length <= RESTARTS) {
      return { action: CloseAction.Restart, handled: true };
    }
    events.onStopped("it ended several times within minutes; see the log, and restart it from this menu");
    return { action: CloseAction.DoNotRestart, handled: true };
  }
}

function report(value: unknown, events: Events): void {
  const status = statusOf(value);
  if (status) {
    events.onStatus(status);
  }
}

function configured(
  { section, scopeUri }: ConfigurationParams["items"][number],
  names: readonly string[],
): Record<string, unknown> | null {
  const scope = scopeUri ? vscode.Uri.parse(scopeUri) : undefined;
  const configuration = vscode.workspace.getConfiguration(section, scope);
  return section === "homespun" ? explicit(names, (name) => configuration.inspect(name)) : null;
}
