/** An Ed25519 signature (RFC 8032) over the raw bytes of manifest.json, by WebCrypto. */
import { InputError, UnavailableError, VerificationError } from "./errors.mjs";
import { MANIFEST, SIGNATURE } from "./manifest.mjs";

export const SIGNATURE_BYTES = 64;
// SubjectPublicKeyInfo of an Ed25519 key (RFC 8410): always these bytes, then the 32 of the key.
const PREFIX = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const KEY_BYTES = 32;

/** The 32 bytes of a public key in PEM, as `openssl pkey -pubout` writes it; InputError for anything else. */
export function publicKey(pem) {
  const text = typeof pem === "string" ? pem : new TextDecoder("latin1").decode(pem);
  const match = /^\s*-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*$/.exec(text);
  let der = [];
  try {
    if (match !== null) der = Array.from(atob(match[1].replace(/\s/g, "")), (character) => character.charCodeAt(0));
  } catch {
    // not base64: refused below
  }
  if (der.length !== PREFIX.length + KEY_BYTES || PREFIX.some((byte, index) => der[index] !== byte)) {
    throw new InputError(
      "the key is no Ed25519 public key in PEM",
      "Write it with `openssl pkey -in private.pem -pubout -out public.pem`.",
    );
  }
  return Uint8Array.from(der.slice(PREFIX.length));
}

/** VerificationError unless `signature` is one over `manifest` by the owner of `key` (32 bytes). */
export async function checkSignature(key, manifest, signature) {
  if (signature.length !== SIGNATURE_BYTES) {
    throw new VerificationError(
      `${SIGNATURE} has ${signature.length} bytes instead of ${SIGNATURE_BYTES}`,
      "Sign the bundle again, or copy it again.",
    );
  }
  let holds;
  try {
    const subtle = webCrypto();
    const imported = await subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
    holds = await subtle.verify({ name: "Ed25519" }, imported, signature, manifest);
  } catch (error) {
    if (error instanceof UnavailableError) throw error;
    if (error?.name === "NotSupportedError") {
      throw new UnavailableError("there is no Ed25519 here", "Use a newer browser or Node: both have it since 2025.");
    }
    holds = false; // a key that is no point of the curve
  }
  if (!holds) {
    throw new VerificationError(
      `${SIGNATURE} is not a signature of this ${MANIFEST} by the owner of the key`,
      "The bundle was changed after it was signed, or another key signed it. Do not use it.",
    );
  }
}

/** SHA-256 of `bytes`, 64 lower-case hexadecimal digits. */
export async function sha256(bytes) {
  const digest = new Uint8Array(await webCrypto().digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function webCrypto() {
  const subtle = globalThis.crypto?.subtle;
  if (subtle === undefined) {
    throw new UnavailableError("there is no WebCrypto here", "Serve the page over https, or from localhost.");
  }
  return subtle;
}
