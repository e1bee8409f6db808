import { saidBy } from "../messages";
import { refusal } from "./answers";
import { make } from "./elements";
import type { RecordingInput } from "./recording_input";
import { inEveryLanguage, text } from "./texts";

type Shown = (() => HTMLElement) | null;

/** The place where an answer appears; what asks for answers works one at a time. */
export class Result {
  readonly element: HTMLElement;
  private shown: Shown = null;
  private round = 0;
  private isWorking = false;

  /** @param id identifier of the element */
  constructor(
    id: string,
    private readonly buttons: HTMLButtonElement[],
  ) {
    this.element = make("div", { id, "aria-live": "polite" });
    inEveryLanguage(() => this.show(this.shown));
  }

  /** Remove the answer, and drop the one that is being worked on: it is about other recordings. */
  clear(): void {
    this.round++;
    this.show(this.isWorking ? working : null);
  }

  /**
   * Work, and show what comes out, or why nothing does.
   *
   * @param inputs what the work is about: recordings that go on are ended first
   * @param work returns what draws the answer, in the language of the moment
   * @param isDeed whether the work changes something, which is said even if the recordings have changed meanwhile
   */
  async run(inputs: readonly RecordingInput[], work: () => Promise<() => HTMLElement>, isDeed = false): Promise<void> {
    if (this.isWorking) return;
    this.busy(true);
    this.show(working);
    await Promise.all(inputs.map((input) => input.settled()));
    const round = ++this.round;
    let answer: Shown;
    try {
      answer = await work();
    } catch (error) {
      const said = saidBy(error);
      answer = () => refusal(said);
    }
    this.busy(false);
    this.show(isDeed || round === this.round ? answer : null);
  }

  private show(render: Shown): void {
    this.shown = render;
    this.element.replaceChildren(...(render ? [render()] : []));
  }

  /** Buttons keep the focus of the keyboard while they do nothing. */
  private busy(isWorking: boolean): void {
    this.isWorking = isWorking;
    for (const button of this.buttons) button.setAttribute("aria-disabled", String(isWorking));
  }
}

function working(): HTMLElement {
  return make("p", { class: "status" }, text("working"));
}
