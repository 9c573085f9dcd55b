// Finds and starts the language server, and gives its states and commands a place in the editor.
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { homedir } from "node:os";
import * as vscode from "vscode";
import { find, notFound, type Surroundings } from "./finding.ts";
import { Server } from "./server.ts";
import { isOn, settingNames, toggled } from "./settings.ts";
import { outcomeOf, verificationOf } from "./signin.ts";
import { item, type State } from "./status.ts";

let extension: Extension | undefined;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  extension = new Extension(context);
  await extension.start();
}

export async function deactivate(): Promise<void> {
  await extension?.stop();
}

class Extension {
  private readonly log = vscode.window.createOutputChannel("Homespun", { log: true });
  private readonly bar = vscode.window.createStatusBarItem("homespun", vscode.StatusBarAlignment.Right, 100);
  private readonly names: string[];
  private state: State = { phase: "starting", enabled: true };
  private server: Server | undefined;
  private turn: Promise<void> = Promise.resolve();
  /** In which a cursor moved last. */
  private text: string | undefined;

  constructor(context: vscode.ExtensionContext) {
    this.names = settingNames(context.extension.packageJSON.contributes);
    this.bar.name = "Homespun";
    this.bar.command = "homespun.menu";
    const commands: Record<string, () => unknown> = {
      "homespun.restart": () => this.restart(),
      "homespun.showLog": () => this.log.show(),
      "homespun.toggle": () => this.toggle(),
      "homespun.toggleLanguage": () => this.toggleLanguage(),
      "homespun.logIn": () => this.logIn(),
      "homespun.logOut": () => this.run("homespun.signOut"),
      "homespun.menu": () => this.menu(),
      "homespun.walkthrough": () => openWalkthrough(context),
    };
    context.subscriptions.push(
      this.log,
      this.bar,
      ...Object.entries(commands).map(([name, run]) => vscode.commands.registerCommand(name, run)),
      vscode.window.onDidChangeActiveTextEditor((editor) => this.focused(editor)),
      vscode.window.onDidChangeTextEditorSelection((event) => this.moved(event)),
      vscode.workspace.onDidChangeConfiguration((event) => this.configurationChanged(event)),
      vscode.workspace.onDidGrantWorkspaceTrust(() => this.state.phase === "missing" && this.restart()),
    );
    this.show();
  }

  start(): Promise<void> {
    this.turn = this.begin();
    return this.turn;
  }

  private async begin(): Promise<void> {
    this.show({ phase: "starting", problem: undefined, status: undefined });
    const around = await surroundings();
    const command = await find(around, isExecutable);
    if (!command) {
      this.log.error(notFound(around));
      this.show({ phase: "missing", problem: notFound(around) });
      return;
    }
    this.log.info(`starting ${command} lsp`);
    const events = {
      onStatus: (status: State["status"]) => this.show({ status }),
      onStopped: (problem: string) => this.show({ phase: "stopped", problem }),
    };
    this.server = new Server(command, this.names, this.log, events);
    await this.server.start(events);
    this.focused(vscode.window.activeTextEditor);
    if (this.state.phase === "starting") {
      this.show({ phase: "running" });
    }
  }

  async stop(): Promise<void> {
    const server = this.server;
    this.server = undefined;
    await server?.dispose();
  }

  /** One after the other: two at once would leave two servers running. */
  private restart(): Promise<void> {
    this.turn = this.turn.catch(() => undefined).then(() => this.startAnew());
    return this.turn;
  }

  private async startAnew(): Promise<void> {
    await this.stop();
    await this.begin();
    if (this.state.phase === "missing") {
      vscode.window.showErrorMessage(`Homespun: ${this.state.problem}`);
    }
  }

  private async configurationChanged(event: vscode.ConfigurationChangeEvent): Promise<void> {
    if (event.affectsConfiguration("homespun.command")) {
      await this.restart();
    }
    this.show();
  }

  /** Another folder may have another server, whose state is then the one to show. */
  private focused(editor: vscode.TextEditor | undefined): void {
    this.text = editor && textOf(editor);
    this.server?.focus(editor);
    this.show();
  }

  /** The cursor was put elsewhere. Where typing moves it, the server sees in the text. */
  private moved({ textEditor }: vscode.TextEditorSelectionChangeEvent): void {
    const text = textOf(textEditor);
    if (text === this.text && textEditor === vscode.window.activeTextEditor) {
      this.server?.focus(textEditor);
    }
    this.text = text;
  }

  private show(change: Partial<State> = {}): void {
    const language = vscode.window.activeTextEditor?.document.languageId;
    this.state = {
      ...this.state,
      ...change,
      enabled: settings().get("enable", true),
      languageOff: language && !isOn(languages(), language) ? language : undefined,
    };
    const { text, tooltip, severity } = item(this.state);
    const colour = severity === "none" ? undefined : new vscode.ThemeColor(`statusBarItem.${severity}Background`);
    Object.assign(this.bar, { text, tooltip, backgroundColor: colour });
    this.bar.show();
  }

  private async toggle(): Promise<void> {
    await settings().update("enable", !settings().get("enable", true), vscode.ConfigurationTarget.Global);
  }

  private async toggleLanguage(): Promise<void> {
    const language = vscode.window.activeTextEditor?.document.languageId;
    if (language) {
      await settings().update("languages", toggled(languages(), language), vscode.ConfigurationTarget.Global);
    }
  }

  private async logIn(): Promise<void> {
    const verification = verificationOf(await this.run("homespun.signIn"));
    if (!verification) {
      return;
    }
    const { userCode, uri } = verification;
    const action = "Copy code and open";
    const question = `Homespun: enter the code ${userCode} at ${uri}`;
    if ((await vscode.window.showInformationMessage(question, action)) === action) {
      await vscode.env.clipboard.writeText(userCode);
      await vscode.env.openExternal(vscode.Uri.parse(uri));
    }
  }

  /** Somebody asked for this, so that what came of it may be told in a message. */
  private async run(command: string): Promise<unknown> {
    const answer = await (
      this.server?.run(command) ?? Promise.reject(new Error("not running, see the status bar"))
    ).catch((error: unknown) => ({ status: "Error", message: error instanceof Error ? error.message : String(error) }));
    const outcome = outcomeOf(answer);
    if (outcome) {
      const { isError, message } = outcome;
      const show = isError ? vscode.window.showErrorMessage : vscode.window.showInformationMessage;
      show(`Homespun: ${message}`); // not awaited: it stays until somebody closes it
    }
    return answer;
  }

  private async menu(): Promise<void> {
    const language = vscode.window.activeTextEditor?.document.languageId;
    const choices: (vscode.QuickPickItem & { command: string })[] = [
      { label: this.state.enabled ? "Turn suggestions off" : "Turn suggestions on", command: "homespun.toggle" },
      { label: "Sign in", command: "homespun.logIn" },
      { label: "Sign out", command: "homespun.logOut" },
      { label: "Restart", command: "homespun.restart" },
      { label: "Show log", command: "homespun.showLog" },
      { label: "Getting started", command: "homespun.walkthrough" },
    ];
    if (language) {
      const label = `Turn suggestions ${this.state.languageOff ? "on" : "off"} for ${language}`;
      choices.splice(1, 0, { label, command: "homespun.toggleLanguage" });
    }
    const choice = await vscode.window.showQuickPick(choices, { placeHolder: item(this.state).tooltip });
    if (choice) {
      await vscode.commands.executeCommand(choice.command);
    }
  }
}

/** Another string after each edit. */
function textOf({ document }: vscode.TextEditor): string {
  return `${document.uri}@${document.version}`;
}

function settings(): vscode.WorkspaceConfiguration {
  return vscode.workspace.getConfiguration("homespun");
}

function languages(): Record<string, boolean> {
  return settings().get<Record<string, boolean>>("languages", {});
}

function openWalkthrough(context: vscode.ExtensionContext): Thenable<unknown> {
  return vscode.commands.executeCommand("workbench.action.openWalkthrough", `${context.extension.id}#start`);
}

async function surroundings(): Promise<Surroundings> {
  return {
    command: settings().get("command", "").trim(),
    python: vscode.workspace.isTrusted ? await activePython() : undefined,
    searchPath: process.env.PATH ?? "",
    home: homedir(),
    isWindows: process.platform === "win32",
  };
}

/** As the Python extension says, if it is installed. An environment may lie in the workspace: not for untrusted ones. */
async function activePython(): Promise<string | undefined> {
  interface PythonApi {
    environments?: { getActiveEnvironmentPath(): { path: string } };
  }
  try {
    const python = await vscode.extensions.getExtension<PythonApi>("ms-python.python")?.activate();
    return python?.environments?.getActiveEnvironmentPath().path;
  } catch {
    return undefined;
  }
}

function isExecutable(file: string): Promise<boolean> {
  return access(file, constants.X_OK).then(
    () => true,
    () => false,
  );
}
