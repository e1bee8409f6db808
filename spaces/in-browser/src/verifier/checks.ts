/** Read what was measured with a model, thresholds.json and calibration.json, and check the numbers that decide. */
import { Refusal } from "../messages";

/** The thresholds of a model: the fields of thresholds.json that the page reads. */
export interface Thresholds {
  fingerprint: string;
  values: Record<string, number | null>;
  speakers: number;
  quantiles: Record<string, number[]>;
}

/** The calibration of a model: the fields of calibration.json that the page reads. */
export interface Calibration {
  fingerprint: string;
  score: [number, number];
  duration: [number, number, number, number] | null;
  speech: [number, number];
  network: string | null;
  bounds: [number, number];
  target_trials: number;
  speakers: number;
  operating_points: Record<string, { llr: number } | null>;
  curve: { llr: number[]; false_rejects: number[] };
  cohort: string | null;
}

/** @throws Refusal for a file that is damaged */
export function parseThresholds(content: Uint8Array): Thresholds {
  return parsed<Thresholds>(content, "thresholds.json", ({ values, speakers, quantiles }) => [
    ...Object.values(values).filter((value) => value !== null),
    speakers,
    ...Object.values(quantiles).flat(),
  ]);
}

/** @throws Refusal for a file that is damaged */
export function parseCalibration(content: Uint8Array): Calibration {
  return parsed<Calibration>(content, "calibration.json", (stored) => {
    const { score, bounds, speech, duration, curve, operating_points: points } = stored;
    if (!(score[0] > 0 && bounds[0] < 0 && bounds[1] > 0)) throw new Error("out of range");
    if (curve.llr.length !== curve.false_rejects.length) throw new Error("lists of two lengths");
    const wanted = Object.values(points).flatMap((point) => (point ? [point.llr] : []));
    const counts = [stored.target_trials, stored.speakers];
    return [...score, ...bounds, ...speech, ...(duration ?? []), ...wanted, ...counts, ...curve.llr, ...curve.false_rejects];
  });
}

/** Parse JSON with a fingerprint, of which some fields have to be finite numbers. */
function parsed<T extends { fingerprint: string }>(content: Uint8Array, name: string, numbersOf: (stored: T) => number[]): T {
  try {
    const stored = JSON.parse(new TextDecoder().decode(content)) as T;
    if (typeof stored.fingerprint !== "string" || !numbersOf(stored).every(Number.isFinite)) throw new Error("no numbers");
    return stored;
  } catch {
    throw new Refusal("file_damaged", name);
  }
}
