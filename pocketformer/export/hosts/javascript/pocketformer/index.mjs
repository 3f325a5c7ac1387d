/**
 * Pocketformer bundles in JavaScript: the same module for browsers and Node.
 *
 *   import { load } from "./pocketformer/index.mjs";
 *   const model = await load("model/");
 *   const [answer] = await model.predict(["What is the capital of France ?"]);
 */
import { checkSizes, checkBundleSignature, readHashed, readManifest, readManifestBytes, readSized } from "./bundle.mjs";
import { DAMAGED, InputError, PocketformerError, UnavailableError, VerificationError } from "./errors.mjs";
import { best, check, checkAnswers, checkTokenizer, parseGolden, softmax } from "./golden.mjs";
import { parsePlainJson } from "./json.mjs";
import { TEXT_INPUTS, parseManifest, utf8 } from "./manifest.mjs";
import { checkSelfContained } from "./onnx.mjs";
import { publicKey } from "./signature.mjs";
import { createEncoder } from "./text.mjs";

export { InputError, PocketformerError, UnavailableError, VerificationError } from "./errors.mjs";

const CPU_PROVIDER = "CPUExecutionProvider";
const NAME_WIDTH = 11;

/** Load the bundle in the folder `location`; see index.d.mts for the options. */
export async function load(location, options = {}) {
  const platform = await choosePlatform();
  const source = await platform.openSource(location);
  const key = options.key === undefined ? null : publicKey(options.key);
  const manifest = await readManifest(source, key);
  if (key !== null) {
    const contents = new Map();
    for (const name of manifest.files.keys()) {
      const content = await readHashed(source, manifest, name); // all of them, before any is parsed
      if (isParsed(manifest, name)) contents.set(name, content);
    }
    return openModel(platform, manifest, (name) => contents.get(name), options);
  }
  await checkSizes(source, manifest);
  return openModel(platform, manifest, (name) => readSized(source, manifest, name), options);
}

/** Prove the bundle in the folder `location`, check by check, as docs/bundle-format.md orders them. */
export async function verify(location, options = {}) {
  const platform = await choosePlatform();
  const source = await platform.openSource(location);
  const checks = [];
  const note = (result) => {
    checks.push(result);
    options.onCheck?.(result);
  };

  async function attempt(name, work) {
    try {
      const [value, detail] = await work();
      note({ name, ok: true, detail });
      return value;
    } catch (error) {
      if (!(error instanceof PocketformerError) || error instanceof UnavailableError) throw error;
      note({ name, ok: false, detail: error.message });
      return null;
    }
  }
  const report = () => ({ ok: checks.every(({ ok }) => ok), checks });

  const signed = options.key !== undefined;
  let raw = null;
  if (signed) {
    const key = publicKey(options.key);
    raw = await attempt("signature", async () => {
      const bytes = await readManifestBytes(source);
      await checkBundleSignature(source, bytes, key);
      return [bytes, "the manifest is signed by the owner of the key"];
    });
    if (raw === null) return report();
  }
  const manifest = await attempt("manifest", async () => {
    const read = parseManifest(raw ?? (await readManifestBytes(source)));
    return [read, `schema_version ${read.schemaVersion}, ${read.name}, ${read.precision}`];
  });
  if (manifest === null) return report();
  const contents = new Map();
  const whole = await checkFiles(source, manifest, contents);
  note(whole);
  if (signed && !whole.ok) return report(); // nothing that is not what was signed is parsed
  const content = (name) => contents.get(name) ?? readSized(source, manifest, name);
  const samples = await attempt("golden", async () => {
    const read = parseGolden(await content(manifest.goldenFile), manifest);
    return [read, `${read.length} samples`];
  });
  const model = await attempt("load", async () => {
    const opened = await openModel(platform, manifest, content, options);
    return [opened, `${opened.engine}, ${opened.labels.length} labels`];
  });
  if (model !== null && samples !== null) {
    try {
      for (const result of await model.replay(samples)) note(result);
    } finally {
      await model.close();
    }
  }
  return report();
}

/** One line for one check, as every host prints it. */
export function formatCheck({ name, ok, detail }) {
  return `${ok ? "ok  " : "FAIL"}  ${name.padEnd(NAME_WIDTH)} ${detail}`;
}

/** A text classifier out of a bundle; index.d.mts describes its methods. */
class Model {
  #session;
  #encoder;
  #last = Promise.resolve(); // a session of onnxruntime-web takes one call at a time

  constructor(manifest, { session, encoder, Tensor, engine }) {
    this.manifest = manifest;
    this.labels = manifest.labels;
    this.engine = engine;
    this.#session = session;
    this.#encoder = encoder;
    this.Tensor = Tensor;
  }

  async predict(texts) {
    if (!Array.isArray(texts)) throw new InputError("a list of texts is needed", "Put a single text in a list.");
    const encoded = texts.map((text) => this.encode(text));
    const answers = [];
    for (const [index, ids] of encoded.entries()) answers.push(this.#answer(texts[index], await this.run(ids)));
    return answers;
  }

  encode(text) {
    return this.#encoder.encode(text);
  }

  /** Every text alone, so that its answer does not depend on its company. */
  async logits(texts) {
    const rows = [];
    for (const text of texts) rows.push(await this.run(this.encode(text)));
    return rows;
  }

  run(ids) {
    const result = this.#last.then(() => this.#run(ids));
    this.#last = result.catch(() => {});
    return result;
  }

  async replay(samples) {
    const { labels } = this;
    return [
      checkTokenizer(samples, (text) => this.encode(text)),
      ...(await checkAnswers(samples, (ids) => this.run(ids), { labels, tolerance: this.manifest.tolerance })),
    ];
  }

  async close() {
    await this.#last;
    await this.#session.release();
  }

  async #run(ids) {
    const values = {
      input_ids: (index) => BigInt(ids[index]),
      attention_mask: () => 1n,
      token_type_ids: () => 0n,
    };
    const feeds = {};
    for (const name of this.#session.inputNames) {
      const data = BigInt64Array.from({ length: ids.length }, (_, index) => values[name](index));
      feeds[name] = new this.Tensor("int64", data, [1, ids.length]);
    }
    let output;
    try {
      output = (await this.#session.run(feeds))[this.#session.outputNames[0]];
    } catch (error) {
      throw new VerificationError(`the graph fails: ${firstLine(error)}`, DAMAGED);
    }
    if (output.dims.length !== 2 || output.dims[0] !== 1 || output.dims[1] !== this.labels.length) {
      throw new VerificationError(
        `the graph gives [${output.dims}], its manifest has ${this.labels.length} labels`,
        "Graph and manifest are of different bundles: copy the bundle again.",
      );
    }
    return Float32Array.from(output.data);
  }

  #answer(text, logits) {
    const probabilities = softmax(logits);
    const index = best(logits);
    return { text, label: this.labels[index], score: probabilities[index], probabilities, logits };
  }
}

function isParsed(manifest, name) {
  return [manifest.graph, manifest.preprocessing.tokenizerFile].includes(name);
}

async function checkFiles(source, manifest, contents) {
  const wrong = [];
  for (const name of manifest.files.keys()) {
    try {
      const content = await readHashed(source, manifest, name);
      if (isParsed(manifest, name) || name === manifest.goldenFile) contents.set(name, content);
    } catch (error) {
      if (!(error instanceof VerificationError)) throw error;
      wrong.push(error.message);
    }
  }
  return check("files", wrong, `${manifest.files.size} files, sizes and SHA-256 as stated`);
}

async function openModel(platform, manifest, content, options) {
  const { engine, session: settings, preprocessing } = manifest;
  if (engine.name !== "onnxruntime") {
    throw new UnavailableError(`the bundle is for ${engine.name}`, "Make a bundle for onnxruntime: this host has no other engine.");
  }
  if (!settings.providers.includes(CPU_PROVIDER)) {
    throw new UnavailableError(`the bundle runs on ${settings.providers.join(", ")} alone`, "This host has the processor only.");
  }
  const graph = await content(manifest.graph);
  checkSelfContained(graph, manifest.graph);
  const document = parseTokenizer(await content(preprocessing.tokenizerFile), preprocessing.tokenizerFile);
  const Tokenizer = options.tokenizers?.Tokenizer ?? (await platform.loadTokenizers()).Tokenizer;
  let encoder;
  try {
    encoder = createEncoder(document, { maxLength: preprocessing.maxLength, padId: preprocessing.padId }, Tokenizer);
  } catch (error) {
    if (error instanceof PocketformerError) throw error;
    throw new VerificationError(`${preprocessing.tokenizerFile} is no tokenizer: ${firstLine(error)}`, DAMAGED);
  }
  const runtime = await platform.loadRuntime(options, settings);
  if (olderThan(runtime.version, engine.minimumVersion)) {
    throw new UnavailableError(
      `the graph needs onnxruntime ${engine.minimumVersion}, here is ${runtime.version}`,
      "Install a newer onnxruntime package.",
    );
  }
  let session;
  try {
    session = await runtime.InferenceSession.create(graph, runtime.sessionOptions);
  } catch (error) {
    throw new VerificationError(`${manifest.graph} cannot be loaded: ${firstLine(error)}`, DAMAGED);
  }
  const stated = manifest.inputs.map(({ name }) => name);
  const inputs = session.inputNames;
  if (inputs.length !== new Set(stated).size || inputs.some((name) => !stated.includes(name) || !TEXT_INPUTS.includes(name))) {
    throw new VerificationError(
      `${manifest.graph} has the inputs ${[...inputs].sort().join(", ")}, its manifest says ${[...stated].sort().join(", ")}`,
      "Graph and manifest are of different bundles: copy the bundle again.",
    );
  }
  const model = new Model(manifest, { session, encoder, Tensor: runtime.Tensor, engine: runtime.name });
  await model.run(model.encode("a")); // refuses a graph of other labels, and the first call is the slow one
  return model;
}

function parseTokenizer(bytes, name) {
  try {
    return parsePlainJson(utf8(bytes, name));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new VerificationError(`${name} is not JSON: ${error.message}`, DAMAGED);
  }
}

function olderThan(version, minimum) {
  if (minimum === null || !version) return false;
  const [have, need] = [version, minimum].map((text) => text.split(".").map((part) => Number.parseInt(part, 10) || 0));
  for (let index = 0; index < need.length; index += 1) {
    if ((have[index] ?? 0) !== need[index]) return (have[index] ?? 0) < need[index];
  }
  return false;
}

function firstLine(error) {
  return String(error?.message ?? error).split("\n")[0].slice(0, 300);
}

function choosePlatform() {
  const node = typeof process === "object" && typeof process.versions?.node === "string";
  // A bundler for browsers need not follow the way into Node.
  return node ? import(/* webpackIgnore: true */ /* @vite-ignore */ "./platform_node.mjs") : import("./platform_web.mjs");
}
