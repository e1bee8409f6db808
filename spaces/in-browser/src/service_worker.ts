/**
 * Keep the page in the browser, so that it works without a connection, and answer for the verifier that the page has
 * kept (`verifier/package.ts`). Isolate the page from others, which WebAssembly threads need, where the host does not
 * send the two headers for that.
 */
import { LISTING, PAGE_CACHES, VERIFIER_CACHE, VERIFIER_FOLDER } from "./names";

declare const self: ServiceWorkerGlobalScope;
// vite.config.ts puts the lists and the version in their places when the page is built.
declare const __FILES__: string[];
declare const __ON_DEMAND__: string[];
declare const __VERSION__: string;

const PAGE = PAGE_CACHES + __VERSION__;
const KEPT = new Set(["", ...__FILES__, ...__ON_DEMAND__]);
const LONGEST_WAIT = 5000; // milliseconds for the host, where an answer is kept

self.addEventListener("install", (event) => {
  // Each is asked for anew: what the browser has kept by itself may be of the version before.
  const requests = ["./", ...__FILES__].map((file) => new Request(file, { cache: "no-cache" }));
  event.waitUntil(
    caches
      .open(PAGE)
      .then((cache) => cache.addAll(requests))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(removeOld().then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const address = new URL(request.url);
  if (request.method !== "GET" || !address.href.startsWith(self.registration.scope)) return;
  const path = (address.origin + address.pathname).slice(self.registration.scope.length);
  if (path === VERIFIER_FOLDER + LISTING) event.respondWith(listing(request));
  else if (path.startsWith(VERIFIER_FOLDER)) event.respondWith(fileOfVerifier(request));
  else if (KEPT.has(path)) event.respondWith(fileOfPage(event, path));
  else if (path.startsWith("assets/")) event.respondWith(fileOfOlderPage(request));
});

async function removeOld(): Promise<void> {
  const names = await caches.keys(); // in the order in which they were made
  const old = names.filter((name) => name.startsWith(PAGE_CACHES) && name !== PAGE);
  await Promise.all(old.slice(0, -1).map((name) => caches.delete(name))); // an open page may be of the last one
}

async function fileOfPage(event: FetchEvent, path: string): Promise<Response> {
  const cache = await caches.open(PAGE);
  const name = path || "./";
  const found = await cache.match(name);
  if (found) return isolated(found);
  const response = await fetch(event.request);
  const isWhole = response.ok && !response.redirected;
  if (isWhole) event.waitUntil(cache.put(name, response.clone()).catch(() => {})); // storage may be full
  return isolated(response);
}

/** Answer a page that was opened before this version: the names of these files change with their contents. */
async function fileOfOlderPage(request: Request): Promise<Response> {
  return isolated((await caches.match(request)) ?? (await fetch(request)));
}

async function fileOfVerifier(request: Request): Promise<Response> {
  const asksTheHost = request.cache === "reload"; // because the kept file is damaged
  const found = asksTheHost ? undefined : await (await caches.open(VERIFIER_CACHE)).match(request);
  return isolated(found ?? (await fetch(request)));
}

/** Ask the host, which may have a new verifier; where it has no good answer in time, give the kept one. */
async function listing(request: Request): Promise<Response> {
  const kept = await (await caches.open(VERIFIER_CACHE)).match(request, { ignoreSearch: true });
  try {
    const signal = kept ? AbortSignal.timeout(LONGEST_WAIT) : null;
    const response = await fetch(new Request(request, { cache: "no-cache", signal }));
    if (!kept || (response.ok && "schema" in (await response.clone().json()))) return isolated(response);
  } catch (error) {
    if (!kept) throw error;
  }
  return isolated(kept);
}

function isolated(response: Response): Response {
  if (response.status === 0) return response; // an error, or a redirection that the browser follows
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
