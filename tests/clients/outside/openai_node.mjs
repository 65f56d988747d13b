// OpenAI's SDK for Node: whole, streamed, and as server-sent events.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.ODEA_URL, apiKey: process.env.ODEA_KEY });
const asked = { model: "gpt-4o-mini-tts", voice: "alloy", input: process.env.ODEA_TEXT, response_format: "pcm" };

const whole = await client.audio.speech.create(asked);
const wholeBytes = (await whole.arrayBuffer()).byteLength;

const streamed = await client.audio.speech.create(asked);
let streamedBytes = 0;
for await (const piece of streamed.body) streamedBytes += piece.length;

const events = await (await client.audio.speech.create({ ...asked, stream_format: "sse" })).text();
let eventBytes = 0, done = null;
for (const line of events.split("\n\n").filter(Boolean)) {
  const event = JSON.parse(line.slice("data: ".length));
  if (event.type === "speech.audio.delta") eventBytes += Buffer.from(event.audio, "base64").length;
  if (event.type === "speech.audio.done") done = event.usage;
}
if (!done || done.total_tokens < 1) throw new Error("the events did not end");

let refusal = null;
try { await client.audio.speech.create({ ...asked, voice: "nobody" }); } catch (error) { refusal = error; }
if (!(refusal instanceof OpenAI.BadRequestError)) throw new Error(`expected a BadRequestError, got ${refusal}`);

const models = [];
for await (const model of client.models.list()) models.push(model.id);
if (!models.includes("tts-1")) throw new Error(`no tts-1 in ${models}`);
await client.models.retrieve("tts-1");

console.log(JSON.stringify({ seconds: [wholeBytes, streamedBytes, eventBytes].map((bytes) => bytes / 48000) }));
