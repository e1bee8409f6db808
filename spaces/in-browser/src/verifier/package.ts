/**
 * Read the exported verifier that lies beside the page: `verifier/verifier.json`, and the files that it lists with
 * their sizes and digests. `modeling_oskdft/export/browser.py` writes them.
 */
import { Refusal } from "../messages";
import { parseCohort, type Cohort } from "./cohort";

const FOLDER = "verifier/";
const KEPT = "oskdft-verifier"; // name of the service worker's cache
const SCHEMA = 1;

interface Listing {
  schema: number;
  facts: Record<string, string>;
  files: Record<string, { bytes: number; sha256: string }>;
}

/** The thresholds of a model: fields of thresholds.json. */
export interface Thresholds {
  fingerprint: string;
  values: Record<string, number | null>;
  trials: number;
  speakers: number;
  data: string;
  quantiles: Record<string, number[]>;
}

/** The calibration of a model: fields of calibration.json. */
export interface Calibration {
  fingerprint: string;
  score: [number, number];
  duration: [number, number, number, number] | null;
  speech: [number, number];
  network: string | null;
  bounds: [number, number];
  trials: number;
  target_trials: number;
  speakers: number;
  operating_points: Record<string, { llr: number } | null>;
  curve: Record<string, number[]>;
  cohort: string | null;
}

/** A verifier as it was exported. */
export interface VerifierPackage {
  name: string;
  fingerprint: string;
  shortestInput: number;
  graph: Uint8Array;
  speechNetwork: Uint8Array;
  thresholds: Thresholds | null;
  calibration: Calibration | null;
  cohort: Cohort | null;
}

/**
 * Download the verifier and check it.
 *
 * @param onProgress called with the share that has arrived, from 0 to 1
 * @throws Refusal for a file that is missing, cut off, changed, or of another version of this page
 */
export async function download(onProgress: (share: number) => void): Promise<VerifierPackage> {
  const listing = await readListing();
  const total = Object.values(listing.files).reduce((sum, file) => sum + file.bytes, 0);
  let arrived = 0;
  const contents = new Map<string, Uint8Array>();
  for (const [name, { bytes, sha256 }] of Object.entries(listing.files)) {
    const parts = await fetchParts(`${FOLDER}${name}?${sha256.slice(0, 16)}`, name, (length) => {
      arrived += length;
      onProgress(Math.min(arrived / total, 1));
    });
    const content = joined(parts);
    if (content.length !== bytes || !(await hasDigest(content, sha256))) {
      await globalThis.caches?.delete(KEPT).catch(() => {}); // so that the next load asks the host again
      throw new Refusal("file_damaged", name);
    }
    contents.set(name, content);
  }
  const { name, fingerprint, shortest_input } = listing.facts;
  const [graph, speechNetwork] = [contents.get("model.onnx"), contents.get("silero_vad_16k_sequence.onnx")];
  if (!name || !fingerprint || !shortest_input || !graph || !speechNetwork) throw new Refusal("other_version");
  const cohort = contents.get("cohort.safetensors");
  return {
    name,
    fingerprint,
    shortestInput: Number(shortest_input),
    graph,
    speechNetwork,
    thresholds: ofFingerprint<Thresholds>(contents.get("thresholds.json"), fingerprint),
    calibration: ofFingerprint<Calibration>(contents.get("calibration.json"), fingerprint),
    cohort: cohort ? parseCohort(cohort, fingerprint) : null,
  };
}

async function readListing(): Promise<Listing> {
  const content = joined(await fetchParts(`${FOLDER}verifier.json`, "verifier.json", () => {}));
  let listing: Listing;
  try {
    listing = JSON.parse(new TextDecoder().decode(content)) as Listing;
  } catch {
    throw new Refusal("file_damaged", "verifier.json");
  }
  if (listing.schema !== SCHEMA || !listing.facts || !listing.files) throw new Refusal("other_version");
  return listing;
}

async function fetchParts(address: string, name: string, onBytes: (length: number) => void): Promise<Uint8Array[]> {
  const parts: Uint8Array[] = [];
  try {
    const response = await fetch(address);
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

/** Compare digests where the browser computes them: on https and on this machine. Elsewhere the size has to do. */
async function hasDigest(content: Uint8Array, sha256: string): Promise<boolean> {
  if (!globalThis.crypto?.subtle) return true;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content as Uint8Array<ArrayBuffer>));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === sha256;
}

/** Parse a JSON file that belongs to particular weights; null where there is none, or one of other weights. */
function ofFingerprint<T extends { fingerprint: string }>(content: Uint8Array | undefined, fingerprint: string): T | null {
  if (!content) return null;
  const stored = JSON.parse(new TextDecoder().decode(content)) as T;
  return stored.fingerprint === fingerprint ? stored : null;
}
