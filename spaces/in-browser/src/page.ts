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

/**
 * Keep the page in the browser by a service worker. Where the host does not isolate the page, wait for the service
 * worker, which does from the next load on, and load the page once more.
 */
async function keepForLater(): Promise<void> {
  if (!import.meta.env.PROD) return;
  try {
    const registration = await navigator.serviceWorker.register("sw.js");
    if (!crossOriginIsolated && (await isControlled(registration))) await reloadOnce();
  } catch {
    return; // storage is denied, or there are no service workers here: the page works without
  }
}

/** Wait as long as the service worker is being installed; return whether it answers for this page then. */
async function isControlled(registration: ServiceWorkerRegistration): Promise<boolean> {
  const worker = registration.installing ?? registration.waiting;
  if (navigator.serviceWorker.controller || !worker) return navigator.serviceWorker.controller !== null;
  await new Promise<void>((resolve) => {
    navigator.serviceWorker.addEventListener("controllerchange", () => resolve(), { once: true });
    worker.addEventListener("statechange", () => worker.state === "redundant" && resolve());
  });
  return navigator.serviceWorker.controller !== null;
}

/** Load the page again, if this was not done before. */
async function reloadOnce(): Promise<void> {
  if (sessionStorage.getItem(RELOADED)) return;
  sessionStorage.setItem(RELOADED, "yes");
  location.reload();
  await new Promise(() => {});
}

/** Look for a newer page, because the verifier is of another version; load it where there is one. */
async function updatePage(): Promise<void> {
  try {
    const registration = await navigator.serviceWorker.getRegistration();
    await registration?.update();
    if (registration?.installing && (await isControlled(registration))) await reloadOnce();
  } catch {
    return;
  }
}

async function start(main: HTMLElement): Promise<void> {
  const title = make("h1");
  const lead = make("p", { class: "lead" });
  const language = make("button", { type: "button", class: "language" });
  const status = make("p", { class: "status", id: "state", role: "status" });
  const privacy = make("footer");
  label(title, "title");
  label(lead, "lead");
  label(language, "language");
  label(privacy, "privacy");
  language.onclick = switchLanguage;
  main.replaceChildren(make("header", {}, make("div", {}, title, lead), language), status);
  inEveryLanguage(() => {
    document.documentElement.lang = currentLanguage();
    document.title = text("title");
  });
  let state = message("preparing");
  const say = (next: Message) => {
    state = next;
    status.textContent = textOf(state);
  };
  inEveryLanguage(() => say(state));
  try {
    if (typeof WebAssembly === "undefined") throw new Refusal("no_webassembly");
    await keepForLater();
    const model = await download((share) => say(message("loading", 10 * Math.round(10 * share))));
    say(message("starting"));
    const engine = new EngineClient();
    await engine.open(model);
    const verifier = new Verifier(model, engine);
    main.append(compareSection(verifier), peopleSection(verifier, await openVoices()), privacy);
    const threads = threadsHere();
    say(message("ready", model.name, threads > 1 ? message("threads", threads) : message("one_thread")));
    if (!crossOriginIsolated) status.after(slower());
    if (await hasGpu()) status.after(gpuButton(engine, model, say));
    main.dataset.ready = "true";
  } catch (error) {
    const said = saidBy(error);
    if (said.key === "other_version") await updatePage();
    const place = make("div");
    inEveryLanguage(() => place.replaceChildren(refusal(said)));
    status.textContent = "";
    status.replaceWith(place);
    main.dataset.ready = "refused";
  }
}

/** Return whether the browser gives a GPU; some say that they know WebGPU and have none. */
async function hasGpu(): Promise<boolean> {
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<unknown> } };
  return gpu !== undefined && (await gpu.requestAdapter().catch(() => null)) !== null;
}

function gpuButton(engine: EngineClient, model: VerifierPackage, say: (next: Message) => void): HTMLElement {
  const button = make("button", { type: "button", id: "gpu" });
  label(button, "try_gpu");
  button.onclick = async () => {
    button.disabled = true;
    say(message("trying"));
    try {
      const { gpu, cpu, isUsed } = await engine.tryGpu(model);
      say(message(isUsed ? "gpu_used" : "gpu_unused", Math.round(gpu), Math.round(cpu)));
    } catch (error) {
      say(saidBy(error));
    }
    button.remove();
  };
  return button;
}

function slower(): HTMLElement {
  const line = make("p", { class: "warning" });
  label(line, "slower");
  return line;
}

void start(document.querySelector("main")!);
