// Continue's autocomplete core, asked once with each kind of provider: node continue.mjs URL PREFIX SUFFIX
import { CompletionProvider } from "@continuedev/core/dist/autocomplete/CompletionProvider.js";
import LlamaCpp from "@continuedev/core/dist/llm/llms/LlamaCpp.js";
import Mistral from "@continuedev/core/dist/llm/llms/Mistral.js";
import Ollama from "@continuedev/core/dist/llm/llms/Ollama.js";
import OpenAI from "@continuedev/core/dist/llm/llms/OpenAI.js";

const [url, prefix, suffix] = process.argv.slice(2);
const workspace = "file:///company";
const ide = {
  getWorkspaceDirs: async () => [workspace],
  readFile: async () => prefix + suffix,
  getClipboardContent: async () => ({ text: "", copiedAt: "" }),
  getDiff: async () => [],
  getRepoName: async () => undefined,
  getUniqueId: async () => "test",
  getIdeInfo: async () => ({ ideType: "vscode" }),
  onDidChangeActiveTextEditor: () => {},
  gotoDefinition: async () => [],
};
const patient = { debounceDelay: 0, useCache: false, modelTimeout: 20_000, showWhateverWeHaveAtXMs: 20_000 };
const settings = { loadConfig: async () => ({ config: { tabAutocompleteOptions: patient } }) };
const models = {
  openai: new OpenAI({ model: "qwen2.5-coder", apiBase: `${url}/v1/`, apiKey: "unused" }),
  mistral: new Mistral({ model: "codestral-latest", apiBase: `${url}/v1/`, apiKey: "unused" }),
  ollama: new Ollama({ model: "qwen2.5-coder", apiBase: url }),
  "llama.cpp": new LlamaCpp({ model: "starcoder2", apiBase: url }),
};
const lines = prefix.split("\n");
const said = {};
for (const [name, model] of Object.entries(models)) {
  const complain = (error) => console.error(name, error);
  const provider = new CompletionProvider(settings, ide, async () => model, complain, async () => []);
  const outcome = await provider.provideInlineCompletionItems({
    isUntitledFile: false,
    completionId: name,
    filepath: `${workspace}/invoices.py`,
    pos: { line: lines.length - 1, character: lines.at(-1).length },
    recentlyEditedFiles: [],
    recentlyEditedRanges: [],
    recentlyVisitedRanges: [],
  });
  said[name] = outcome?.completion ?? null;
}
console.log(JSON.stringify(said));
process.exit(0);
