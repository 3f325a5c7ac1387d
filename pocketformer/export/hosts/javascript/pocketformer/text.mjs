/** From a text to token ids, equal to what the Python library `tokenizers` gives; what was not proven equal is refused. */
import { bertNormalizer, bertPreTokenizer } from "./bert_text.mjs";
import { InputError, UnavailableError, VerificationError, DAMAGED, shown } from "./errors.mjs";

const KNOWN_MODELS = ["BPE", "Unigram", "WordLevel", "WordPiece"];

/**
 * `encode(text)` gives the token ids of one text, special tokens included, cut off at `maxLength`.
 * `document` is the parsed tokenizer.json, `Tokenizer` the class of @huggingface/tokenizers.
 * VerificationError for a file that is no tokenizer, UnavailableError for a kind that this host does not do.
 */
export function createEncoder(document, { maxLength, padId }, Tokenizer) {
  const { before, after, vocabulary } = checkTokenizer(document);
  const room = maxLength - before.length - after.length;
  if (room <= 0) {
    const special = before.length + after.length;
    throw new VerificationError(
      `max_length is ${maxLength}, but the tokenizer adds ${special} special tokens to every text`,
      `Use a max_length above ${special}.`,
    );
  }
  // The library splits off added tokens and cuts words into pieces; normalizing and splitting into words is ours.
  const tokenizer = new Tokenizer(
    { ...document, normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null },
    {},
  );
  tokenizer.normalizer = bertNormalizer(document.normalizer);
  tokenizer.pre_tokenizer = bertPreTokenizer(room);
  return {
    encode(text) {
      if (typeof text !== "string") throw new InputError(`${shown(text)} is not a text`, "Every item must be a string.");
      const pieces = tokenizer.tokenize(wellFormed(text)).slice(0, room);
      const ids = [...before, ...pieces.map((piece) => vocabulary.get(piece)), ...after];
      return ids.length > 0 ? ids : [padId];
    },
  };
}

/** The text with U+FFFD for every lone surrogate, as UTF-8 wants it. */
export function wellFormed(text) {
  return text.replace(/[\uD800-\uDFFF]/gu, "\uFFFD"); // with the flag u, a pair is one character and no match
}

function checkTokenizer(document) {
  const broken = (what) => new VerificationError(`the tokenizer ${what}`, DAMAGED);
  const unproven = (what) =>
    new UnavailableError(
      `this host does not read a tokenizer with ${what}`,
      "It reads the WordPiece tokenizers of the BERT family, which are proven to give Python's ids. Use the Python runtime.",
    );
  if (!isObject(document) || !isObject(document.model)) throw broken("is no tokenizer.json");
  const { model, normalizer, pre_tokenizer: preTokenizer } = document;
  if (model.type !== "WordPiece") {
    if (KNOWN_MODELS.includes(model.type)) throw unproven(`a ${model.type} model`);
    throw broken("is of no known kind");
  }
  if (normalizer?.type !== "BertNormalizer") throw unproven(`the normalizer ${shown(normalizer?.type ?? null)}`);
  for (const key of ["clean_text", "handle_chinese_chars", "lowercase"]) {
    if (typeof normalizer[key] !== "boolean") throw broken(`has no true or false at normalizer.${key}`);
  }
  if (![true, false, null, undefined].includes(normalizer.strip_accents)) {
    throw broken("has no true, false or null at normalizer.strip_accents");
  }
  if (preTokenizer?.type !== "BertPreTokenizer") throw unproven(`the pre-tokenizer ${shown(preTokenizer?.type ?? null)}`);
  if (!isObject(model.vocab)) throw broken("has no vocabulary");
  const vocabulary = new Map(Object.entries(model.vocab));
  for (const [piece, id] of vocabulary) {
    if (!isId(id)) throw broken(`gives ${shown(piece)} no id`);
  }
  if (!vocabulary.has(model.unk_token)) throw broken("has no token for what it does not know");
  if (typeof model.continuing_subword_prefix !== "string" || !isId(model.max_input_chars_per_word)) {
    throw broken("lacks continuing_subword_prefix or max_input_chars_per_word");
  }
  for (const token of document.added_tokens ?? []) {
    if (!isObject(token) || typeof token.content !== "string" || token.content === "" || !isId(token.id)) {
      throw broken("has an added token without content or id");
    }
    if (token.single_word || token.lstrip || token.rstrip || (token.normalized ?? !token.special)) {
      throw unproven(`the added token ${shown(token.content)}, which is normalized or depends on what stands beside it`);
    }
    if ((vocabulary.get(token.content) ?? token.id) !== token.id) throw broken(`has two ids for ${shown(token.content)}`);
    vocabulary.set(token.content, token.id);
  }
  return { ...specialTokens(document.post_processor, { broken, unproven }), vocabulary };
}

/** The ids that stand before and after every text. */
function specialTokens(processor, { broken, unproven }) {
  if (processor === null || processor === undefined) return { before: [], after: [] };
  if (processor.type === "BertProcessing") {
    const [before, after] = [processor.cls, processor.sep].map((pair) => {
      if (!Array.isArray(pair) || !isId(pair[1])) throw broken("has a special token without an id");
      return [pair[1]];
    });
    return { before, after };
  }
  if (processor.type !== "TemplateProcessing") throw unproven(`the post-processor ${shown(processor.type ?? null)}`);
  const sides = [[], []];
  let side = 0;
  if (!Array.isArray(processor.single)) throw broken("has no template for a single text");
  for (const item of processor.single) {
    if (item?.Sequence !== undefined) {
      if (side === 1 || item.Sequence?.id !== "A") throw broken("has a template with more than one text");
      if (item.Sequence.type_id !== 0) throw unproven("token types other than 0");
      side = 1;
    } else {
      const token = item?.SpecialToken;
      const ids = Object.hasOwn(processor.special_tokens ?? {}, token?.id) ? processor.special_tokens[token.id]?.ids : null;
      if (!Array.isArray(ids) || !ids.every(isId)) throw broken("has a special token without an id");
      if (token.type_id !== 0) throw unproven("token types other than 0");
      sides[side].push(...ids);
    }
  }
  if (side === 0) throw broken("has a template without a text");
  return { before: sides[0], after: sides[1] };
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isId(value) {
  return Number.isInteger(value) && value >= 0 && value < 2 ** 31;
}
