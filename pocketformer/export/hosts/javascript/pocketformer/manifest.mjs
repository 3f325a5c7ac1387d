/** manifest.json: every field checked as docs/bundle-format.md says; what is wrong is named by its place. */
import { DAMAGED, VerificationError, shown } from "./errors.mjs";
import { parseJson, plain } from "./json.mjs";

export const MANIFEST = "manifest.json";
export const SIGNATURE = "manifest.json.sig";
export const SCHEMA_VERSION = 1;
export const MEBIBYTE = 2 ** 20;
/** Largest sizes in bytes; any other file may be as large as a graph. */
export const LIMITS = Object.freeze({
  manifest: MEBIBYTE,
  golden: 16 * MEBIBYTE,
  tokenizer: 64 * MEBIBYTE,
  graph: 2048 * MEBIBYTE,
  files: 1000,
});
export const TEXT_INPUTS = Object.freeze(["input_ids", "attention_mask", "token_type_ids"]);
const LARGEST_LENGTH = 2 ** 20;
const LARGEST_ID = 2 ** 31 - 1;
const WHOLE = Number.MAX_SAFE_INTEGER;

/** The manifest in `bytes`; VerificationError where it is not one. */
export function parseManifest(bytes) {
  const text = utf8(bytes, MANIFEST);
  let document;
  try {
    document = parseJson(text);
    checkSurrogates(document);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new VerificationError(`${MANIFEST} is not JSON: ${error.message}`, DAMAGED);
  }
  if (!(document instanceof Map)) throw wrong("the document", "a JSON object", document);
  const top = new Fields("", document);
  const version = top.integer("schema_version", 1);
  if (version > SCHEMA_VERSION) {
    throw new VerificationError(
      `${MANIFEST} has schema_version ${version}; this version reads up to ${SCHEMA_VERSION}`,
      "A newer pocketformer wrote this bundle: write the app again with `pocketformer bundle`.",
    );
  }
  const preprocessing = top.object("preprocessing");
  const postprocessing = top.object("postprocessing");
  const manifest = {
    schemaVersion: version,
    name: top.text("name"),
    task: top.choice("task", ["text-classification"]),
    target: top.text("target"),
    precision: top.text("precision"),
    graph: top.file("graph"),
    inputs: top.objects("inputs").map(tensor),
    outputs: top.objects("outputs").map(tensor),
    preprocessing: {
      kind: preprocessing.choice("kind", ["text"]),
      tokenizerFile: preprocessing.file("tokenizer_file"),
      maxLength: preprocessing.integer("max_length", 1, LARGEST_LENGTH),
      padId: preprocessing.integer("pad_id", 0, LARGEST_ID),
    },
    labels: (postprocessing.choice("kind", ["softmax_labels"]), postprocessing.names("labels")),
    engine: top.has("engine") ? engine(top.object("engine")) : { name: "onnxruntime", minimumVersion: null },
    session: session(top.object("session")),
    goldenFile: top.file("golden_file"),
    tolerance: top.number("tolerance"),
    provenance: plain(top.mapping("provenance")),
    runtime: texts(top.object("runtime")),
    files: files(top.mapping("files")),
  };
  checkNames(manifest);
  return Object.freeze(manifest);
}

/** UTF-8 of `bytes`, nothing repaired. */
export function utf8(bytes, name) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new VerificationError(`${name} is not UTF-8`, DAMAGED);
  }
}

/** The most bytes that the file `name` may have. */
export function limitOf(manifest, name) {
  if (name === manifest.goldenFile) return LIMITS.golden;
  return name === manifest.preprocessing.tokenizerFile ? LIMITS.tokenizer : LIMITS.graph;
}

/** SyntaxError where a text holds half a surrogate pair: UTF-8 cannot hold it, and readers differ in what they make of it. */
function checkSurrogates(value) {
  if (typeof value === "string") {
    if (/[\uD800-\uDFFF]/u.test(value)) throw new SyntaxError("a text holds half a surrogate pair");
  } else if (value instanceof Map) {
    value.forEach((item, key) => {
      checkSurrogates(key);
      checkSurrogates(item);
    });
  } else if (Array.isArray(value)) {
    value.forEach(checkSurrogates);
  }
}

function wrong(place, wanted, value) {
  return new VerificationError(`${MANIFEST}: ${place} must be ${wanted}, not ${shown(value)}`, DAMAGED);
}

/** Refuse a name that leads out of the bundle or means different files on different systems. */
function checkFileName(place, name) {
  const parts = name.split("/");
  if (parts.some((part) => ["", ".", ".."].includes(part)) || /[\\:\0]/.test(name) || [MANIFEST, SIGNATURE].includes(name)) {
    throw wrong(place, "a path inside the bundle with forward slashes", name);
  }
  return name;
}

class Fields {
  constructor(place, values) {
    this.place = place;
    this.values = values;
  }

  at(key) {
    return this.place ? `${this.place}.${key}` : key;
  }

  get(key, fits, wanted) {
    if (!this.values.has(key)) throw new VerificationError(`${MANIFEST}: ${this.at(key)} is missing`, DAMAGED);
    const value = this.values.get(key);
    if (!fits(value)) throw wrong(this.at(key), wanted, value);
    return value;
  }

  has(key) {
    return this.values.has(key);
  }

  text(key) {
    return this.get(key, (value) => typeof value === "string" && value !== "", "text that is not empty");
  }

  optionalText(key) {
    return (this.values.get(key) ?? null) === null ? null : this.text(key);
  }

  choice(key, choices) {
    return this.get(key, (value) => choices.includes(value), `one of ${choices.join(", ")}`);
  }

  file(key) {
    return checkFileName(this.at(key), this.text(key));
  }

  integer(key, least, most = WHOLE) {
    const fits = (value) => typeof value === "bigint" && value >= BigInt(least) && value <= BigInt(most);
    const span = `a whole number of at least ${least}${most === WHOLE ? "" : ` and at most ${most}`}`;
    return Number(this.get(key, fits, span));
  }

  number(key) {
    const fits = (value) =>
      typeof value === "bigint" ? value >= 0n && value <= 2n ** 53n : Number.isFinite(value) && value >= 0;
    return Number(this.get(key, fits, "a finite number of at least 0"));
  }

  boolean(key) {
    return this.get(key, (value) => typeof value === "boolean", "true or false");
  }

  mapping(key) {
    return this.get(key, (value) => value instanceof Map, "an object");
  }

  object(key) {
    return new Fields(this.at(key), this.mapping(key));
  }

  array(key) {
    return this.get(key, (value) => Array.isArray(value) && value.length > 0, "a list that is not empty");
  }

  objects(key) {
    return this.array(key).map((item, index) => {
      const place = `${this.at(key)}[${index}]`;
      if (!(item instanceof Map)) throw wrong(place, "an object", item);
      return new Fields(place, item);
    });
  }

  names(key) {
    const seen = new Set();
    this.array(key).forEach((item, index) => {
      if (typeof item !== "string" || item === "" || seen.has(item)) {
        throw wrong(`${this.at(key)}[${index}]`, "text that is neither empty nor a repetition", item);
      }
      seen.add(item);
    });
    return Object.freeze([...seen]);
  }
}

function tensor(fields) {
  return { name: fields.text("name"), dtype: fields.text("dtype"), axes: fields.names("axes") };
}

function engine(fields) {
  const minimumVersion = fields.optionalText("minimum_version");
  if (minimumVersion !== null && !/^[0-9]+(\.[0-9]+)*$/.test(minimumVersion)) {
    throw wrong("engine.minimum_version", "numbers with dots", minimumVersion);
  }
  return { name: fields.choice("name", ["onnxruntime", "openvino", "tensorrt", "tensorrt_rtx"]), minimumVersion };
}

function session(fields) {
  return {
    intraOpThreads: fields.integer("intra_op_threads", 0, 1024),
    spinning: fields.boolean("spinning"),
    graphOptimization: fields.choice("graph_optimization", ["all", "extended", "basic", "none"]),
    memoryArena: fields.boolean("memory_arena"),
    providers: fields.has("providers") ? fields.names("providers") : ["CPUExecutionProvider"],
  };
}

function texts(fields) {
  return Object.fromEntries(Array.from(fields.values.keys(), (key) => [key, fields.text(key)]));
}

function files(entries) {
  if (entries.size > LIMITS.files) {
    throw wrong("files", `an object of at most ${LIMITS.files} entries`, `${entries.size} entries`);
  }
  const listed = new Map();
  for (const [name, entry] of entries) {
    const place = `files[${shown(name)}]`;
    checkFileName(place, name);
    if (!(entry instanceof Map)) throw wrong(place, "an object", entry);
    const fields = new Fields(place, entry);
    const sha256 = fields.text("sha256");
    if (!/^[0-9a-f]{64}$/.test(sha256)) throw wrong(`${place}.sha256`, "64 lower-case hexadecimal digits", sha256);
    listed.set(name, { sha256, bytes: fields.integer("bytes", 0) });
  }
  return listed;
}

/** What no single field can tell: the files named are listed and not too large, and the inputs can be filled. */
function checkNames(manifest) {
  const named = {
    graph: manifest.graph,
    golden_file: manifest.goldenFile,
    "preprocessing.tokenizer_file": manifest.preprocessing.tokenizerFile,
  };
  const xml = manifest.graph.endsWith(".xml"); // with its weights in a file beside it
  if (!/\.(onnx|xml|engine)$/.test(manifest.graph) || (xml && manifest.engine.name !== "openvino")) {
    throw wrong("graph", `a file that ${manifest.engine.name} reads, by its end`, manifest.graph);
  }
  if (xml) named["the weights of graph"] = manifest.graph.replace(/\.xml$/, ".bin");
  for (const [place, name] of Object.entries(named)) {
    if (!manifest.files.has(name)) throw wrong(place, "a file listed in `files`", name);
  }
  for (const [name, { bytes }] of manifest.files) {
    const most = limitOf(manifest, name);
    if (bytes > most) throw wrong(`files[${shown(name)}].bytes`, `at most ${most}`, bytes);
  }
  manifest.inputs.forEach(({ name, dtype }, index) => {
    if (!TEXT_INPUTS.includes(name)) throw wrong(`inputs[${index}].name`, `one of ${TEXT_INPUTS.join(", ")}`, name);
    if (dtype !== "int64") throw wrong(`inputs[${index}].dtype`, "'int64'", dtype);
  });
}
