import type { Key } from "./page/words";

/** A sentence of the page: its key in the words of a language, and the values or sentences that it names. */
export interface Message {
  key: Key;
  values: (string | number | Message)[];
}

export function message(key: Key, ...values: (string | number | Message)[]): Message {
  return { key, values };
}

/** Say why something cannot be done, in a sentence that the visitor reads. */
export class Refusal extends Error {
  readonly said: Message;

  constructor(key: Key, ...values: (string | number | Message)[]) {
    super(key);
    this.said = message(key, ...values);
  }
}

/** Return what to tell the visitor about an error: its own sentence, or one that names a fault of the page. */
export function saidBy(error: unknown): Message {
  if (error instanceof Refusal) return error.said;
  if (error instanceof DOMException && error.name === "QuotaExceededError") return message("storage_full");
  if (isOfMemory(error)) return message("no_memory");
  return message("fault", firstLine(error));
}

export function isOfMemory(error: unknown): boolean {
  return error instanceof Error && /memory|alloc/i.test(error.message);
}

export function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0]!;
}
