/**
 * The files of a bundle, read by size and hash. A `source` is where they lie:
 *   describe        the place, for messages
 *   read(name, most)    the bytes of a file, at most `most` of them; null where there is no such file
 *   size(name)      the bytes that a file has, null where there is none, or undefined where only reading tells
 * Neither follows a link or leaves the bundle.
 */
import { InputError, VerificationError } from "./errors.mjs";
import { LIMITS, MANIFEST, SIGNATURE, parseManifest } from "./manifest.mjs";
import { SIGNATURE_BYTES, checkSignature, sha256 } from "./signature.mjs";

const COPY_AGAIN = "Copy the whole bundle again.";

/** The raw bytes of the manifest; with a key, once its signature holds. */
export async function readManifestBytes(source) {
  const bytes = await source.read(MANIFEST, LIMITS.manifest);
  if (bytes === null) {
    throw new InputError(
      `no bundle at ${source.describe}: there is no ${MANIFEST}`,
      `Give the directory of a bundle, such as model/; it holds ${MANIFEST}.`,
    );
  }
  return bytes;
}

/** VerificationError unless `manifest` (bytes) is signed by the owner of `key` (32 bytes). */
export async function checkBundleSignature(source, manifest, key) {
  const signature = await source.read(SIGNATURE, SIGNATURE_BYTES);
  if (signature === null) {
    throw new VerificationError(`there is no ${SIGNATURE}`, "The bundle is not signed: do not use it where a key is asked for.");
  }
  await checkSignature(key, manifest, signature);
}

/** The manifest; with a key, nothing of it is parsed before its signature holds. */
export async function readManifest(source, key = null) {
  const bytes = await readManifestBytes(source);
  if (key !== null) await checkBundleSignature(source, bytes, key);
  return parseManifest(bytes);
}

/** A listed file that has the size that the manifest says. */
export async function readSized(source, manifest, name) {
  const { bytes } = manifest.files.get(name);
  const stated = await source.size(name);
  if (stated === null) throw new VerificationError(`${name} is missing from the bundle`, COPY_AGAIN);
  if (stated !== undefined && stated !== bytes) throw otherSize(name, stated, bytes);
  const content = await source.read(name, bytes);
  if (content === null) throw new VerificationError(`${name} is missing from the bundle`, COPY_AGAIN);
  if (content.length !== bytes) throw otherSize(name, content.length, bytes);
  return content;
}

/** The same, and with its SHA-256. */
export async function readHashed(source, manifest, name) {
  const content = await readSized(source, manifest, name);
  if ((await sha256(content)) !== manifest.files.get(name).sha256) {
    throw new VerificationError(`${name} has another SHA-256 than the manifest says`, COPY_AGAIN);
  }
  return content;
}

/** VerificationError for a listed file that is missing or of another size, as far as that can be told without reading. */
export async function checkSizes(source, manifest) {
  for (const [name, { bytes }] of manifest.files) {
    const size = await source.size(name);
    if (size === null) throw new VerificationError(`${name} is missing from the bundle`, COPY_AGAIN);
    if (size !== undefined && size !== bytes) throw otherSize(name, size, bytes);
  }
}

function otherSize(name, found, stated) {
  return new VerificationError(`${name} has ${found} bytes instead of ${stated}`, COPY_AGAIN);
}
