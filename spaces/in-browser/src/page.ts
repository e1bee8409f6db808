/** Start the page: keep it for later, download the verifier, start its networks, and show the two parts. */
import { Refusal, saidBy } from "./messages";
import { refusal } from "./page/answers";
import { compareSection } from "./page/compare_section";
import { make } from "./page/elements";
import { peopleSection } from "./page/people_section";
import { currentLanguage, inEveryLanguage, label, switchLanguage, text, textOf } from "./page/texts";
import "./style.css";
import { EngineClient } from "./verifier/client";
import { threadsHere } from "./verifier/threads";
import { download, type VerifierPackage } from "./verifier/package";
import { Verifier } from "./verifier/verifier";
import { openVoices } from "./voices/store";

const LONGEST_WAIT = 5000; // milliseconds for the service worker: without it the page works, but not offline
const RELOADED = "oskdft-reloaded";

/** Wait until the service worker answers the page's requests, so that what comes next is kept. */
async function keepForLater(): Promise<void> {
  if (!navigator.serviceWorker || !import.meta.env.PROD) return;
  try {
    const controlled = new Promise<void>((resolve) => {
      if (navigator.serviceWorker.controller) resolve();
      else navigator.serviceWorker.addEventListener("controllerchange", () => resolve(), { once: true });
    });
    await navigator.serviceWorker.register("sw.js");
    await Promise.race([controlled, new Promise((resolve) => setTimeout(resolve, LONGEST_WAIT))]);
  } catch {
    return; // storage is denied
  }
  // The service worker sends the headers that isolate the page, which counts from the next load on: once.
  if (navigator.serviceWorker.controller && !crossOriginIsolated && !sessionStorage.getItem(RELOADED)) {
    sessionStorage.setItem(RELOADED, "yes");
    location.reload();
    await new Promise(() => {});
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
  main.append(make("header", {}, make("div", {}, title, lead), language), status);
  inEveryLanguage(() => {
    document.documentElement.lang = currentLanguage();
    document.title = text("title");
  });
  let state = () => text("loading", 0);
  const say = (next: () => string) => {
    state = next;
    status.textContent = state();
  };
  inEveryLanguage(() => (status.textContent = state()));
  try {
    if (typeof WebAssembly === "undefined") throw new Refusal("no_webassembly");
    await keepForLater();
    const verifierPackage = await download((share) => say(() => text("loading", Math.round(100 * share))));
    say(() => text("starting"));
    const engine = new EngineClient();
    await engine.open(verifierPackage);
    const verifier = new Verifier(verifierPackage, engine);
    main.append(compareSection(verifier), peopleSection(verifier, await openVoices()), privacy);
    const threads = threadsHere();
    say(() => text("ready", verifierPackage.name, threads > 1 ? text("threads", threads) : text("one_thread")));
    if (!crossOriginIsolated) status.after(slower());
    if (await hasGraphics()) status.after(graphicsButton(engine, verifierPackage, say));
    main.dataset.ready = "true";
  } catch (error) {
    const said = saidBy(error);
    say(() => "");
    main.append(refusal(said));
    main.dataset.ready = "refused";
  }
}

/** Return whether the browser gives a graphics processor; some say yes and have none. */
async function hasGraphics(): Promise<boolean> {
  const gpu = (navigator as { gpu?: { requestAdapter(): Promise<unknown> } }).gpu;
  return gpu !== undefined && (await gpu.requestAdapter().catch(() => null)) !== null;
}

function graphicsButton(engine: EngineClient, model: VerifierPackage, say: (next: () => string) => void): HTMLElement {
  const button = make("button", { type: "button", id: "graphics" });
  label(button, "try_graphics");
  button.onclick = async () => {
    button.disabled = true;
    say(() => text("trying"));
    try {
      const { graphics, processor, isUsed } = await engine.tryGraphics(model);
      const key = isUsed ? "graphics_used" : "graphics_unused";
      say(() => text(key, Math.round(graphics), Math.round(processor)));
    } catch (error) {
      const said = saidBy(error);
      say(() => textOf(said));
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
