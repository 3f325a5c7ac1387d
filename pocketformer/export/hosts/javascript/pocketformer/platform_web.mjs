/** What differs in a browser: files come by fetch, libraries from vendor/ beside this folder. */
import { InputError, UnavailableError, VerificationError } from "./errors.mjs";

const VENDOR = new URL("../vendor/", import.meta.url);
const OPTIMIZATION = { all: "all", extended: "extended", basic: "basic", none: "disabled" };

/** The bundle at a URL, absolute or relative to the page. */
export function openSource(location) {
  const base = new URL(String(location), globalThis.document?.baseURI ?? globalThis.location?.href);
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  return {
    describe: base.href,
    size: async () => undefined, // a server that compresses does not tell
    read: async (name, most) => read(base, name, most),
  };
}

async function read(base, name, most) {
  const url = new URL(name.split("/").map(encodeURIComponent).join("/"), base);
  let response;
  try {
    response = await fetch(url, { redirect: "error" }); // a redirect may lead out of the bundle
  } catch (error) {
    throw new InputError(`${url.href} cannot be fetched: ${error.message}`, "Is the server running, and this page from it?");
  }
  if (response.status === 404) return null;
  if (!response.ok) throw new VerificationError(`${name} cannot be read: HTTP status ${response.status}`);
  return collect(response, name, most);
}

/** All bytes of a response, which is left as soon as there are more than `most`. */
async function collect(response, name, most) {
  const parts = [];
  let length = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > most) {
      await reader.cancel();
      throw new VerificationError(`${name} has more than ${most} bytes`, "Copy the whole bundle again.");
    }
    parts.push(value);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** The module of @huggingface/tokenizers. */
export function loadTokenizers() {
  return vendored("tokenizers.min.mjs");
}

/** onnxruntime as WebAssembly, and how to make a session as the bundle asks for. */
export async function loadRuntime(options, settings) {
  const ort = options.onnxruntime ?? (await vendored("ort.wasm.min.mjs"));
  if (options.onnxruntime === undefined) {
    ort.env.wasm.wasmPaths = {
      mjs: new URL("ort-wasm-simd-threaded.mjs", VENDOR).href,
      wasm: new URL("ort-wasm-simd-threaded.wasm", VENDOR).href,
    };
  }
  // Waking other threads costs a small model more than they save, and needs a page that is cross-origin isolated.
  ort.env.wasm.numThreads = options.threads ?? Math.max(1, settings.intraOpThreads);
  const version = ort.env.versions?.web ?? ort.env.versions?.common;
  return {
    name: `onnxruntime-web ${version}`,
    version,
    InferenceSession: ort.InferenceSession,
    Tensor: ort.Tensor,
    sessionOptions: {
      executionProviders: ["wasm"],
      graphOptimizationLevel: OPTIMIZATION[settings.graphOptimization],
      enableCpuMemArena: settings.memoryArena,
      logSeverityLevel: 3,
    },
  };
}

async function vendored(file) {
  const url = new URL(file, VENDOR).href;
  try {
    return await import(/* webpackIgnore: true */ /* @vite-ignore */ url);
  } catch (error) {
    throw new UnavailableError(`${url} cannot be loaded: ${error.message}`, "Fill vendor/ with `npm install`.");
  }
}
