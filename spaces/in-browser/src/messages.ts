import type { Key } from "./page/words";

/** A sentence of the page: its key in the words of a language, and the values that it names. */
export interface Message {
  key: Key;
  values: (string | number)[];
}

export function message(key: Key, ...values: (string | number)[]): Message {
  return { key, values };
}

/** Say why something cannot be done, in a sentence that the visitor reads. */
export class Refusal extends Error {
  readonly said: Message;

  constructor(key: Key, ...values: (string | number)[]) {
    super(key);
    this.said = message(key, ...values);
  }
}

/** Return what to tell the visitor about an error: its own sentence, or one that names a fault of the page. */
export function saidBy(error: unknown): Message {
  if (error instanceof Refusal) return error.said;
  if (error instanceof Error && /memory|allocation/i.test(error.message)) return message("no_memory");
  return message("fault", error instanceof Error ? error.message.split("\n")[0]! : String(error));
}
