// One completion, whole and streamed, by OpenAI's own client: node openai.mjs URL PROMPT SUFFIX
import OpenAI from "openai";

const [url, prompt, suffix] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused" });
const body = { model: "homespun", prompt, suffix, max_tokens: 48 };
const whole = await client.completions.create({ ...body, logprobs: 1 });
let streamed = "";
for await (const chunk of await client.completions.create({ ...body, stream: true })) {
  streamed += chunk.choices[0]?.text ?? "";
}
const models = [];
for await (const model of client.models.list()) models.push(model.id);
const error = await client.completions.create({ ...body, temperature: 7 }).catch((problem) => problem);
const { status, param, code } = error;
const [choice] = whole.choices;
console.log(JSON.stringify({ text: choice.text, tokens: choice.logprobs.tokens, streamed, models, status, param, code }));
