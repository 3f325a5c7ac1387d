/** What can go wrong, each with what to do about it. `exitCode` is what the command line ends with. */
export class PocketformerError extends Error {
  constructor(message, hint = "") {
    super(message);
    this.name = this.constructor.name;
    this.hint = hint;
  }

  get exitCode() {
    return 1;
  }
}

/** The caller gave something that cannot be used. */
export class InputError extends PocketformerError {
  get exitCode() {
    return 2;
  }
}

/** This machine lacks what the bundle asks for; that says nothing of the bundle. */
export class UnavailableError extends PocketformerError {
  get exitCode() {
    return 4;
  }
}

/** The bundle is damaged, hostile, or does not answer as it should. */
export class VerificationError extends PocketformerError {
  get exitCode() {
    return 5;
  }
}

export const DAMAGED = "The bundle is damaged or was edited by hand: copy it again, or write it again.";

/** A value as an error shows it: JSON, cut short. */
export function shown(value) {
  let text;
  if (value instanceof Map) text = "an object";
  else if (Array.isArray(value)) text = `a list of ${value.length}`;
  else text = typeof value === "bigint" ? String(value) : JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
