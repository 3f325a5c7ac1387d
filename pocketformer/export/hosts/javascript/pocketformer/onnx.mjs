/**
 * A look at an ONNX file before onnxruntime sees it: weights that lie in other files are refused, because a path in a
 * stranger's graph may lead anywhere; so are nodes that hold an engine's file (EPContext). Field numbers are those of
 * onnx.proto; nothing is decoded but what leads to tensors.
 */
import { DAMAGED, VerificationError } from "./errors.mjs";

const TENSOR = { external: 13, location: 14 };
/** Which fields of which message hold which messages. */
const SPARSE = new Map([[1, () => TENSOR], [2, () => TENSOR]]);
const ATTRIBUTE = new Map([
  [5, () => TENSOR],
  [6, () => GRAPH],
  [10, () => TENSOR],
  [11, () => GRAPH],
  [22, () => SPARSE],
  [23, () => SPARSE],
]);
const NODE = new Map([[5, () => ATTRIBUTE]]);
const OPERATOR = 4; // of a node
const ENGINE_IN_A_FILE = "EPContext";
const GRAPH = new Map([[1, () => NODE], [5, () => TENSOR], [15, () => SPARSE]]);
const FUNCTION = new Map([[7, () => NODE], [11, () => ATTRIBUTE]]);
const TRAINING = new Map([[1, () => GRAPH], [2, () => GRAPH]]);
const MODEL = new Map([[7, () => GRAPH], [20, () => TRAINING], [25, () => FUNCTION]]);
const DEEPEST = 100;

/** VerificationError unless `bytes` are one ONNX model that holds all its weights itself. */
export function checkSelfContained(bytes, name) {
  const refuse = (what) => new VerificationError(`${name} ${what}`, DAMAGED);
  // onnxruntime tells its own format by this mark, and would read such a file by other rules than these.
  if (String.fromCharCode(...bytes.subarray(4, 8)) === "ORTM") throw refuse("is no ONNX file but onnxruntime's own format");
  let graphs = 0;

  function varint(at, end) {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (at >= end) throw refuse("is cut off");
      const byte = bytes[at];
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return [BigInt.asUintN(64, value), at];
    }
    throw refuse("is not an ONNX file");
  }

  function text(from, to) {
    return to - from > 100 ? "" : String.fromCharCode(...bytes.subarray(from, to));
  }

  function length(at, end) {
    const [size, start] = varint(at, end);
    if (size > BigInt(end - start)) throw refuse("is cut off");
    return [start, start + Number(size)];
  }

  function message(kind, start, end, depth) {
    if (depth > DEEPEST) throw refuse("is nested too deep");
    let at = start;
    while (at < end) {
      let tag;
      [tag, at] = varint(at, end);
      const field = Number(tag >> 3n);
      const wire = Number(tag & 7n);
      if (field === 0 || tag > 0xffffffffn) throw refuse("is not an ONNX file");
      if (kind === TENSOR && (field === TENSOR.external || (field === TENSOR.location && wire !== 0))) {
        throw refuse("keeps weights in other files");
      }
      if (wire === 0) {
        let value;
        [value, at] = varint(at, end);
        if (kind === TENSOR && field === TENSOR.location && value !== 0n) throw refuse("keeps weights in other files");
      } else if (wire === 2) {
        const [from, to] = length(at, end);
        const inner = kind === TENSOR ? undefined : kind.get(field);
        if (kind === MODEL && field === 7) graphs += 1;
        if (kind === NODE && field === OPERATOR && text(from, to) === ENGINE_IN_A_FILE) throw refuse("keeps an engine in another file");
        if (inner !== undefined) message(inner(), from, to, depth + 1);
        at = to;
      } else if (wire === 1 || wire === 5) {
        at += wire === 1 ? 8 : 4;
        if (at > end) throw refuse("is cut off");
      } else {
        throw refuse("is not an ONNX file"); // groups, which ONNX never had
      }
    }
  }

  message(MODEL, 0, bytes.length, 0);
  if (graphs === 0) throw refuse("is not an ONNX file");
}
