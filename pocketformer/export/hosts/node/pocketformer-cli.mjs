#!/usr/bin/env node
/** The command line of a bundle in Node: verify it, answer texts, show their token ids. */
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { InputError, PocketformerError, VerificationError, formatCheck, load, verify } from "./pocketformer/index.mjs";

const USAGE = `Usage: node pocketformer-cli.mjs verify  BUNDLE [--key PUBLIC.pem] [--json]
       node pocketformer-cli.mjs answers BUNDLE TEXTS.jsonl [--key PUBLIC.pem]
       node pocketformer-cli.mjs tokens  BUNDLE TEXTS.jsonl

  --key    a public Ed25519 key in PEM: nothing is read before the bundle's signature holds
  --wasm   use WebAssembly even where onnxruntime-node is installed
`;
const OPTIONS = { key: { type: "string" }, json: { type: "boolean" }, wasm: { type: "boolean" }, help: { type: "boolean" } };

function usage(message) {
  return new InputError(message, `\n${USAGE}`);
}

function parse(words) {
  try {
    return parseArgs({ args: words, options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw usage(error.message);
  }
}

async function readTexts(path) {
  const content = await readGiven(path);
  return content.split("\n").filter((line) => line.trim() !== "").map((line, index) => {
    let row;
    try {
      row = JSON.parse(line);
    } catch (error) {
      throw new InputError(`${path}, line ${index + 1}: ${error.message}`, 'Every line is an object such as {"text": "..."}.');
    }
    if (typeof row?.text !== "string") throw new InputError(`${path}, line ${index + 1} has no text`, 'Write {"text": "..."}.');
    return row.text;
  });
}

async function readGiven(path) {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new InputError(`${path} cannot be read: ${error.code}`, "Check the path.");
  }
}

async function main(words) {
  const { values, positionals } = parse(words);
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const [verb, bundle, texts, ...more] = positionals;
  const wanted = { verify: 2, answers: 3, tokens: 3 }[verb];
  if (wanted === undefined || positionals.length !== wanted || more.length > 0) throw usage("what is wanted is not clear");
  const options = { engine: values.wasm ? "wasm" : undefined };
  if (values.key !== undefined) options.key = await readGiven(values.key);
  if (verb === "verify") {
    if (!values.json) options.onCheck = (check) => process.stdout.write(`${formatCheck(check)}\n`);
    const report = await verify(bundle, options);
    if (values.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    return report.ok ? 0 : new VerificationError("").exitCode;
  }
  const asked = await readTexts(texts);
  const model = await load(bundle, options);
  const lines = [];
  for (const text of asked) {
    const ids = model.encode(text);
    const row = { input_ids: ids };
    if (verb === "answers") {
      const [{ logits, label, score }] = await model.predict([text]);
      Object.assign(row, { logits: Array.from(logits), label, score });
    }
    lines.push(`${JSON.stringify(row)}\n`);
  }
  process.stdout.write(lines.join(""));
  await model.close();
  return 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof PocketformerError)) throw error;
  process.stderr.write(`error: ${error.message}\n${error.hint}\n`);
  process.exitCode = error.exitCode;
}
