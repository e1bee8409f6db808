/** Normalise scores with a cohort: modeling_oskdft/scoring/normalization.py in this language. */
import { Refusal } from "../messages";
import { sha256Of } from "./digest";
import { cosine } from "./vectors";

const LEAST_DEVIATION = 1e-6;

/** Embeddings of other speakers, one after the other, and how many of the nearest count. */
export interface Cohort {
  fingerprint: string;
  embeddings: Float32Array;
  size: number;
  topN: number;
}

/**
 * Parse cohort.safetensors: the length of a header, the header as JSON, and numbers.
 *
 * @throws Refusal for a file that is damaged
 */
export function parseCohort(content: Uint8Array): Cohort {
  try {
    const start = 8 + Number(new DataView(content.buffer, content.byteOffset).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(content.subarray(8, start)));
    const facts = header.__metadata__;
    const { data_offsets: offsets, shape } = header.embeddings;
    const embeddings = new Float32Array(content.slice(start + offsets[0], start + offsets[1]).buffer);
    const topN = Number(facts.top_n);
    if (embeddings.length !== shape[0] * shape[1] || !(topN >= 2 && topN <= shape[0])) throw new Error("shape");
    return { fingerprint: String(facts.fingerprint), embeddings, size: shape[1], topN };
  } catch {
    throw new Refusal("file_damaged", "cohort.safetensors");
  }
}

/** Return the digest by which a calibration names its cohort; null where the browser computes none. */
export async function digestOf({ embeddings, topN }: Cohort): Promise<string | null> {
  const numbers = new Uint8Array(embeddings.buffer, embeddings.byteOffset, embeddings.byteLength);
  const count = new TextEncoder().encode(String(topN));
  const content = new Uint8Array(numbers.length + count.length);
  content.set(numbers);
  content.set(count, numbers.length);
  return (await sha256Of(content))?.slice(0, 16) ?? null;
}

/** Return gain and shift of a pair: gain * score - shift is its normalised score (symmetric, adaptive). */
export function lineOf(cohort: Cohort | null, first: Float32Array, second: Float32Array): [number, number] {
  if (!cohort) return [1, 0];
  const sides = [first, second].map((embedding) => statisticsOf(cohort, embedding));
  const gain = sides.reduce((sum, [, deviation]) => sum + 1 / deviation / 2, 0);
  const shift = sides.reduce((sum, [mean, deviation]) => sum + mean / deviation / 2, 0);
  return [gain, shift];
}

function statisticsOf(cohort: Cohort, embedding: Float32Array): [number, number] {
  const { embeddings, size, topN } = cohort;
  const scores = new Float64Array(embeddings.length / size);
  for (let row = 0; row < scores.length; row++) scores[row] = cosine(embedding, embeddings.subarray(row * size));
  const nearest = scores.sort().slice(-topN);
  const mean = nearest.reduce((sum, score) => sum + score, 0) / topN;
  const deviation = Math.sqrt(nearest.reduce((sum, score) => sum + (score - mean) ** 2, 0) / (topN - 1));
  if (!(deviation > LEAST_DEVIATION)) throw new Refusal("flat_cohort");
  return [mean, deviation];
}
