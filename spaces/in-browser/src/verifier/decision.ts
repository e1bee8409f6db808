/** Decide on a score: modeling_oskdft/verification/decision.py in this language. */
import { message, type Message } from "../messages";
import { lineOf } from "./cohort";
import { SPEECH_NETWORK } from "../audio/speech";
import type { Calibration, Thresholds } from "./checks";
import type { VerifierPackage } from "./package";
import { cosine } from "./vectors";

export const OPERATING_POINTS = ["eer", "far_1_percent", "far_0.1_percent"] as const;
export type OperatingPoint = (typeof OPERATING_POINTS)[number];
const ENOUGH_SPEAKERS = 20; // a threshold of fewer depends on who they are
const LEAST_SECONDS = 0.1; // of speech, whose logarithm is taken
const PRIOR = 0.5; // probability of one speaker, before anything is heard

/** One side of a comparison: its embedding of unit length, and the seconds of speech behind it. */
export interface Side {
  embedding: Float32Array;
  speech: number;
}

/** The answer to the question whether two sides are of one speaker; null where the model cannot tell. */
export interface Answer {
  score: number;
  threshold: number | null;
  isSame: boolean | null;
  llr: number | null;
  probability: number | null;
  warnings: Message[];
}

/** What two sides give: the cosine, its normalisation, the speech of the shorter side; null without a calibration. */
interface Scored {
  score: number;
  gain: number;
  shift: number;
  speech: number;
  llr: number | null;
}

/** Score two sides. */
export function scored({ calibration, cohort }: VerifierPackage, first: Side, second: Side): Scored {
  const score = cosine(first.embedding, second.embedding);
  const speech = Math.min(first.speech, second.speech);
  const [gain, shift] = lineOf(calibration?.cohort ? cohort : null, first.embedding, second.embedding);
  const llr = calibration ? llrOf(calibration, gain * score - shift, speech, SPEECH_NETWORK) : null;
  return { score, gain, shift, speech, llr };
}

/** Compare two sides. */
export function compare(verifier: VerifierPackage, sides: readonly [Side, Side], point: OperatingPoint): Answer {
  const { calibration, thresholds } = verifier;
  const { score, gain, shift, speech, llr } = scored(verifier, ...sides);
  const warnings = [...verifier.doubts, ...(calibration ? doubtsAbout(calibration, speech) : [])];
  const probability = llr === null ? null : probabilityOf(llr, PRIOR);
  const wanted = calibration?.operating_points[point]?.llr;
  if (calibration && llr !== null && wanted !== undefined) {
    const [low, high] = calibration.bounds;
    if (!(low < wanted && wanted <= high)) {
      warnings.push(message("no_decision_here"));
      return { score, threshold: null, isSame: null, llr, probability, warnings };
    }
    const [slope, offset] = slopeAndOffset(calibration, speech, SPEECH_NETWORK);
    const threshold = ((wanted - offset) / slope + shift) / gain;
    return { score, threshold, isSame: llr >= wanted, llr, probability, warnings };
  }
  const threshold = thresholds?.values[point] ?? null;
  if (threshold === null) warnings.push(message("no_threshold"));
  else warnings.push(...fewSpeakers(thresholds!));
  return { score, threshold, isSame: threshold === null ? null : score >= threshold, llr, probability, warnings };
}

/**
 * Return the natural logarithm of how many times likelier a score is for one speaker than for two.
 *
 * @param network what found the speech
 */
export function llrOf(calibration: Calibration, score: number, speech: number, network: string | null): number {
  const [slope, offset] = slopeAndOffset(calibration, speech, network);
  return Math.min(Math.max(slope * score + offset, calibration.bounds[0]), calibration.bounds[1]);
}

export function probabilityOf(llr: number, prior: number): number {
  return 1 / (1 + Math.exp(-llr - Math.log(prior) + Math.log1p(-prior)));
}

/** Return the log-likelihood ratio that a share of the same-speaker trials stays below. */
export function targetQuantile(calibration: Calibration, share: number): number {
  const { llr, false_rejects: rates } = calibration.curve;
  const above = rates.findIndex((rate) => rate > share);
  if (above <= 0) return above === 0 ? llr[0]! : llr[llr.length - 1]!;
  const part = (share - rates[above - 1]!) / (rates[above]! - rates[above - 1]!);
  return llr[above - 1]! + part * (llr[above]! - llr[above - 1]!);
}

/** Return the line over the score; seconds of speech count where the calibration counted them in the same way. */
function slopeAndOffset(calibration: Calibration, speech: number, network: string | null): [number, number] {
  const { score, duration, speech: seen } = calibration;
  if (!duration || network !== calibration.network) return score;
  const [a, b, c, e] = duration;
  const logarithm = Math.log(Math.min(Math.max(speech, LEAST_SECONDS, seen[0]), seen[1]));
  return [a + e * logarithm, b + c * logarithm];
}

function doubtsAbout(calibration: Calibration, speech: number): Message[] {
  const doubts = fewSpeakers(calibration);
  if (calibration.duration && calibration.network !== SPEECH_NETWORK) doubts.push(message("other_network"));
  else if (calibration.duration && speech < 0.9 * calibration.speech[0]) {
    doubts.push(message("short_for_calibration", speech.toFixed(1), calibration.speech[0].toFixed(1)));
  }
  return doubts;
}

function fewSpeakers({ speakers }: Thresholds | Calibration): Message[] {
  return speakers < ENOUGH_SPEAKERS ? [message("few_speakers", speakers)] : [];
}
