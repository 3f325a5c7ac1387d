/**
 * JSON of a stranger: one meaning or none. Nesting is limited, a key stands once, objects become Maps (no key is special),
 * and whole numbers are told from decimals, as Python tells them: `1` becomes a bigint, `1.0` a number.
 */
export const DEEPEST = 64;

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const WORDS = new Map([["true", true], ["false", false], ["null", null]]);
const MOST_DIGITS = 100; // beyond any count, size or seed

/** The value of a JSON text; SyntaxError when it is none, or nested more than DEEPEST deep. */
export function parseJson(text) {
  let at = 0;

  function fail(what) {
    throw new SyntaxError(`${what} at character ${at}`);
  }

  function space() {
    for (;;) {
      const code = text.charCodeAt(at);
      if (code !== 32 && code !== 10 && code !== 13 && code !== 9) return;
      at += 1;
    }
  }

  function take(pattern) {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match !== null) at = pattern.lastIndex;
    return match;
  }

  function string() {
    // Split by hand where no escape is: a pattern that matches a megabyte may exhaust the engine's stack.
    const end = plainEnd(text, at + 1);
    if (text[end] === '"') {
      const value = text.slice(at + 1, end);
      at = end + 1;
      return value;
    }
    const close = closingQuote(text, at + 1);
    if (close < 0) fail("a text without an end");
    const value = JSON.parse(text.slice(at, close + 1));
    at = close + 1;
    return value;
  }

  function number() {
    const start = at;
    const match = take(NUMBER);
    if (match === null) fail("no JSON value");
    if (at - start > MOST_DIGITS) fail(`a number of more than ${MOST_DIGITS} digits`);
    return match[1] === undefined && match[2] === undefined ? BigInt(match[0]) : Number(match[0]);
  }

  function members(close, member) {
    at += 1;
    space();
    if (text[at] === close) {
      at += 1;
      return;
    }
    for (;;) {
      member();
      space();
      if (text[at] === close) break;
      if (text[at] !== ",") fail(`no "," or "${close}"`);
      at += 1;
    }
    at += 1;
  }

  function value(depth) {
    space();
    const first = text[at];
    if (depth >= DEEPEST && (first === "{" || first === "[")) fail(`nesting deeper than ${DEEPEST}`);
    if (first === "{") {
      const object = new Map();
      members("}", () => {
        space();
        if (text[at] !== '"') fail("a key that is no text");
        const key = string();
        space();
        if (text[at] !== ":") fail('no ":"');
        at += 1;
        if (object.has(key)) fail(`the key ${JSON.stringify(key.slice(0, 60))} a second time`);
        object.set(key, value(depth + 1));
      });
      return object;
    }
    if (first === "[") {
      const list = [];
      members("]", () => list.push(value(depth + 1)));
      return list;
    }
    if (first === '"') return string();
    for (const [word, meaning] of WORDS) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return meaning;
      }
    }
    return number();
  }

  const document = value(0);
  space();
  if (at !== text.length) fail("more than one JSON value");
  return document;
}

/** The same for what a library is to read: plain objects, once nothing in it is nested too deep. */
export function parsePlainJson(text) {
  let depth = 0;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === 0x22) {
      at = closingQuote(text, at + 1);
      if (at < 0) break; // JSON.parse says what is wrong
    } else if (code === 0x7b || code === 0x5b) {
      depth += 1;
      if (depth > DEEPEST) throw new SyntaxError(`nesting deeper than ${DEEPEST} at character ${at}`);
    } else if (code === 0x7d || code === 0x5d) {
      depth -= 1;
    }
  }
  return JSON.parse(text);
}

/** Maps and bigints as plain objects and numbers, for those who read them by hand. */
export function plain(value) {
  if (value instanceof Map) return Object.fromEntries(Array.from(value, ([key, item]) => [key, plain(item)]));
  if (Array.isArray(value)) return value.map(plain);
  return typeof value === "bigint" ? Number(value) : value;
}

function plainEnd(text, start) {
  let at = start;
  for (; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === 0x22 || code === 0x5c || code < 0x20) break;
  }
  return at;
}

function closingQuote(text, start) {
  for (let at = start; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === 0x5c) at += 1;
    else if (code === 0x22) return at;
  }
  return -1;
}
