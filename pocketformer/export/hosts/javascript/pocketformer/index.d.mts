/** A Pocketformer bundle in a browser or in Node: load it, predict with it, prove it. */

/** The answer to one text. */
export interface Prediction {
  readonly text: string;
  /** The label of the largest logit. */
  readonly label: string;
  /** Its probability: the softmax over all logits. */
  readonly score: number;
  /** The probability of every label, in the order of `model.labels`. */
  readonly probabilities: readonly number[];
  readonly logits: Float32Array;
}

/** One thing that was checked, whether it holds, and what was seen. */
export interface Check {
  readonly name: "signature" | "manifest" | "files" | "golden" | "load" | "tokenizer" | "logits" | "labels";
  readonly ok: boolean;
  readonly detail: string;
}

export interface VerifyReport {
  readonly ok: boolean;
  readonly checks: readonly Check[];
}

export interface LoadOptions {
  /** An Ed25519 public key in PEM, from outside the bundle: nothing is parsed before the bundle's signature holds. */
  key?: string | Uint8Array;
  /** Threads for one call. Default: what the manifest says; in WebAssembly one, unless the manifest names a number. */
  threads?: number;
  /** Node only: "native" is onnxruntime-node, "wasm" onnxruntime-web. Default: the first that is installed. */
  engine?: "native" | "wasm";
  /** The module of onnxruntime-web or onnxruntime-node, for those who bundle it themselves. */
  onnxruntime?: unknown;
  /** The module of @huggingface/tokenizers, likewise. */
  tokenizers?: unknown;
}

export interface VerifyOptions extends LoadOptions {
  /** Called with every check as soon as it is made. */
  onCheck?: (check: Check) => void;
}

export interface Manifest {
  readonly schemaVersion: number;
  readonly name: string;
  readonly task: "text-classification";
  readonly target: string;
  readonly precision: string;
  readonly graph: string;
  readonly goldenFile: string;
  readonly labels: readonly string[];
  readonly tolerance: number;
  readonly preprocessing: {
    readonly kind: "text";
    readonly tokenizerFile: string;
    readonly maxLength: number;
    readonly padId: number;
  };
  readonly provenance: Readonly<Record<string, unknown>>;
  readonly runtime: Readonly<Record<string, string>>;
  readonly files: ReadonlyMap<string, { readonly sha256: string; readonly bytes: number }>;
}

export interface Model {
  readonly labels: readonly string[];
  readonly manifest: Manifest;
  /** The engine that runs the graph and its version, such as "onnxruntime-web 1.30.0". */
  readonly engine: string;
  /** The answers to the texts, in their order. Every text is computed alone: its answer depends on no other. */
  predict(texts: readonly string[]): Promise<Prediction[]>;
  /** The logits of every text. */
  logits(texts: readonly string[]): Promise<Float32Array[]>;
  /** The token ids of one text, special tokens included, cut off at the model's length. */
  encode(text: string): number[];
  /** Give back what the engine holds. */
  close(): Promise<void>;
}

/** Load the bundle in a folder: a URL, or in Node a path. Throws a PocketformerError. */
export function load(location: string | URL, options?: LoadOptions): Promise<Model>;

/**
 * Check a bundle and replay its golden samples. A damaged bundle gives `ok: false`, never an error; an UnavailableError
 * is thrown where this machine lacks what the bundle asks for, an InputError where there is no such folder.
 */
export function verify(location: string | URL, options?: VerifyOptions): Promise<VerifyReport>;

/** One line for one check, such as "ok    tokenizer   16 of 16 texts give the same ids". */
export function formatCheck(check: Check): string;

/** What was wrong and where; `hint` says what to do. */
export class PocketformerError extends Error {
  constructor(message: string, hint?: string);
  readonly hint: string;
  /** What the command line ends with: 2, 4 or 5. */
  readonly exitCode: number;
}
/** The caller gave something that cannot be used. */
export class InputError extends PocketformerError {}
/** This machine lacks what the bundle asks for. */
export class UnavailableError extends PocketformerError {}
/** The bundle is damaged, hostile, or does not answer as it should. */
export class VerificationError extends PocketformerError {}
