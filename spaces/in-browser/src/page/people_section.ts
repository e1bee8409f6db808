import { saidBy, Refusal } from "../messages";
import type { Verifier } from "../verifier/verifier";
import { enrol, identify, sideOf } from "../voices/enrolment";
import type { VoiceStore } from "../voices/store";
import { identification, note, refusal } from "./answers";
import { make } from "./elements";
import { RecordingInput } from "./recording_input";
import { inEveryLanguage, label, text } from "./texts";

/** Show the part of the page that enrols voices, identifies recordings, and forgets. */
export function peopleSection(verifier: Verifier, store: VoiceStore): HTMLElement {
  const [toEnrol, toIdentify] = [new RecordingInput("enrolment", "enrolment"), new RecordingInput("probe", "probe")];
  const title = make("h2", { id: "people-title" });
  const lead = make("p", { class: "lead" });
  const nameLabel = make("label", { for: "name" });
  const name = make("input", { type: "text", id: "name", autocomplete: "off", maxlength: "200" });
  const [enrolButton, identifyButton, forgetButton] = ["enrol", "identify", "forget"].map((id) =>
    make("button", { type: "button", id, class: id === "forget" ? "danger" : "primary" }),
  ) as [HTMLButtonElement, HTMLButtonElement, HTMLButtonElement];
  const list = make("ul", { class: "voices" });
  const result = make("div", { id: "people-answer", "aria-live": "polite" });
  label(title, "people");
  label(lead, store.isLasting ? "people_lead" : "people_memory");
  label(nameLabel, "name");
  label(enrolButton, "enrol");
  label(identifyButton, "identify");
  label(forgetButton, "forget_everything");

  let shown: (() => HTMLElement) | null = null;
  const show = (render: (() => HTMLElement) | null) => {
    shown = render;
    result.replaceChildren(...(render ? [render()] : []));
  };
  const run = async (button: HTMLButtonElement, work: () => Promise<() => HTMLElement>) => {
    button.disabled = true;
    show(() => make("p", { class: "status" }, text("working")));
    try {
      show(await work());
    } catch (error) {
      const isFull = error instanceof DOMException && error.name === "QuotaExceededError";
      const said = saidBy(isFull ? new Refusal("storage_full") : error);
      show(() => refusal(said));
    } finally {
      button.disabled = false;
      await refresh();
    }
  };
  const refresh = async () => {
    const voices = await store.all();
    const items = voices.map((voice) => {
      const speech = sideOf(voice).speech.toFixed(1);
      const forget = make("button", { type: "button", "aria-label": text("forget", voice.name) }, text("forget_short"));
      forget.onclick = () => void store.forget(voice.name).then(refresh);
      const line = make("span", {}, text("voice", voice.name, voice.recordings.length, speech));
      const item = make("li", {}, line, forget);
      item.dataset.voice = voice.name;
      return item;
    });
    list.replaceChildren(...(items.length ? items : [make("li", { class: "status" }, text("nobody_yet"))]));
    forgetButton.disabled = items.length === 0;
  };
  enrolButton.onclick = () =>
    void run(enrolButton, async () => {
      const voice = await enrol(store, verifier.model, name.value, await verifier.hear(toEnrol));
      const { speech } = sideOf(voice);
      return () => note(text("enrolled", voice.name, voice.recordings.length, speech.toFixed(1)));
    });
  identifyButton.onclick = () =>
    void run(identifyButton, async () => {
      const heard = await verifier.hear(toIdentify);
      const matches = identify(await store.all(), verifier.model, heard);
      return () => identification(matches, heard.flaws);
    });
  forgetButton.onclick = () =>
    void run(forgetButton, async () => {
      await store.forgetEverything();
      return () => note(text("forgotten"));
    });
  store.onChange(() => void refresh());
  inEveryLanguage(() => {
    show(shown);
    void refresh();
  });
  const enrolment = make("div", { class: "card" }, toEnrol.element, nameLabel, name, enrolButton);
  const identifying = make("div", { class: "card" }, toIdentify.element, identifyButton);
  const cards = make("div", { class: "pair" }, enrolment, identifying);
  return make("section", { "aria-labelledby": "people-title" }, title, lead, cards, result, list, forgetButton);
}
