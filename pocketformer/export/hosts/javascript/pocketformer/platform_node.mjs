/** What differs in Node: files come from the disk, libraries from node_modules. */
import { constants } from "node:fs";
import { lstat, open, stat } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { InputError, UnavailableError, VerificationError } from "./errors.mjs";

const OPTIMIZATION = { all: "all", extended: "extended", basic: "basic", none: "disabled" };
const ABSENT = ["ENOENT", "ENOTDIR"];

/** The bundle in a folder, given by its path or as a file: URL. */
export async function openSource(location) {
  const folder = location instanceof URL ? fileURLToPath(location) : String(location);
  const found = await stat(folder).catch(() => null);
  if (!found?.isDirectory()) {
    throw new InputError(`no bundle at ${folder}`, "Give the directory of a bundle, such as model/.");
  }
  return {
    describe: folder,
    size: async (name) => (await regularFile(folder, name))?.size ?? null,
    read: async (name, most) => read(folder, name, most),
  };
}

/** What lstat says of a file of the bundle; null where there is none. Links are refused, wherever they lead. */
async function regularFile(folder, name) {
  const parts = name.split("/");
  let place = folder;
  for (const [index, part] of parts.entries()) {
    place = path.join(place, part);
    const found = await lstat(place).catch((error) => {
      if (ABSENT.includes(error.code)) return null;
      throw new VerificationError(`${name} cannot be read: ${error.code}`);
    });
    if (found === null) return null;
    if (found.isSymbolicLink()) throw refused(name, "is, or lies below, a symbolic link");
    const last = index === parts.length - 1;
    if (last ? !found.isFile() : !found.isDirectory()) throw refused(name, "is no regular file");
    if (last) return found;
  }
  return null;
}

async function read(folder, name, most) {
  if ((await regularFile(folder, name)) === null) return null;
  const flags = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);
  let file;
  try {
    file = await open(path.join(folder, ...name.split("/")), flags);
    const found = await file.stat();
    if (!found.isFile()) throw refused(name, "is no regular file");
    if (found.size > most) {
      throw new VerificationError(`${name} has ${found.size} bytes, at most ${most} were expected`, "Copy the whole bundle again.");
    }
    const bytes = new Uint8Array(found.size);
    let at = 0;
    while (at < bytes.length) {
      const { bytesRead } = await file.read(bytes, at, bytes.length - at, at);
      if (bytesRead === 0) break;
      at += bytesRead;
    }
    return bytes.subarray(0, at);
  } catch (error) {
    if (error.code === undefined || error instanceof VerificationError) throw error;
    throw new VerificationError(`${name} cannot be read: ${error.code}`);
  } finally {
    await file?.close();
  }
}

function refused(name, what) {
  return new VerificationError(`${name} ${what}`, "A bundle holds regular files alone: copy the files themselves.");
}

/** The module of @huggingface/tokenizers. */
export async function loadTokenizers() {
  return installed("@huggingface/tokenizers");
}

/** onnxruntime-node, or WebAssembly where that is missing or asked for; and a session's options as the bundle says. */
export async function loadRuntime(options, settings) {
  let ort = options.onnxruntime ?? null;
  let native = options.engine !== "wasm";
  if (ort === null && native) ort = await import("onnxruntime-node").then(module, () => null);
  if (ort === null) {
    if (options.engine === "native") throw missing("onnxruntime-node", null);
    native = false;
    ort = module(await installed("onnxruntime-web/wasm"));
  }
  const threads = options.threads ?? settings.intraOpThreads;
  const sessionOptions = {
    executionProviders: [native ? "cpu" : "wasm"],
    graphOptimizationLevel: OPTIMIZATION[settings.graphOptimization],
    enableCpuMemArena: settings.memoryArena,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
    extra: { session: { intra_op: { allow_spinning: settings.spinning ? "1" : "0" } } },
  };
  if (native) {
    if (threads > 0) sessionOptions.intraOpNumThreads = threads;
  } else {
    ort.env.wasm.numThreads = Math.max(1, threads);
  }
  const versions = ort.env.versions;
  const version = (native ? versions?.node : versions?.web) ?? versions?.common;
  const name = `${native ? "onnxruntime-node" : "onnxruntime-web"} ${version}`;
  return { name, version, InferenceSession: ort.InferenceSession, Tensor: ort.Tensor, sessionOptions };
}

function module(loaded) {
  return loaded.InferenceSession === undefined ? loaded.default : loaded;
}

async function installed(name) {
  try {
    return await import(name);
  } catch (error) {
    throw missing(name, error);
  }
}

function missing(name, error) {
  const why = error === null ? "" : `: ${String(error.message).split("\n")[0]}`;
  return new UnavailableError(`${name} is not installed${why}`, "Run `npm install` beside package.json.");
}
