/**
 * Read the exported verifier that lies beside the page: `verifier/verifier.json`, and the files that it lists with
 * their sizes and digests. `modeling_oskdft/export/browser.py` writes them.
 */
import { message, Refusal, type Message } from "../messages";
import { LISTING, VERIFIER_CACHE, VERIFIER_FOLDER } from "../names";
import { parseCalibration, parseThresholds, type Calibration, type Thresholds } from "./checks";
import { sha256Of } from "./digest";
import { digestOf, parseCohort, type Cohort } from "./cohort";

const SCHEMA = 1;
const LISTING_ADDRESS = VERIFIER_FOLDER + LISTING;

interface Listing {
  schema: number;
  facts: Record<string, string>;
  files: Record<string, { bytes: number; sha256: string }>;
}

type Contents = Map<string, Uint8Array>;

/** A verifier as it was exported, and what does not fit it. */
export interface VerifierPackage {
  name: string;
  fingerprint: string;
  shortestInput: number;
  graph: Uint8Array;
  speechNetwork: Uint8Array;
  thresholds: Thresholds | null;
  calibration: Calibration | null;
  cohort: Cohort | null;
  doubts: Message[];
}

/**
 * Download the verifier, check it, and keep it for the next time.
 *
 * @param onProgress called with the share that has arrived, from 0 to 1
 * @throws Refusal for a file that is missing, cut off, changed, or of another version of this page
 */
export async function download(onProgress: (share: number) => void): Promise<VerifierPackage> {
  try {
    const { listing, content } = await readListing();
    const contents = await downloadFiles(listing, onProgress);
    const verifier = await assembled(listing, contents);
    await keep(listing, content, contents).catch(() => {}); // storage may be denied or full
    return verifier;
  } catch (error) {
    const kept = await readKept().catch(() => null);
    if (!kept) throw error;
    return assembled(kept.listing, kept.contents); // a new verifier that is not whole does not replace the one before
  }
}

async function readListing(): Promise<{ listing: Listing; content: Uint8Array }> {
  const content = joined(await fetchParts(LISTING_ADDRESS, LISTING, "no-cache", () => {}));
  return { listing: parseListing(content), content };
}

function parseListing(content: Uint8Array): Listing {
  let listing: Listing;
  try {
    listing = JSON.parse(new TextDecoder().decode(content)) as Listing;
  } catch {
    throw new Refusal("file_damaged", LISTING);
  }
  if (listing?.schema !== SCHEMA || !listing.facts || !listing.files) throw new Refusal("other_version");
  return listing;
}

async function downloadFiles(listing: Listing, onProgress: (share: number) => void): Promise<Contents> {
  const total = Object.values(listing.files).reduce((sum, file) => sum + file.bytes, 0);
  let arrived = 0;
  const contents: Contents = new Map();
  for (const [name, facts] of Object.entries(listing.files)) {
    const onBytes = (length: number) => {
      arrived += length;
      onProgress(Math.min(arrived / total, 1));
    };
    let content = joined(await fetchParts(addressOf(name, facts.sha256), name, "default", onBytes));
    if (!(await isWhole(content, facts))) {
      // The browser may have kept a damaged file by itself: once more from the host.
      content = joined(await fetchParts(addressOf(name, facts.sha256), name, "reload", () => {}));
      if (!(await isWhole(content, facts))) throw new Refusal("file_damaged", name);
    }
    contents.set(name, content);
  }
  return contents;
}

/** Keep a whole verifier in the place of the one before: the files first, then the listing, then nothing else. */
async function keep(listing: Listing, content: Uint8Array, contents: Contents): Promise<void> {
  const cache = await caches.open(VERIFIER_CACHE);
  const addresses = Object.entries(listing.files).map(([name, { sha256 }]) => [name, addressOf(name, sha256)] as const);
  for (const [name, address] of addresses) {
    await cache.put(address, new Response(contents.get(name) as BlobPart));
  }
  await cache.put(LISTING_ADDRESS, new Response(content as BlobPart, { headers: { "Content-Type": "application/json" } }));
  const wanted = new Set([LISTING_ADDRESS, ...addresses.map(([, address]) => address)].map((at) => new URL(at, location.href).href));
  for (const request of await cache.keys()) if (!wanted.has(request.url)) await cache.delete(request);
}

async function readKept(): Promise<{ listing: Listing; contents: Contents } | null> {
  const cache = await caches.open(VERIFIER_CACHE);
  const read = async (address: string) => new Uint8Array(await (await cache.match(address))!.arrayBuffer());
  if (!(await cache.match(LISTING_ADDRESS))) return null;
  const listing = parseListing(await read(LISTING_ADDRESS));
  const contents: Contents = new Map();
  for (const [name, facts] of Object.entries(listing.files)) {
    const content = await read(addressOf(name, facts.sha256));
    if (!(await isWhole(content, facts))) return null;
    contents.set(name, content);
  }
  return { listing, contents };
}

async function assembled({ facts }: Listing, contents: Contents): Promise<VerifierPackage> {
  const { name, fingerprint, shortest_input: shortest } = facts;
  const [graph, speechNetwork] = [contents.get("model.onnx"), contents.get("silero_vad_16k_sequence.onnx")];
  if (!name || !fingerprint || !Number(shortest) || !graph || !speechNetwork) throw new Refusal("other_version");
  const measured = await fitting(fingerprint, contents);
  return { name, fingerprint, shortestInput: Number(shortest), graph, speechNetwork, ...measured };
}

/** Take thresholds, calibration and cohort; what is of other weights is left out with a doubt, as in Python. */
async function fitting(
  fingerprint: string,
  contents: Contents,
): Promise<Pick<VerifierPackage, "thresholds" | "calibration" | "cohort" | "doubts">> {
  const stored = [contents.get("thresholds.json"), contents.get("calibration.json"), contents.get("cohort.safetensors")];
  let thresholds = stored[0] ? parseThresholds(stored[0]) : null;
  let calibration = stored[1] ? parseCalibration(stored[1]) : null;
  let cohort = stored[2] ? parseCohort(stored[2]) : null;
  const doubts: Message[] = [];
  if (thresholds && thresholds.fingerprint !== fingerprint) {
    thresholds = null;
    doubts.push(message("other_thresholds"));
  }
  if (!calibration?.cohort || cohort?.fingerprint !== fingerprint) cohort = null;
  const isOfCohort = !calibration?.cohort || (cohort !== null && (await isNamed(cohort, calibration.cohort)));
  if (calibration && (calibration.fingerprint !== fingerprint || !isOfCohort)) {
    calibration = cohort = null;
    doubts.push(message("other_calibration"));
  }
  return { thresholds, calibration, cohort, doubts };
}

async function isNamed(cohort: Cohort, digest: string): Promise<boolean> {
  const found = await digestOf(cohort);
  return found === null || found === digest;
}

function addressOf(name: string, sha256: string): string {
  return `${VERIFIER_FOLDER}${name}?${sha256.slice(0, 16)}`;
}

async function fetchParts(
  address: string,
  name: string,
  cache: RequestCache,
  onBytes: (length: number) => void,
): Promise<Uint8Array[]> {
  const parts: Uint8Array[] = [];
  try {
    const response = await fetch(address, { cache });
    if (!response.ok || !response.body) throw new Refusal("file_missing", name);
    const reader = response.body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      onBytes(part.value.length);
    }
  } catch (error) {
    throw error instanceof Refusal ? error : new Refusal("no_connection", name);
  }
  return parts;
}

function joined(parts: Uint8Array[]): Uint8Array {
  const content = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    content.set(part, place);
    place += part.length;
  }
  return content;
}

/** Compare size and digest. Where the browser computes no digest, as on http, the size has to do. */
async function isWhole(content: Uint8Array, { bytes, sha256 }: { bytes: number; sha256: string }): Promise<boolean> {
  if (content.length !== bytes) return false;
  const digest = await sha256Of(content);
  return digest === null || digest === sha256;
}
