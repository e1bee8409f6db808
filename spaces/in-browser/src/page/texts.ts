import type { Message } from "../messages";
import { firstLanguage, LANGUAGES, type Key, type Language } from "./words";

let language: Language = firstLanguage();
const shown: (() => void)[] = [];

export function currentLanguage(): Language {
  return language;
}

/** Return a text in the page's language, with {0}, {1} … replaced. */
export function text(key: Key, ...values: (string | number)[]): string {
  return LANGUAGES[language][key].replace(/\{(\d)\}/g, (_, place: string) => String(values[Number(place)]));
}

/** Return a sentence in the page's language, with the sentences inside it. */
export function textOf(said: Message): string {
  return text(said.key, ...said.values.map((value) => (typeof value === "object" ? textOf(value) : value)));
}

/** Show something now, and again whenever the language changes. */
export function inEveryLanguage(show: () => void): void {
  shown.push(show);
  show();
}

export function switchLanguage(): void {
  language = language === "en" ? "ja" : "en";
  for (const show of shown) show();
}

/** Let an element have a text, in every language. */
export function label(element: Element, key: Key): void {
  inEveryLanguage(() => (element.textContent = text(key)));
}
