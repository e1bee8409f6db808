/** Enrol and identify: modeling_oskdft/verification/enrolment.py in this language, for the voices of one browser. */
import { quantile } from "../audio/quantiles";
import { Refusal } from "../messages";
import { llrOf, probabilityOf, scored, targetQuantile, type Side } from "../verifier/decision";
import type { Heard } from "../verifier/engine";
import type { VerifierPackage } from "../verifier/package";
import { cosine, unit } from "../verifier/vectors";
import type { Voice, VoiceStore } from "./store";

const ENOUGH_SPEECH = 1.0; // seconds in each recording
const ENOUGH_TRIALS = 100; // same-speaker trials, of which one in a hundred is told from none
const REJECTED_SHARE = 0.01; // of same-speaker trials, that may be refused wrongly
const LONGEST_NAME = 100;
const NEAREST = 5;
// Control and hidden letters, halves of letters, separators of lines, slashes, and letters that are not seen.
const REFUSED_LETTERS = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}/\\\u3164\u2800\u115f\u1160\uffa0]/u;

/** A voice that is near to a recording. */
export interface Match {
  name: string;
  score: number;
  llr: number | null;
  probability: number | null;
}

/** Return a voice as one side of a comparison: the mean of its recordings, weighted by speech. */
export function sideOf(voice: Voice): Side {
  const mean = new Float32Array(voice.recordings[0]!.embedding.length);
  let speech = 0;
  for (const recording of voice.recordings) {
    const weight = Math.max(recording.speech, 1e-3);
    speech += recording.speech;
    for (let n = 0; n < mean.length; n++) mean[n]! += weight * recording.embedding[n]!;
  }
  return { embedding: unit(mean), speech };
}

/**
 * Enrol a recording, under a new name or to a voice that is there.
 *
 * @throws Refusal for a name that cannot be used, too little speech, clipping, and a recording of somebody else
 */
export async function enrol(store: VoiceStore, verifier: VerifierPackage, name: string, heard: Heard): Promise<Voice> {
  const clean = checkedName(name);
  if (heard.speech < ENOUGH_SPEECH) throw new Refusal("enrol_more_speech", heard.speech.toFixed(1));
  if (heard.isClipped) throw new Refusal("enrol_clipped");
  const recording = { embedding: heard.embedding, speech: heard.speech };
  return store.update(clean, (known) => {
    if (!known) return { name: clean, fingerprint: verifier.fingerprint, recordings: [recording] };
    if (known.fingerprint !== verifier.fingerprint) throw new Refusal("other_model");
    checkSameSpeaker(verifier, known, heard);
    return { ...known, recordings: [...known.recordings, recording] };
  });
}

/**
 * Find the voices that are nearest to a recording, the nearest first, with the prior 1/N of N voices.
 *
 * @throws Refusal where nobody is enrolled, or voices are of another model
 */
export function identify(voices: Voice[], verifier: VerifierPackage, heard: Heard): Match[] {
  if (!voices.length) throw new Refusal("nobody");
  if (voices.some((voice) => voice.fingerprint !== verifier.fingerprint)) throw new Refusal("other_model");
  const prior = 1 / Math.max(voices.length, 2);
  const matches = voices.map((voice): Match => {
    const { score, llr } = scored(verifier, sideOf(voice), heard);
    return { name: voice.name, score, llr, probability: llr === null ? null : probabilityOf(llr, prior) };
  });
  // Equal ratios, at their bound, are told apart by the score.
  matches.sort((a, b) => (b.llr ?? b.score) - (a.llr ?? a.score) || b.score - a.score || (a.name < b.name ? -1 : 1));
  return matches.slice(0, NEAREST);
}

/** Refuse a recording that agrees less with a voice than 99 of 100 recordings of one speaker do. */
function checkSameSpeaker(verifier: VerifierPackage, known: Voice, heard: Heard): void {
  const { calibration, thresholds } = verifier;
  const side = sideOf(known);
  const score = cosine(side.embedding, heard.embedding);
  const targets = thresholds?.quantiles.target;
  let isBelow = false;
  if (calibration && !calibration.cohort && calibration.target_trials >= ENOUGH_TRIALS) {
    const llr = llrOf(calibration, score, Math.min(side.speech, heard.speech), calibration.network);
    isBelow = llr < targetQuantile(calibration, REJECTED_SHARE);
  } else if (targets?.length) isBelow = score < quantile(targets, REJECTED_SHARE);
  if (isBelow) throw new Refusal("disagrees", known.name);
}

function checkedName(name: string): string {
  const clean = name.normalize("NFC").trim();
  if (!clean) throw new Refusal("no_name");
  const letters = [...clean].length;
  if (letters > LONGEST_NAME) throw new Refusal("long_name", letters, LONGEST_NAME);
  const plain = clean.replaceAll("\u200d", ""); // within an emoji of several
  if (clean === "." || clean === ".." || REFUSED_LETTERS.test(plain)) throw new Refusal("bad_name");
  return clean;
}
