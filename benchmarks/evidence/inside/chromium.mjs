/**
 * A bundle in headless Chromium, with the verbs of every host's program and their exit codes.
 *
 *   node chromium.mjs --app APP --modules DIR verify  BUNDLE... [--key PUBLIC.pem]    a report a bundle, as JSON
 *   node chromium.mjs --app APP --modules DIR answers BUNDLE TEXTS.jsonl [--key PUBLIC.pem]
 *   node chromium.mjs --app APP --modules DIR tokens  BUNDLE TEXTS.jsonl
 *   node chromium.mjs --app APP --modules DIR transfer     bytes on the wire of every file of the page, as JSON
 *   node chromium.mjs --app APP --modules DIR page FOLDER  a visitor's way through the page, with pictures of two views
 *
 * APP is a web app as `bundle --for web` writes it, after `npm install`; DIR holds playwright-core, CHROMIUM may name the
 * browser. A page of the app fetches the bundle, which is served from its folder, links included.
 */
import { spawn } from "node:child_process";
import { readFile, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
];

const VIEWS = [
  ["wide-light", "light", 1280, 900],
  ["phone-dark", "dark", 390, 844],
];

/** The app served by its own server; `stop` ends it. */
async function serve(app) {
  const server = spawn(process.execPath, ["serve.mjs"], {
    cwd: app,
    env: { ...process.env, PORT: "0", HOST: "127.0.0.1" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const url = await new Promise((resolve, reject) => {
    server.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
    server.stdout.once("data", (line) => resolve(String(line).trim()));
  });
  return { url, stop: () => server.kill() };
}

/** Headless Chromium; nothing of it outlives `close`. */
function launch(modules) {
  const { chromium } = createRequire(path.join(path.resolve(modules), "any.js"))("playwright-core");
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
}

/** A page of the app whose model/ is the folder that `mount` was last given. */
async function bundlePage(browser, url) {
  const context = await browser.newContext({ serviceWorkers: "block" });
  let folder = null;
  await context.route("**/bundle/**", async (route) => {
    const name = decodeURIComponent(new URL(route.request().url()).pathname.replace(/^.*?\/bundle\/[0-9]+\//, ""));
    const file = path.join(folder, name);
    const found = await stat(file).catch(() => null);
    if (found?.isFile()) await route.fulfill({ path: file, contentType: "application/octet-stream" });
    else await route.fulfill({ status: 404, body: "not found" });
  });
  const page = await context.newPage();
  await page.goto(new URL("icon.svg", url).href); // of the same origin, and nothing runs in it yet
  let count = 0;
  return {
    page,
    mount(bundle) {
      folder = bundle;
      count += 1;
      return new URL(`bundle/${count}/`, url).href; // a new address, so that nothing comes out of a cache
    },
  };
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { app: { type: "string" }, modules: { type: "string" }, key: { type: "string" } },
  });
  const [verb, ...rest] = positionals;
  const key = values.key === undefined ? undefined : await readFile(values.key, "utf8");
  const { url, stop } = await serve(values.app);
  const browser = await launch(values.modules);
  try {
    if (verb === "transfer") return print(await transfer(browser, url));
    if (verb === "page") return print(await visit(browser, url, rest[0]));
    const { page, mount } = await bundlePage(browser, url);
    const module = new URL("pocketformer/index.mjs", url).href;
    if (verb === "verify") {
      let worst = 0;
      for (const bundle of rest) {
        const { exitCode, ...report } = await page.evaluate(verifyInPage, { module, location: mount(bundle), key });
        worst = Math.max(worst, exitCode);
        print(report);
      }
      return worst;
    }
    const texts = (await readFile(rest[1], "utf8")).split("\n").filter(Boolean); // as lines: no surrogate on the way
    const asked = { module, location: mount(rest[0]), key, texts, answers: verb === "answers" };
    (await page.evaluate(rowsInPage, asked)).forEach(print);
    return 0;
  } finally {
    await browser.close();
    stop();
  }
}

function print(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
  return 0;
}

async function verifyInPage({ module, location, key }) {
  const { verify } = await import(module);
  try {
    const report = await verify(location, { key });
    return { ...report, exitCode: report.ok ? 0 : 5 };
  } catch (error) {
    return { ok: false, checks: [], error: `${error.name}: ${error.message}`, exitCode: error.exitCode ?? 1 };
  }
}

async function rowsInPage({ module, location, key, texts, answers }) {
  const { load } = await import(module);
  const model = await load(location, { key });
  const rows = [];
  for (const line of texts) {
    const { text } = JSON.parse(line);
    const row = { input_ids: model.encode(text) };
    if (answers) {
      const [{ logits, label, score }] = await model.predict([text]);
      Object.assign(row, { logits: Array.from(logits), label, score });
    }
    rows.push(row);
  }
  return rows;
}

/** What a first visit brings over the wire, headers included: bytes by path. */
async function transfer(browser, url) {
  const context = await browser.newContext({ serviceWorkers: "block" });
  const page = await context.newPage();
  const sizes = {};
  const pending = [];
  page.on("requestfinished", (request) => {
    pending.push(request.sizes().then(({ responseBodySize, responseHeadersSize }) => {
      sizes[new URL(request.url()).pathname] = responseBodySize + responseHeadersSize;
    }));
  });
  await page.goto(url);
  await page.waitForSelector("html[data-ready]", { state: "attached" });
  await page.waitForLoadState("networkidle");
  await Promise.all(pending);
  return sizes;
}

/** What a visitor sees and does: pictures in both schemes and widths, a typed text, the self test, a visit without network. */
async function visit(browser, url, folder) {
  const seen = { problems: [] };
  for (const [name, colorScheme, width, height] of VIEWS) {
    const context = await browser.newContext({ colorScheme, viewport: { width, height } });
    const page = await context.newPage();
    page.on("pageerror", (error) => seen.problems.push(String(error)));
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) seen.problems.push(message.text());
    });
    const response = await page.goto(url);
    await page.waitForSelector("html[data-ready]", { state: "attached" });
    seen.headers = response.headers();
    seen.first = await page.textContent("#label");
    await page.screenshot({ path: path.join(folder, `${name}.png`), fullPage: true });
    seen.overflow = Math.max(seen.overflow ?? 0, await page.evaluate(() => document.documentElement.scrollWidth - innerWidth));
    if (name === VIEWS[0][0]) Object.assign(seen, await use(page, context, folder));
    await context.close();
  }
  return seen;
}

async function use(page, context, folder) {
  await page.keyboard.press("/");
  await page.keyboard.type("who is the old king ?");
  await page.waitForFunction(() => document.getElementById("time").textContent.endsWith("s"));
  await page.click("#selftest");
  await page.waitForSelector("#result:not([hidden])");
  const checks = await page.$$eval("#checks li", (items) => items.map((item) => `${item.dataset.name} ${item.dataset.ok}`));
  await page.screenshot({ path: path.join(folder, "self-test.png"), fullPage: true });
  await page.waitForSelector("#offline:not([hidden])");
  const typed = await page.inputValue("#text");
  page.removeAllListeners("console"); // what follows is refused, and the browser says so
  const scripts = await page.evaluate(tryScripts);
  await context.setOffline(true);
  await page.reload();
  await page.waitForSelector("html[data-ready]", { state: "attached" });
  const offline = await page.textContent("#label");
  await context.setOffline(false);
  return { checks, scripts, offline, typed };
}

/** What a script that came in by another way may do here; a timer, because the driver's own calls may evaluate. */
function tryScripts() {
  const made = document.createElement("script");
  made.textContent = "globalThis.inlineRan = true";
  document.head.append(made);
  return new Promise((resolve) => {
    setTimeout(() => {
      let evaluated = false;
      try {
        evaluated = new Function("return true")();
      } catch { /* as it should be */ }
      resolve({ inline: globalThis.inlineRan ?? false, evaluated });
    });
  });
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) process.exitCode = await main();
