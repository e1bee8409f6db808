/** Show what came out: a verdict with its figures, warnings, and refusals. */
import type { Message } from "../messages";
import type { Answer } from "../verifier/decision";
import type { Thresholds } from "../verifier/checks";
import type { Match } from "../voices/enrolment";
import { distributions } from "./drawing";
import { make } from "./elements";
import { text, textOf } from "./texts";

/** Show the answer of a comparison. */
export function verdict(answer: Answer, thresholds: Thresholds | null, milliseconds: number): HTMLElement {
  const kind = answer.isSame === null ? "undecided" : answer.isSame ? "same" : "different";
  const lines = [
    ...(answer.probability === null ? [] : [`${text("probability")}: ${chance(answer.probability)}`]),
    [
      ...(answer.llr === null ? [] : [`${text("llr")} ${answer.llr.toFixed(2)}`]),
      `${text("score")} ${answer.score.toFixed(3)}`,
      ...(answer.threshold === null ? [] : [`${text("threshold")} ${answer.threshold.toFixed(3)}`]),
      `${text("time")} ${text("milliseconds", Math.round(milliseconds))}`,
    ].join(" · "),
  ];
  const box = make("div", { class: `verdict ${kind}` }, make("h3", {}, text(kind)), ...lines.map((line) => make("p", {}, line)));
  // What programs read: the numbers as they are.
  box.dataset.verdict = kind;
  for (const name of ["score", "threshold", "llr", "probability"] as const) box.dataset[name] = String(answer[name]);
  box.dataset.milliseconds = milliseconds.toFixed(1);
  const picture = thresholds && distributions(thresholds, answer);
  return make("div", { class: "answer" }, box, ...warnings(answer.warnings), ...(picture ? [figure(picture)] : []));
}

/** Show the voices nearest to a recording; the first one is the answer where its probability is above one half. */
export function identification(matches: Match[], notes: Message[]): HTMLElement {
  const best = matches[0]!;
  const isKnown = best.probability !== null && best.probability > 0.5;
  const sentence = best.probability === null ? text("closest", best.name) : isKnown ? text("is", best.name) : text("unknown");
  const rows = matches.map(({ name, score, probability }) =>
    make("tr", {}, make("td", {}, name), make("td", {}, probability === null ? "" : chance(probability)), make("td", {}, score.toFixed(3))),
  );
  const heads = ["name", "probability", "score"] as const;
  const head = make("thead", {}, make("tr", {}, ...heads.map((key) => make("th", { scope: "col" }, text(key)))));
  const box = make("div", { class: `verdict ${isKnown ? "same" : "undecided"}` }, make("h3", {}, sentence));
  box.dataset.first = best.name;
  box.dataset.score = String(best.score);
  box.dataset.probability = String(best.probability);
  return make("div", { class: "answer" }, box, ...warnings(notes), make("table", {}, head, make("tbody", {}, ...rows)));
}

/** Show what was done, and what may spoil it. */
export function note(said: Message, notes: Message[] = []): HTMLElement {
  const box = make("div", { class: "verdict same" }, make("p", {}, textOf(said)));
  return make("div", { class: "answer" }, box, ...warnings(notes));
}

export function refusal(said: Message): HTMLElement {
  const box = make("div", { class: "verdict refusal" }, make("p", {}, textOf(said)));
  const inner = said.key === "named" ? (said.values[1] as Message) : said;
  box.dataset.refused = inner.key;
  return make("div", { class: "answer" }, box);
}

function warnings(said: Message[]): HTMLElement[] {
  return [...new Set(said.map(textOf))].map((sentence) => make("p", { class: "warning" }, sentence));
}

function figure(picture: SVGSVGElement): HTMLElement {
  return make("figure", {}, make("figcaption", {}, text("distribution")), picture);
}

function chance(probability: number): string {
  const percent = 100 * probability;
  if (percent < 1) return text("below_1");
  return percent > 99 ? text("above_99") : text("percent", Math.round(percent));
}
