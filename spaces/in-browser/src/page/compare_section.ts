import { message, saidBy, type Message } from "../messages";
import { compare, OPERATING_POINTS, type Answer, type OperatingPoint } from "../verifier/decision";
import type { Verifier } from "../verifier/verifier";
import { refusal, verdict } from "./answers";
import { make } from "./elements";
import { RecordingInput } from "./recording_input";
import { inEveryLanguage, label, text, textOf } from "./texts";
import type { Key } from "./words";

/** Show the part of the page that compares two recordings. */
export function compareSection(verifier: Verifier): HTMLElement {
  const inputs = [new RecordingInput("first", "first"), new RecordingInput("second", "second")] as const;
  const title = make("h2", { id: "compare-title" });
  const point = make("select", { id: "point" });
  const pointLabel = make("label", { for: "point" });
  const button = make("button", { type: "button", class: "primary", id: "compare" });
  const result = make("div", { id: "answer", "aria-live": "polite" });
  label(title, "compare");
  label(pointLabel, "point");
  label(button, "compare_button");
  for (const name of OPERATING_POINTS) {
    const option = make("option", { value: name });
    label(option, `point_${name}` as Key);
    point.append(option);
  }
  let shown: (() => HTMLElement) | null = null;
  const show = (render: (() => HTMLElement) | null) => {
    shown = render;
    result.replaceChildren(...(render ? [render()] : []));
  };
  inEveryLanguage(() => show(shown));
  const run = async () => {
    button.disabled = true;
    show(() => make("p", { class: "status" }, text("working")));
    try {
      const start = performance.now();
      const sides = await Promise.all([verifier.hear(inputs[0]), verifier.hear(inputs[1])]);
      const answer = compare(verifier.model, sides, point.value as OperatingPoint);
      const milliseconds = performance.now() - start;
      const flaws = (["first", "second"] as const).flatMap((key, n) => sides[n]!.flaws.map((flaw) => ({ key, flaw })));
      show(() => verdict(withFlaws(answer, flaws), verifier.model.thresholds, milliseconds));
    } catch (error) {
      const said = saidBy(error);
      show(() => refusal(said));
    } finally {
      button.disabled = false;
    }
  };
  button.onclick = () => void run();
  for (const input of inputs) input.onChange = () => show(null);
  const cards = make("div", { class: "pair" }, inputs[0].element, inputs[1].element);
  const controls = make("div", { class: "controls" }, pointLabel, point, button);
  return make("section", { "aria-labelledby": "compare-title" }, title, cards, controls, result);
}

/** Put the flaws of the recordings before the warnings of a decision, each with the name of its recording. */
function withFlaws(answer: Answer, flaws: { key: Key; flaw: Message }[]): Answer {
  const named = flaws.map(({ key, flaw }) => message("named", text(key), textOf(flaw)));
  return { ...answer, warnings: [...named, ...answer.warnings] };
}
