import { message, Refusal, saidBy, type Message } from "../messages";
import { compare, OPERATING_POINTS, type Answer, type OperatingPoint } from "../verifier/decision";
import type { Heard } from "../verifier/engine";
import type { Verifier } from "../verifier/verifier";
import { verdict } from "./answers";
import { make } from "./elements";
import { RecordingInput } from "./recording_input";
import { Result } from "./result";
import { label } from "./texts";
import type { Key } from "./words";

/** Show the part of the page that compares two recordings. */
export function compareSection(verifier: Verifier): HTMLElement {
  const inputs = [new RecordingInput("first", "first"), new RecordingInput("second", "second")] as const;
  const title = make("h2", { id: "compare-title" });
  const point = make("select", { id: "point" });
  const pointLabel = make("label", { for: "point" });
  const button = make("button", { type: "button", class: "primary", id: "compare" });
  const result = new Result("answer", [button]);
  label(title, "compare");
  label(pointLabel, "point");
  label(button, "compare_button");
  for (const name of OPERATING_POINTS) {
    const option = make("option", { value: name });
    label(option, `point_${name}` as Key);
    point.append(option);
  }
  button.onclick = () =>
    void result.run(inputs, async () => {
      const start = performance.now();
      const sides = [await hearCard(verifier, inputs[0]), await hearCard(verifier, inputs[1])] as const;
      const answer = compare(verifier.model, sides, point.value as OperatingPoint);
      const milliseconds = performance.now() - start;
      const flaws = inputs.flatMap(({ title }, n) => sides[n]!.flaws.map((flaw) => message("named", message(title), flaw)));
      return () => verdict(withFlaws(answer, flaws), verifier.model.thresholds, milliseconds);
    });
  point.onchange = () => result.clear();
  for (const input of inputs) input.onChange = () => result.clear();
  const cards = make("div", { class: "pair" }, inputs[0].element, inputs[1].element);
  const controls = make("div", { class: "controls" }, pointLabel, point, button);
  return make("section", { "aria-labelledby": "compare-title" }, title, cards, controls, result.element);
}

/** Hear the recording of a card; a refusal names the card. */
async function hearCard(verifier: Verifier, input: RecordingInput): Promise<Heard> {
  try {
    return await verifier.hear(input);
  } catch (error) {
    const said = saidBy(error);
    throw said.key === "missing" ? error : new Refusal("named", message(input.title), said);
  }
}

function withFlaws(answer: Answer, flaws: Message[]): Answer {
  return { ...answer, warnings: [...flaws, ...answer.warnings] };
}
