/**
 * Keep the page in the browser, so that it works without a connection; the page itself keeps its verifier
 * (`verifier/package.ts`). Isolate the page from others, which WebAssembly threads need, where the host does not send
 * the two headers for that.
 */
import { PAGE_CACHES } from "./names";

declare const self: ServiceWorkerGlobalScope;
// vite.config.ts puts the lists and the version in their places when the page is built.
declare const __FILES__: string[];
declare const __ON_DEMAND__: string[];
declare const __VERSION__: string;

const PAGE = PAGE_CACHES + __VERSION__;
const KEPT = new Set(["", ...__FILES__, ...__ON_DEMAND__]);

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
  if (KEPT.has(path)) event.respondWith(fileOfPage(event, path));
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

function isolated(response: Response): Response {
  if (response.status === 0) return response; // an error, or a redirection that the browser follows
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
