/**
 * Keep the page and its verifier in the browser, so that it works without a connection; and isolate the page from
 * others, which WebAssembly threads need, where the host does not send the two headers for that.
 */
declare const self: ServiceWorkerGlobalScope;
export {};

const FILES = "__FILES__"; // a list as JSON with single quotes: vite.config.ts writes it into the built file
const CACHE = "oskdft-page-__VERSION__";
const VERIFIER = "oskdft-verifier";
const LISTING = "verifier/verifier.json";

self.addEventListener("install", (event) => {
  const files = JSON.parse(FILES.replaceAll("'", '"')) as string[];
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(["./", ...files]))
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
  const path = address.href.slice(self.registration.scope.length);
  if (path.split("?")[0] === LISTING) event.respondWith(newest(request));
  else if (path.startsWith("verifier/")) event.respondWith(kept(request, VERIFIER));
  else event.respondWith(kept(request, CACHE));
});

async function removeOld(): Promise<void> {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith("oskdft-page-") && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
}

/** Answer from the cache; else ask the host, and keep its answer. The addresses change with the contents. */
async function kept(request: Request, name: string): Promise<Response> {
  const cache = await caches.open(name);
  const found = await cache.match(request, { ignoreSearch: request.mode === "navigate" });
  if (found) return isolated(found);
  const response = await fetch(request);
  if (response.ok) await cache.put(request, response.clone()).catch(() => {}); // storage may be full
  return isolated(response);
}

/** Ask the host, for a new verifier; without a connection answer what was there last. */
async function newest(request: Request): Promise<Response> {
  const cache = await caches.open(VERIFIER);
  try {
    const response = await fetch(request, { cache: "no-cache" });
    if (response.ok) await keepListing(cache, request, response.clone());
    return isolated(response);
  } catch {
    return isolated((await cache.match(request)) ?? Response.error());
  }
}

/** Keep a listing, and remove the files of the verifier before it. */
async function keepListing(cache: Cache, request: Request, response: Response): Promise<void> {
  const before = await cache.match(request);
  if (before && (await before.text()) !== (await response.clone().text())) {
    for (const key of await cache.keys()) await cache.delete(key);
  }
  await cache.put(request, response).catch(() => {});
}

function isolated(response: Response): Response {
  if (response.type === "error" || response.type === "opaque") return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
