/** Serves the page on this machine: npm start, or PORT=9000 HOST=0.0.0.0 npm start. */
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";
import { pageFiles, prepare } from "./prepare.mjs";

const ROOT = path.dirname(fileURLToPath(import.meta.url));
const TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".jsonl": "application/jsonl",
  ".mjs": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
};
// What any host of this page should send. COOP and COEP let WebAssembly use several threads.
const HEADERS = {
  "Content-Security-Policy":
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
  "Cache-Control": "no-cache",
  Vary: "Accept-Encoding",
};
const COMPRESSORS = {
  br: (content) => promisify(brotliCompress)(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 6 } }),
  gzip: (content) => promisify(gzip)(content),
};

/** Answers for the files of the page alone: no path of a request ever reaches the disk. */
async function respond(files, kept, request, response) {
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.writeHead(405, { ...HEADERS, Allow: "GET, HEAD" }).end();
    return;
  }
  let asked;
  try {
    asked = decodeURIComponent(new URL(request.url, "http://localhost").pathname).slice(1) || "index.html";
  } catch {
    asked = "";
  }
  if (!files.has(asked)) {
    response.writeHead(404, { ...HEADERS, "Content-Type": "text/plain" }).end("not found\n");
    return;
  }
  const accepted = String(request.headers["accept-encoding"] ?? "").split(",").map((word) => word.trim().split(";")[0]);
  const encoding = Object.keys(COMPRESSORS).find((name) => accepted.includes(name)) ?? "identity";
  const key = `${encoding} ${asked}`;
  if (!kept.has(key)) kept.set(key, compressed(path.join(ROOT, asked), encoding));
  const content = await kept.get(key);
  const headers = {
    ...HEADERS,
    "Content-Type": TYPES[path.extname(asked)] ?? "application/octet-stream",
    "Content-Length": content.length,
  };
  if (encoding !== "identity") headers["Content-Encoding"] = encoding;
  response.writeHead(200, headers).end(request.method === "HEAD" ? undefined : content);
}

async function compressed(file, encoding) {
  const content = await readFile(file);
  return encoding === "identity" ? content : COMPRESSORS[encoding](content);
}

await prepare();
const files = new Set([...(await pageFiles()), "service-worker.js", "precache.js"]);
const kept = new Map();
const server = createServer((request, response) => {
  respond(files, kept, request, response).catch((error) => {
    process.stderr.write(`${error.stack}\n`);
    if (!response.headersSent) response.writeHead(500, HEADERS);
    response.end();
  });
});
server.listen(Number(process.env.PORT ?? 8080), process.env.HOST ?? "127.0.0.1", () => {
  const { address, port } = server.address();
  process.stdout.write(`http://${address === "127.0.0.1" ? "localhost" : address}:${port}/\n`);
});
