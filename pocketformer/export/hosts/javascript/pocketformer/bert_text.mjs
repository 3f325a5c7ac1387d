/**
 * BERT's normalizer and pre-tokenizer as the Python library `tokenizers` has them, character for character.
 *
 * @huggingface/tokenizers does both with the Unicode functions of the engine it runs in, which are of another version in
 * every browser, take characters beyond U+FFFF for two, and lower a final sigma by its place. These use tables instead.
 */
import * as tables from "./unicode_tables.mjs";

const REMOVED = 1;
const WHITE = 2;
const PUNCTUATION = 4;
const SPACED = 8;
const NONSPACING = 16;
const SPACE = 0x20;
const DOTTED_I = 0x130; // the only capital whose small form is two characters
const HANGUL = { first: 0xac00, last: 0xd7a3, lead: 0x1100, vowel: 0x1161, tail: 0x11a7, vowels: 21, tails: 28 };
const CHUNK = 4096; // code points for one call of String.fromCodePoint, whose arguments go on the stack

let unicode = null;

function readTables() {
  const flags = new Uint8Array(0x110000);
  const bits = { REMOVED, WHITE, PUNCTUATION, SPACED, NONSPACING };
  for (const [name, bit] of Object.entries(bits)) {
    eachRange(tables[name], (first, last) => {
      for (let point = first; point <= last; point += 1) flags[point] |= bit;
    });
  }
  const combining = new Map();
  eachRange(tables.COMBINING, (first, last, [order]) => {
    for (let point = first; point <= last; point += 1) combining.set(point, order);
  });
  const lower = new Map();
  eachRange(tables.LOWER, (first, last, [step, difference]) => {
    for (let point = first; point <= last; point += step) lower.set(point, point + difference);
  });
  const decomposed = new Map();
  let at = 0;
  for (const row of tables.DECOMPOSED.split(" ")) {
    const [gap, ...points] = numbers(row);
    at += gap;
    decomposed.set(at, points);
  }
  return { flags, combining, lower, decomposed };
}

function eachRange(text, use) {
  let before = 0;
  for (const row of text.split(" ")) {
    const [gap, more, ...rest] = numbers(row);
    const first = before + gap;
    before = first + more;
    use(first, before, rest);
  }
}

function numbers(row) {
  return row.split(".").map((digits) => Number.parseInt(digits, 36));
}

/** A function from a text to its normal form; `settings` are those of a BertNormalizer in tokenizer.json. */
export function bertNormalizer(settings) {
  unicode ??= readTables();
  const { flags, combining, lower, decomposed } = unicode;
  const clean = settings.clean_text;
  const space = settings.handle_chinese_chars;
  const lowercase = settings.lowercase;
  const strip = settings.strip_accents ?? lowercase;

  function small(point, output) {
    if (!lowercase) output.push(point);
    else if (point < 0x80) output.push(point >= 0x41 && point <= 0x5a ? point + 0x20 : point);
    else if (point === DOTTED_I) output.push(0x69, 0x307);
    else output.push(lower.get(point) ?? point);
  }

  return (text) => {
    const output = [];
    let marks = []; // since the last character that is none: what NFD puts in the order of their classes

    function settle() {
      if (marks.length > 1) marks.sort((one, other) => one.order - other.order); // stable
      for (const { point } of marks) if ((flags[point] & NONSPACING) === 0) small(point, output);
      marks = [];
    }

    function put(point) {
      const order = combining.get(point);
      if (order !== undefined) {
        marks.push({ point, order });
        return;
      }
      if (marks.length > 0) settle();
      if ((flags[point] & NONSPACING) === 0) small(point, output);
    }

    function decompose(point) {
      if (!strip) {
        small(point, output);
      } else if (point < 0x80) {
        if (marks.length > 0) settle();
        small(point, output);
      } else if (point >= HANGUL.first && point <= HANGUL.last) {
        const index = point - HANGUL.first;
        const tail = index % HANGUL.tails;
        put(HANGUL.lead + Math.floor(index / (HANGUL.vowels * HANGUL.tails)));
        put(HANGUL.vowel + (Math.floor(index / HANGUL.tails) % HANGUL.vowels));
        if (tail > 0) put(HANGUL.tail + tail);
      } else {
        const parts = decomposed.get(point);
        if (parts === undefined) put(point);
        else parts.forEach(put);
      }
    }

    for (let at = 0; at < text.length; at += 1) {
      let point = text.codePointAt(at);
      if (point > 0xffff) at += 1;
      const flag = flags[point];
      if (clean) {
        if ((flag & REMOVED) !== 0) continue;
        if ((flag & WHITE) !== 0) point = SPACE;
      }
      if (space && (flag & SPACED) !== 0) {
        decompose(SPACE);
        decompose(point);
        decompose(SPACE);
      } else {
        decompose(point);
      }
    }
    settle();
    return textOf(output);
  };
}

/** A function from a normal text to its words, of which it stops at `most`: what follows would be cut off anyway. */
export function bertPreTokenizer(most) {
  unicode ??= readTables();
  const { flags } = unicode;
  return (text) => {
    const words = [];
    let start = 0;
    let at = 0;
    while (at < text.length && words.length < most) {
      const point = text.codePointAt(at);
      const width = point > 0xffff ? 2 : 1;
      const flag = flags[point];
      if ((flag & (WHITE | PUNCTUATION)) !== 0) {
        if (at > start) words.push(text.slice(start, at));
        start = at + width;
        if ((flag & WHITE) === 0) words.push(text.slice(at, start));
      }
      at += width;
    }
    if (words.length < most && at > start) words.push(text.slice(start, at));
    return words;
  };
}

function textOf(points) {
  let text = "";
  for (let start = 0; start < points.length; start += CHUNK) {
    text += String.fromCodePoint(...points.slice(start, start + CHUNK));
  }
  return text;
}
