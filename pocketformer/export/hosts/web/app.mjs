/** The demo page: live answers, what the model is, and its self test. */
import { PocketformerError, load, verify } from "./pocketformer/index.mjs";

const MODEL = "model/";
const MOST_EXAMPLES = 5;
const MOST_BARS = 12;
const LONGEST_EXAMPLE = 60;
const at = (id) => document.getElementById(id);

function element(tag, { text = "", className = "", data = {} } = {}, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  Object.assign(made.dataset, data);
  made.append(...children);
  return made;
}

function trouble(error) {
  at("trouble").textContent = error instanceof PocketformerError ? `${error.message}. ${error.hint}` : String(error);
  at("trouble").hidden = false;
}

function bytes(count) {
  return count < 1e6 ? `${Math.max(1, Math.round(count / 1e3))} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

function percent(share) {
  return `${(100 * share).toFixed(share > 0.9995 || share < 0.0995 ? 1 : 0)}%`;
}

function milliseconds(value) {
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

/** Bars stay where they are, so that the eye can follow one label while the text changes. */
function drawBars(model) {
  const bars = model.labels.slice(0, MOST_BARS).map((label) => {
    const fill = element("div", { className: "fill" });
    const share = element("span", { className: "share", text: "–" });
    const what = element("span", { className: "what", text: label });
    what.title = label;
    const item = element("li", {}, what, element("div", { className: "track" }, fill), share);
    at("bars").append(item);
    return { item, fill, share };
  });
  return (probabilities, best) => {
    bars.forEach(({ item, fill, share }, index) => {
      fill.style.setProperty("--share", probabilities[index].toFixed(4));
      share.textContent = percent(probabilities[index]);
      if (index === best) item.dataset.best = "";
      else delete item.dataset.best;
    });
  };
}

function answerLive(model) {
  const draw = drawBars(model);
  const most = model.manifest.preprocessing.maxLength;
  let busy = false;
  let again = false;

  async function answer() {
    if (busy) {
      again = true;
      return;
    }
    const text = at("text").value;
    if (text.trim() === "") {
      at("answer").dataset.state = "waiting";
      return;
    }
    busy = true;
    try {
      const start = performance.now();
      const [{ label, score, probabilities }] = await model.predict([text]);
      const took = performance.now() - start;
      const tokens = model.encode(text).length;
      at("label").textContent = label;
      at("score").textContent = percent(score);
      at("time").textContent = milliseconds(took);
      at("tokens").textContent = String(tokens);
      at("note").hidden = tokens < most;
      at("note").textContent = `The model reads ${most} tokens; what follows them is cut off.`;
      at("answer").dataset.state = "there";
      draw(probabilities, model.labels.indexOf(label));
    } catch (error) {
      trouble(error);
    } finally {
      busy = false;
    }
    if (again) {
      again = false;
      await answer();
    }
  }
  return answer;
}

async function examples() {
  const response = await fetch(new URL("golden.jsonl", new URL(MODEL, document.baseURI)));
  if (!response.ok) return [];
  const rows = (await response.text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
  const short = rows.filter(({ text }) => text.trim() !== "" && text.length <= LONGEST_EXAMPLE);
  // One for each label first, then whatever comes.
  const seen = new Set();
  const first = short.filter(({ label }) => !seen.has(label) && seen.add(label));
  return [...new Set([...first, ...short])].slice(0, MOST_EXAMPLES).map(({ text }) => text);
}

function offerExamples(texts, answer) {
  const buttons = texts.map((text) => {
    const button = element("button", { text });
    button.type = "button";
    button.title = text;
    button.addEventListener("click", () => {
      at("text").value = text;
      mark();
      answer();
    });
    return button;
  });
  const mark = () => buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.title === at("text").value)));
  at("examples").append(...buttons);
  at("text").addEventListener("input", mark);
  return mark;
}

function tellFacts(model, loaded) {
  const { manifest } = model;
  const graph = manifest.files.get(manifest.graph).bytes;
  const all = Array.from(manifest.files.values(), (entry) => entry.bytes).reduce((sum, size) => sum + size, 0);
  at("size").textContent = bytes(graph);
  at("name").textContent = manifest.name;
  at("engine").textContent = model.engine;
  document.title = `${manifest.name} · Pocketformer`;
  const facts = {
    Model: manifest.name,
    Task: `${manifest.task.replaceAll("-", " ")}, ${model.labels.length} labels`,
    Precision: manifest.precision,
    Size: `${bytes(graph)}; with its tokenizer ${bytes(all)}`,
    Reads: `up to ${manifest.preprocessing.maxLength} tokens`,
    Engine: `${model.engine}, WebAssembly`,
    Loaded: `in ${milliseconds(loaded)}`,
  };
  for (const [name, value] of Object.entries(facts)) {
    at("facts").append(element("div", {}, element("dt", { text: name }), element("dd", { text: value })));
  }
}

async function selfTest() {
  const button = at("selftest");
  button.disabled = true;
  at("checks").replaceChildren();
  at("checks").hidden = false;
  at("result").hidden = true;
  try {
    const { ok } = await verify(MODEL, {
      onCheck: ({ name, ok: holds, detail }) => {
        at("checks").append(
          element("li", { data: { name, ok: String(holds) } },
            element("span", { className: "sign", text: holds ? "✓" : "✗" }),
            element("span", { className: "step", text: name }),
            element("span", { className: "detail", text: detail })),
        );
      },
    });
    at("result").textContent = ok ? "All checks hold." : "This bundle does not answer as it should.";
    at("result").dataset.ok = String(ok);
    at("result").hidden = false;
  } catch (error) {
    trouble(error);
  } finally {
    button.textContent = "Run it again";
    button.disabled = false;
  }
}

async function copySnippet() {
  try {
    await navigator.clipboard.writeText(at("snippet").textContent);
    at("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(at("snippet"));
    at("copy").textContent = "Selected";
  }
  setTimeout(() => { at("copy").textContent = "Copy"; }, 1500);
}

/** After the first visit everything comes out of the browser's cache. */
async function keepOffline() {
  if (!("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register("service-worker.js");
    await navigator.serviceWorker.ready;
    at("offline").hidden = false;
  } catch {
    // not over https: the page works, with the network alone
  }
}

async function start() {
  at("copy").addEventListener("click", copySnippet);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !(event.target instanceof HTMLTextAreaElement) && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      at("text").focus();
      at("text").select();
    }
  });
  try {
    const before = performance.now();
    const [model, texts] = await Promise.all([load(MODEL), examples()]);
    tellFacts(model, performance.now() - before);
    const answer = answerLive(model);
    const mark = offerExamples(texts, answer);
    at("text").addEventListener("input", answer);
    if (at("text").value === "") at("text").value = texts[0] ?? "";
    mark();
    await answer();
    at("selftest").addEventListener("click", selfTest);
    at("selftest").disabled = false;
    document.documentElement.dataset.ready = "";
  } catch (error) {
    trouble(error);
    at("engine").textContent = "could not start";
  }
  await keepOffline();
}

start();
