/** Start the page: keep it for later, download the verifier, start its networks, and show the two parts. */
import { message, Refusal, saidBy, type Message } from "./messages";
import { RELOADED } from "./names";
import { refusal } from "./page/answers";
import { compareSection } from "./page/compare_section";
import { make } from "./page/elements";
import { peopleSection } from "./page/people_section";
import { currentLanguage, inEveryLanguage, label, switchLanguage, text, textOf } from "./page/texts";
import "./style.css";
import { EngineClient } from "./verifier/client";
import { download, type VerifierPackage } from "./verifier/package";
import { threadsHere } from "./verifier/threads";
import { Verifier } from "./verifier/verifier";
import { openVoices } from "./voices/store";

const LONGEST_INSTALL = 30_000; // milliseconds

/**
 * Keep the page in the browser by a service worker. Where the host does not isolate the page, wait for the service
 * worker, which isolates it from the next load on, and load the page once more.
 */
async function keepForLater(): Promise<void> {
  try {
    const registration = await navigator.serviceWorker.register("sw.js");
    const worker = registration.installing ?? registration.waiting ?? registration.active;
    const canBeIsolated = window.top === window; // a frame is isolated by the page around it
    if (!crossOriginIsolated && canBeIsolated && worker && (await isActivated(worker))) await reloadOnce();
  } catch {
    return; // storage is denied, or there are no service workers here: the page works without
  }
}

/** Wait until a service worker answers for the pages that are loaded next; false where that fails or takes long. */
function isActivated(worker: ServiceWorker): Promise<boolean> {
  return new Promise((resolve) => {
    const look = () => {
      if (["activated", "redundant"].includes(worker.state)) resolve(worker.state === "activated");
    };
    worker.addEventListener("statechange", look);
    setTimeout(() => resolve(false), LONGEST_INSTALL);
    look();
  });
}

/** Load the page again, if this was not done before. */
async function reloadOnce(): Promise<void> {
  if (sessionStorage.getItem(RELOADED)) return;
  sessionStorage.setItem(RELOADED, "yes");
  location.reload();
  await new Promise(() => {});
}

/** Show the title, and the line below it that says what the page does; return what writes that line. */
function frame(main: HTMLElement): { status: HTMLElement; say: (next: Message) => void } {
  const title = make("h1");
  const lead = make("p", { class: "lead" });
  const language = make("button", { type: "button", class: "language" });
  const status = make("p", { class: "status", id: "state", role: "status", tabindex: "-1" });
  label(title, "title");
  label(lead, "lead");
  label(language, "language");
  language.onclick = switchLanguage;
  main.replaceChildren(make("header", {}, make("div", {}, title, lead), language), status);
  let state = message("preparing");
  const say = (next: Message) => {
    state = next;
    status.textContent = textOf(state);
  };
  inEveryLanguage(() => {
    document.documentElement.lang = currentLanguage();
    document.title = text("title");
    say(state);
  });
  return { status, say };
}

async function start(main: HTMLElement): Promise<void> {
  const { status, say } = frame(main);
  try {
    if (typeof WebAssembly === "undefined") throw new Refusal("no_webassembly");
    await keepForLater();
    const model = await download((share) => say(message("loading", 10 * Math.round(10 * share))));
    say(message("starting"));
    const engine = new EngineClient();
    await engine.open(model);
    const verifier = new Verifier(model, engine);
    const privacy = make("footer");
    label(privacy, "privacy");
    main.append(compareSection(verifier), peopleSection(verifier, await openVoices()), privacy);
    const threads = threadsHere();
    say(message("ready", model.name, threads > 1 ? message("threads", threads) : message("one_thread")));
    if (!crossOriginIsolated) status.after(slower());
    main.dataset.ready = "true";
    void hasGpu().then((found) => found && status.after(gpuButton(engine, model, status, say)));
  } catch (error) {
    const said = saidBy(error);
    const place = make("div", { role: "alert" });
    status.replaceWith(place);
    inEveryLanguage(() => place.replaceChildren(refusal(said)));
    main.dataset.ready = "refused";
  }
}

/** Return whether the browser gives a GPU; some say that they know WebGPU and have none. */
async function hasGpu(): Promise<boolean> {
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<unknown> } };
  try {
    return gpu !== undefined && (await gpu.requestAdapter()) !== null;
  } catch {
    return false;
  }
}

function gpuButton(
  engine: EngineClient,
  model: VerifierPackage,
  status: HTMLElement,
  say: (next: Message) => void,
): HTMLElement {
  const button = make("button", { type: "button", id: "gpu" });
  label(button, "try_gpu");
  button.onclick = async () => {
    status.focus(); // the button goes
    button.remove();
    say(message("trying"));
    try {
      const { gpu, cpu, isUsed } = await engine.tryGpu(model);
      say(message(isUsed ? "gpu_used" : "gpu_unused", Math.round(gpu), Math.round(cpu)));
    } catch (error) {
      say(saidBy(error));
    }
  };
  return button;
}

function slower(): HTMLElement {
  const line = make("p", { class: "warning" });
  label(line, "slower");
  return line;
}

void start(document.querySelector("main")!);
