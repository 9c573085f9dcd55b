// VS Code's own editor as a client of `homespun lsp`: what vscode-languageclient does between the two, and no more.
// The test gives `toServer(text)`; what the server says comes in through `fromServer(text)`.
import * as monaco from "monaco-editor";

self.MonacoEnvironment = {
  getWorker: () => new Worker(URL.createObjectURL(new Blob([""], { type: "text/javascript" }))),
};

const waiting = new Map();
let lastId = 0;

function send(message) {
  self.toServer(JSON.stringify({ jsonrpc: "2.0", ...message }));
}

function request(method, params, token) {
  const id = ++lastId;
  send({ id, method, params });
  token?.onCancellationRequested(() => send({ method: "$/cancelRequest", params: { id } }));
  return new Promise((resolve) => waiting.set(id, resolve));
}

self.fromServer = (text) => {
  const message = JSON.parse(text);
  if (message.method === undefined) {
    waiting.get(message.id)?.(message.result ?? null);
    waiting.delete(message.id);
  } else if (message.id !== undefined) {
    send({ id: message.id, result: message.method === "workspace/configuration" ? [null] : null });
  }
};

const toPosition = (at) => ({ line: at.lineNumber - 1, character: at.column - 1 });
const toRange = (range) => ({
  start: { line: range.startLineNumber - 1, character: range.startColumn - 1 },
  end: { line: range.endLineNumber - 1, character: range.endColumn - 1 },
});
const fromRange = ({ start, end }) =>
  new monaco.Range(start.line + 1, start.character + 1, end.line + 1, end.character + 1);

const provider = {
  async provideInlineCompletions(model, position, context, token) {
    const chosen = context.selectedSuggestionInfo;
    const result = await request("textDocument/inlineCompletion", {
      textDocument: { uri: model.uri.toString() },
      position: toPosition(position),
      context: {
        triggerKind: context.triggerKind === monaco.languages.InlineCompletionTriggerKind.Automatic ? 2 : 1,
        selectedCompletionInfo: chosen && { text: chosen.text, range: toRange(chosen.range) },
      },
    }, token);
    const items = (result?.items ?? []).map(({ insertText, range, command }) => ({
      insertText,
      range: fromRange(range),
      command: { id: command.command, title: command.title, arguments: command.arguments },
    }));
    return { items };
  },
  freeInlineCompletions() {},
  disposeInlineCompletions() {},
};

// A list of words for the suggest widget: what a language server for Python would offer.
const words = {
  provideCompletionItems: (model, position) => ({
    suggestions: self.words.map((word) => ({
      label: word,
      insertText: word,
      kind: monaco.languages.CompletionItemKind.Function,
      range: new monaco.Range(position.lineNumber, model.getWordUntilPosition(position).startColumn,
        position.lineNumber, position.column),
    })),
  }),
};

// `text` keeps its line ends. The cursor is where `|` stands in it.
self.start = async (capabilities, options, uri, text, offered = []) => {
  const [before, after] = text.split("|");
  self.words = offered;
  await request("initialize", { processId: null, rootUri: null, capabilities, initializationOptions: options });
  send({ method: "initialized", params: {} });
  monaco.languages.registerInlineCompletionsProvider({ pattern: "**" }, provider);
  monaco.languages.registerCompletionItemProvider("python", words);
  const model = monaco.editor.createModel(before + after, "python", monaco.Uri.parse(uri));
  self.editor = monaco.editor.create(document.getElementById("editor"), {
    model,
    inlineSuggest: { enabled: true },
    quickSuggestions: false,
    wordBasedSuggestions: "off",
    autoIndent: "none",
    minimap: { enabled: false },
    fontSize: 14,
    theme: "vs-dark",
  });
  send({
    method: "textDocument/didOpen",
    params: { textDocument: { uri, languageId: "python", version: model.getVersionId(), text: model.getValue() } },
  });
  model.onDidChangeContent((event) => send({
    method: "textDocument/didChange",
    params: {
      textDocument: { uri, version: event.versionId },
      contentChanges: event.changes.map((change) => ({ range: toRange(change.range), text: change.text })),
    },
  }));
  monaco.editor.registerCommand("homespun.accepted", (_, ...given) =>
    request("workspace/executeCommand", { command: "homespun.accepted", arguments: given }));
  self.editor.setPosition(model.getPositionAt(before.length));
  self.editor.focus();
  // Parts of the editor are made when it has nothing else to do, and tests type sooner.
  self.editor.getContribution("editor.contrib.inlineCompletionsController");
};

self.run = (command) => self.editor.trigger("test", command);
self.text = () => self.editor.getModel().getValue();
self.cursor = () => self.editor.getModel().getOffsetAt(self.editor.getPosition());

// What somebody sees: the text of the ghost, line by line; null where there is none.
self.ghost = () => {
  const first = [...document.querySelectorAll(".view-lines [class*='ghost-text-decoration']")];
  const further = [...document.querySelectorAll(".suggest-preview-text .view-line, .suggest-preview-text > div")];
  const lines = [first.map((span) => span.textContent).join(""), ...further.map((line) => line.textContent)];
  return first.length + further.length ? lines.join("\n").replaceAll("\u00a0", " ").replaceAll("\u200b", "") : null;
};
