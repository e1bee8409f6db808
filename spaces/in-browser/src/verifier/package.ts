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
const LONGEST_WAIT = 5000; // milliseconds for the host's listing, where a verifier is kept

interface FileFacts {
  bytes: number;
  sha256: string;
}

interface Listing {
  schema: number;
  facts: Record<string, string>;
  files: Record<string, FileFacts>;
}

type Contents = Map<string, Uint8Array>;

/** The verifier that was kept the last time. */
interface Kept {
  listing: Listing;
  contents: Contents;
}

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
  const kept = await readKept().catch(() => null);
  try {
    const { listing, content } = await readListing(kept !== null);
    const contents = await downloadFiles(listing, kept, onProgress);
    const verifier = await assembled(listing, contents);
    await keep(listing, content, contents, kept).catch(() => {}); // storage may be denied or full
    return verifier;
  } catch (error) {
    if (!kept) throw error;
    return assembled(kept.listing, kept.contents); // a new verifier that is not whole does not replace the one before
  }
}

/** Ask the host, which may have a new verifier; where one is kept, not for long. */
async function readListing(isKept: boolean): Promise<{ listing: Listing; content: Uint8Array }> {
  const signal = isKept ? AbortSignal.timeout(LONGEST_WAIT) : null;
  const content = await fetched(LISTING_ADDRESS, LISTING, { cache: "no-cache", signal }, () => {});
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

async function downloadFiles(
  listing: Listing,
  kept: Kept | null,
  onProgress: (share: number) => void,
): Promise<Contents> {
  const total = Object.values(listing.files).reduce((sum, file) => sum + file.bytes, 0);
  let arrived = 0;
  const contents: Contents = new Map();
  for (const [name, facts] of Object.entries(listing.files)) {
    let content = isKept(kept, name, facts) ? kept!.contents.get(name)! : null;
    if (!content) {
      const onBytes = (length: number) => onProgress(Math.min((arrived + length) / total, 1));
      content = await fetched(addressOf(name, facts.sha256), name, { cache: "no-cache" }, onBytes);
      if (!(await isWhole(content, facts))) throw new Refusal("file_damaged", name);
    }
    arrived += content.length;
    contents.set(name, content);
  }
  return contents;
}

function isKept(kept: Kept | null, name: string, { sha256 }: FileFacts): boolean {
  return kept?.listing.files[name]?.sha256 === sha256;
}

/** Return what was kept under an address; null where nothing was, or storage is denied. */
async function keptFile(address: string): Promise<Uint8Array | null> {
  try {
    const found = await (await caches.open(VERIFIER_CACHE)).match(address);
    return found ? new Uint8Array(await found.arrayBuffer()) : null;
  } catch {
    return null;
  }
}

/** Keep a whole verifier in the place of the one before: the files first, then the listing, then nothing else. */
async function keep(listing: Listing, content: Uint8Array, contents: Contents, kept: Kept | null): Promise<void> {
  const cache = await caches.open(VERIFIER_CACHE);
  const addresses: string[] = [];
  for (const [name, facts] of Object.entries(listing.files)) {
    const address = addressOf(name, facts.sha256);
    addresses.push(address);
    if (!isKept(kept, name, facts)) await cache.put(address, new Response(contents.get(name) as BlobPart));
  }
  await cache.put(LISTING_ADDRESS, new Response(content as BlobPart, { headers: { "Content-Type": "application/json" } }));
  const wanted = new Set([LISTING_ADDRESS, ...addresses].map((address) => new URL(address, location.href).href));
  for (const request of await cache.keys()) if (!wanted.has(request.url)) await cache.delete(request);
}

/** Return the verifier that was kept the last time; null where there is none, or it is not whole. */
async function readKept(): Promise<Kept | null> {
  const stored = await keptFile(LISTING_ADDRESS);
  if (!stored) return null;
  const listing = parseListing(stored);
  const contents: Contents = new Map();
  for (const [name, facts] of Object.entries(listing.files)) {
    const content = await keptFile(addressOf(name, facts.sha256));
    if (!content || !(await isWhole(content, facts))) return null;
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

/**
 * Fetch a file.
 *
 * @param name of the file in refusals
 * @param onBytes called with the bytes that have arrived so far
 */
async function fetched(
  address: string,
  name: string,
  options: RequestInit,
  onBytes: (length: number) => void,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    const response = await fetch(address, options);
    if (!response.ok || !response.body) throw new Refusal("file_missing", name);
    const reader = response.body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      length += part.value.length;
      onBytes(length);
    }
  } catch (error) {
    throw error instanceof Refusal ? error : new Refusal("no_connection", name);
  }
  return new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
}

/** Compare size and digest. Where the browser computes no digest, as on http, the size has to do. */
async function isWhole(content: Uint8Array, { bytes, sha256 }: FileFacts): Promise<boolean> {
  if (content.length !== bytes) return false;
  const digest = await sha256Of(content);
  return digest === null || digest === sha256;
}
