/** golden.jsonl, and the three steps that it holds a host to: text to ids, ids to logits, logits to answer. */
import { DAMAGED, PocketformerError, VerificationError } from "./errors.mjs";
import { parseJson } from "./json.mjs";
import { utf8 } from "./manifest.mjs";

const SCORE_TOLERANCE = 1e-6;
const MOST_SHOWN = 3; // failures that a detail spells out

/** The samples in `bytes`: {text, inputIds, logits, label, score}, score null where the file has none; for its manifest. */
export function parseGolden(bytes, { goldenFile: name, preprocessing }) {
  const samples = [];
  utf8(bytes, name).split("\n").forEach((line, index) => {
    if (line.trim() === "") return;
    try {
      samples.push(sample(parseJson(line), preprocessing.maxLength));
    } catch (error) {
      if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
      throw new VerificationError(`golden samples, line ${index + 1}: ${error.message}`, DAMAGED);
    }
  });
  if (samples.length === 0) {
    throw new VerificationError("there are no golden samples, so nothing can be replayed", "Write the bundle with golden texts.");
  }
  return samples;
}

function sample(row, maxLength) {
  if (!(row instanceof Map)) throw new TypeError("not a JSON object");
  const [text, label, ids, logits] = ["text", "label", "input_ids", "logits"].map((key) => {
    if (!row.has(key)) throw new TypeError(`'${key}' is missing`);
    return row.get(key);
  });
  if (typeof text !== "string" || typeof label !== "string") throw new TypeError("text and label must be text");
  if (!Array.isArray(ids) || !ids.every((id) => typeof id === "bigint" && id >= 0n && id < 2n ** 31n)) {
    throw new TypeError("input_ids must be a list of whole numbers from 0");
  }
  if (ids.length === 0 || ids.length > maxLength) throw new TypeError(`input_ids must be 1 to ${maxLength}`);
  const numbers = Array.isArray(logits) && logits.every((item) => ["bigint", "number"].includes(typeof item));
  if (!numbers || logits.length === 0) throw new TypeError("logits must be a list of numbers");
  const score = row.get("score") ?? null;
  const values = logits.map(Number);
  if (![...values, Number(score ?? 0)].every(Number.isFinite)) throw new TypeError("logits and score must be finite numbers");
  return { text, inputIds: ids.map(Number), logits: values, label, score: score === null ? null : Number(score) };
}

/** Index of the largest logit, the first of equals. */
export function best(logits) {
  let index = 0;
  logits.forEach((value, other) => {
    if (value > logits[index]) index = other;
  });
  return index;
}

/** Softmax over one row of logits, in double precision. */
export function softmax(logits) {
  const top = Math.max(...logits);
  const powers = Array.from(logits, (value) => Math.exp(value - top));
  const total = powers.reduce((sum, value) => sum + value, 0);
  return powers.map((value) => value / total);
}

/** The check `tokenizer`: all golden texts give their ids. */
export function checkTokenizer(samples, encode) {
  const wrong = [];
  for (const { text, inputIds } of samples) {
    const ids = encode(text);
    if (ids.length !== inputIds.length || ids.some((id, index) => id !== inputIds[index])) {
      wrong.push(`${short(text)} gives ids [${ids.join(", ")}] instead of [${inputIds.join(", ")}]`);
    }
  }
  return check("tokenizer", wrong, `${samples.length} of ${samples.length} texts give the same ids`);
}

/**
 * The checks `logits` and `labels`; `run(ids)` gives the logits of a batch of one.
 * With all logits within the tolerance t, the best label can change only where the golden logits of the two best are at
 * most 2 t apart; such a change is rounding, not damage, and is told but allowed.
 */
export async function checkAnswers(samples, run, { labels, tolerance }) {
  const wrongLogits = [];
  const wrongLabels = [];
  let worst = 0;
  let ties = 0;
  for (const sample of samples) {
    const text = short(sample.text);
    const expected = sample.logits;
    if (expected.length !== labels.length) {
      wrongLogits.push(`${text} has ${expected.length} golden logits for ${labels.length} labels`);
      continue;
    }
    const top = best(expected);
    if (labels[top] !== sample.label) {
      wrongLabels.push(`${text}: golden label '${sample.label}', golden logits say '${labels[top]}'`);
    }
    if (sample.score !== null && !(Math.abs(softmax(expected)[top] - sample.score) <= SCORE_TOLERANCE)) {
      wrongLabels.push(`${text}: golden score ${sample.score}, golden logits say ${softmax(expected)[top]}`);
    }
    let logits;
    try {
      logits = await run(sample.inputIds);
    } catch (error) {
      if (!(error instanceof PocketformerError)) throw error;
      wrongLogits.push(`${text}: ${error.message}`);
      continue;
    }
    const difference = expected.reduce((most, value, index) => larger(most, Math.abs(logits[index] - value)), 0);
    if (!(difference <= tolerance)) wrongLogits.push(`${text} differs by ${digits(difference)}`); // NaN must fail
    worst = larger(worst, difference);
    const answer = best(logits);
    if (answer !== top && expected[top] - expected[answer] > 2 * tolerance) {
      wrongLabels.push(`${text} is '${labels[answer]}' instead of '${sample.label}'`);
    } else if (answer !== top) {
      ties += 1;
    }
  }
  const same = `${samples.length - ties} of ${samples.length} labels are the same`;
  return [
    check("logits", wrongLogits, `largest difference ${digits(worst)}, allowed ${digits(tolerance)}`),
    check("labels", wrongLabels, same + (ties > 0 ? `, ${ties} nearly tied within the tolerance` : "")),
  ];
}

/** One check: it holds where nothing is wrong. */
export function check(name, wrong, good) {
  if (wrong.length === 0) return { name, ok: true, detail: good };
  const more = wrong.length > MOST_SHOWN ? `; and ${wrong.length - MOST_SHOWN} more` : "";
  return { name, ok: false, detail: wrong.slice(0, MOST_SHOWN).join("; ") + more };
}

function larger(one, other) {
  return Number.isNaN(one) || one > other ? one : other;
}

function digits(value) {
  return value !== 0 && value < 1e-4 ? value.toExponential(2) : String(Number(value.toPrecision(3)));
}

function short(text) {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 37)}...` : text);
}
