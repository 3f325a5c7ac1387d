/** Copies the libraries out of node_modules into vendor/, and lists every file by its hash for the service worker. */
import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const ROOT = path.dirname(fileURLToPath(import.meta.url));
const LIBRARIES = {
  "onnxruntime-web": ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"],
  "@huggingface/tokenizers": ["tokenizers.min.mjs"],
};
const PAGE = ["index.html", "app.css", "app.mjs", "icon.svg", "app.webmanifest"];
const FOLDERS = ["pocketformer", "vendor", "model"];
const LEFT_OUT = ["pocketformer/index.d.mts", "pocketformer/platform_node.mjs"];

async function copyLibraries() {
  const vendor = path.join(ROOT, "vendor");
  await mkdir(vendor, { recursive: true });
  const require = createRequire(import.meta.url);
  for (const [name, files] of Object.entries(LIBRARIES)) {
    // The package's folder: its main file lies in dist/, and not every package lets package.json be asked for.
    const dist = path.dirname(require.resolve(name));
    for (const file of files) await copyFile(path.join(dist, file), path.join(vendor, file));
  }
}

async function filesBelow(folder) {
  const found = [];
  for (const entry of await readdir(path.join(ROOT, folder), { withFileTypes: true })) {
    const name = `${folder}/${entry.name}`;
    if (entry.isDirectory()) found.push(...(await filesBelow(name)));
    else if (entry.isFile()) found.push(name);
  }
  return found.sort();
}

/** The files of the page, without what a visitor never asks for. */
export async function pageFiles() {
  const below = await Promise.all(FOLDERS.map(filesBelow));
  return [...PAGE, ...below.flat().filter((name) => !LEFT_OUT.includes(name))];
}

async function writePrecache() {
  const files = {};
  const whole = createHash("sha256");
  for (const name of await pageFiles()) {
    const digest = createHash("sha256").update(await readFile(path.join(ROOT, name))).digest("base64");
    files[name.split("/").map(encodeURIComponent).join("/")] = `sha256-${digest}`;
    whole.update(`${name} ${digest}\n`);
  }
  files["./"] = files["index.html"];
  const list = { version: whole.digest("hex").slice(0, 16), files };
  await writeFile(path.join(ROOT, "precache.js"), `self.PRECACHE = ${JSON.stringify(list, null, 1)};\n`);
}

/** Everything that the page needs before it can be served. */
export async function prepare() {
  await copyLibraries();
  await writePrecache();
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await prepare();
