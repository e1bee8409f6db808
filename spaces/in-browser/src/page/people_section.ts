import { message } from "../messages";
import type { Verifier } from "../verifier/verifier";
import { enrol, identify, sideOf } from "../voices/enrolment";
import type { Voice, VoiceStore } from "../voices/store";
import { identification, note } from "./answers";
import { make } from "./elements";
import { RecordingInput } from "./recording_input";
import { Result } from "./result";
import { inEveryLanguage, label, text } from "./texts";

/** Show the part of the page that enrols voices, identifies recordings, and forgets. */
export function peopleSection(verifier: Verifier, store: VoiceStore): HTMLElement {
  const [toEnrol, toIdentify] = [new RecordingInput("enrolment", "enrolment"), new RecordingInput("probe", "probe")];
  const title = make("h2", { id: "people-title" });
  const lead = make("p", { class: "lead" });
  const nameLabel = make("label", { for: "name" });
  const nameField = make("input", { type: "text", id: "name", autocomplete: "off", maxlength: "200" });
  const enrolButton = make("button", { type: "button", id: "enrol", class: "primary" });
  const identifyButton = make("button", { type: "button", id: "identify", class: "primary" });
  const forgetButton = make("button", { type: "button", id: "forget", class: "danger" });
  const result = new Result("people-answer", [enrolButton, identifyButton, forgetButton]);
  const list = new VoiceList(store, result, forgetButton);
  label(title, "people");
  label(lead, store.isLasting ? "people_lead" : "people_memory");
  label(nameLabel, "name");
  label(enrolButton, "enrol");
  label(identifyButton, "identify");
  label(forgetButton, "forget_everything");
  enrolButton.onclick = () => {
    const name = nameField.value; // as it is when the button is pressed
    const work = async () => {
      const heard = await verifier.hear(toEnrol);
      const voice = await enrol(store, verifier.model, name, heard);
      const said = message("enrolled", voice.name, voice.recordings.length, sideOf(voice).speech.toFixed(1));
      await list.refresh();
      return () => note(said, heard.flaws);
    };
    void result.run([toEnrol], work, true);
  };
  identifyButton.onclick = () =>
    void result.run([toIdentify], async () => {
      const heard = await verifier.hear(toIdentify);
      const matches = identify(await store.all(), verifier.model, heard);
      return () => identification(matches, heard.flaws);
    });
  forgetButton.onclick = () =>
    void result.run([], async () => {
      await store.forgetEverything();
      await list.refresh();
      return () => note(message("forgotten"));
    }, true);
  for (const input of [toEnrol, toIdentify]) input.onChange = () => result.clear();
  const enrolment = make("div", { class: "card" }, toEnrol.element, nameLabel, nameField, enrolButton);
  const identifying = make("div", { class: "card" }, toIdentify.element, identifyButton);
  const cards = make("div", { class: "pair" }, enrolment, identifying);
  const attributes = { "aria-labelledby": "people-title" };
  return make("section", attributes, title, lead, cards, result.element, list.element, forgetButton);
}

/** The enrolled voices, each with a button that removes it. */
class VoiceList {
  readonly element = make("ul", { class: "voices", tabindex: "-1" });

  constructor(
    private readonly store: VoiceStore,
    private readonly result: Result,
    private readonly forgetButton: HTMLButtonElement,
  ) {
    store.onChange(() => void this.refresh().catch(() => {})); // the next press of a button says what is wrong
    inEveryLanguage(() => void this.refresh().catch(() => {}));
  }

  async refresh(): Promise<void> {
    const voices = await this.store.all();
    const items = voices.map((voice) => this.item(voice));
    this.element.replaceChildren(...(items.length ? items : [make("li", { class: "status" }, text("nobody_yet"))]));
    this.forgetButton.hidden = items.length === 0;
  }

  private item(voice: Voice): HTMLElement {
    const speech = sideOf(voice).speech.toFixed(1);
    const button = make("button", { type: "button", "aria-label": text("forget", voice.name) }, text("forget_short"));
    button.onclick = () =>
      void this.result.run([], async () => {
        await this.store.forget(voice.name);
        await this.refresh();
        this.element.focus();
        return () => note(message("forgotten_one", voice.name));
      }, true);
    const item = make("li", {}, make("span", {}, text("voice", voice.name, voice.recordings.length, speech)), button);
    item.dataset.voice = voice.name;
    return item;
  }
}
