/**
 * Find speech, and faults of a recording that make a decision unreliable: modeling_oskdft/audio/speech.py in this
 * language, with the same numbers. Silero's network (MIT) finds the speech.
 */
import { message, Refusal, type Message } from "../messages";
import { quantile } from "./quantiles";
import { powerSpectrum, FRAME } from "./spectrum";

export const SAMPLING_RATE = 16000;
export const SPEECH_NETWORK = "silero"; // as calibrations name it
const CONTEXT = 64; // samples before each frame, which the network reads as well
const SPEECH_PROBABILITY = 0.5; // Silero's own threshold
const ENOUGH_SPEECH = 1.0; // seconds
const SILENCE = 10 ** (-84 / 20); // of full scale, as a root mean square
const TOO_QUIET = 10 ** (-60 / 20); // of the loudest frame
const FULL_SCALE = 0.999;
const CLIPPED_SHARE = 0.01;
const WRONG_SCALE = 2.0;
const ENOUGH_FRAMES = 25;
const LOW_BAND = [10, 109] as const; // of 257 frequencies: 300 to 3400 Hz
const HIGH_BAND = [135, 224] as const; // 4200 to 7000 Hz
const NARROW_BAND = -30.0; // the high band against the low band, in dB, where it is strongest
const FRAMES_AT_ONCE = 1875; // a minute: the network takes memory for each frame

/** Compute the probability of speech in frames that follow each other, each with the samples before it. */
export interface SpeechNetwork {
  probabilities(frames: Float32Array, count: number, state: unknown): Promise<{ values: Float32Array; state: unknown }>;
}

/** Where speech is in a recording. */
export class Speech {
  /**
   * @param frames whether each frame of `FRAME` samples has speech; the last one may reach beyond the recording
   * @param samples length of the recording
   */
  constructor(
    readonly frames: boolean[],
    readonly samples: number,
  ) {}

  get seconds(): number {
    return this.secondsBetween(0, this.samples);
  }

  /** Return the seconds of speech between two samples. */
  secondsBetween(start: number, stop: number): number {
    const end = Math.min(stop, this.samples);
    let covered = 0;
    for (let frame = Math.floor(start / FRAME); frame < Math.ceil(end / FRAME); frame++) {
      if (this.frames[frame]) covered += Math.max(Math.min((frame + 1) * FRAME, end) - Math.max(frame * FRAME, start), 0);
    }
    return covered / SAMPLING_RATE;
  }
}

/** What an inspection found. */
export interface Inspection {
  speech: Speech;
  isClipped: boolean;
  flaws: Message[];
}

/**
 * Inspect a recording.
 *
 * @param waveform samples at 16 kHz
 * @param network finds the speech
 * @throws Refusal for a silent recording
 */
export async function inspect(waveform: Float32Array, network: SpeechNetwork): Promise<Inspection> {
  const count = Math.ceil(waveform.length / FRAME);
  const levels = new Float64Array(count);
  const bands = new Float64Array(count);
  for (let frame = 0; frame < count; frame++) {
    const samples = centred(frameOf(waveform, frame));
    levels[frame] = Math.sqrt(samples.reduce((sum, value) => sum + value * value, 0) / FRAME);
    const power = powerSpectrum(samples);
    bands[frame] = 10 * Math.log10((sumOf(power, HIGH_BAND) + 1e-12) / (sumOf(power, LOW_BAND) + 1e-12));
  }
  const loudest = levels.reduce((a, b) => Math.max(a, b), 0);
  if (!(loudest > SILENCE)) throw new Refusal("silent");
  const probabilities = await probabilitiesOf(waveform, count, network);
  const frames = Array.from(probabilities, (value, frame) => value >= SPEECH_PROBABILITY && levels[frame]! > SILENCE);
  const speech = new Speech(frames, waveform.length);
  const { peak, clipped } = extremesOf(waveform);
  const isClipped = peak <= WRONG_SCALE && clipped > CLIPPED_SHARE;
  const flaws = flawsOf(speech, bands, loudest, peak, isClipped ? clipped : 0);
  return { speech, isClipped, flaws };
}

function flawsOf(speech: Speech, bands: Float64Array, loudest: number, peak: number, clipped: number): Message[] {
  const flaws: Message[] = [];
  const seconds = speech.seconds;
  if (seconds && seconds < ENOUGH_SPEECH) flaws.push(message("little_speech", seconds.toFixed(1)));
  if (peak > WRONG_SCALE) flaws.push(message("wrong_scale", Math.round(peak)));
  else if (clipped) flaws.push(message("clipped", (100 * clipped).toFixed(1)));
  const isTooQuiet = loudest < TOO_QUIET;
  if (isTooQuiet) flaws.push(message("too_quiet", Math.round(20 * Math.log10(loudest))));
  if (!speech.frames.includes(true)) {
    if (!isTooQuiet) flaws.push(message("no_voice")); // else the network hears nothing, and cannot tell
  } else if (isNarrowBand(bands, speech.frames)) flaws.push(message("narrow_band"));
  return flaws;
}

/** Return whether the speech has hardly any energy above 4.2 kHz, not even in its fricatives. */
function isNarrowBand(bands: Float64Array, frames: boolean[]): boolean {
  const ratios = bands.filter((_, frame) => frames[frame]).sort();
  return ratios.length >= ENOUGH_FRAMES && quantile(ratios, 0.95) < NARROW_BAND;
}

async function probabilitiesOf(waveform: Float32Array, count: number, network: SpeechNetwork): Promise<Float32Array> {
  const all = new Float32Array(count);
  const width = CONTEXT + FRAME;
  let state: unknown;
  for (let first = 0; first < count; first += FRAMES_AT_ONCE) {
    const some = Math.min(FRAMES_AT_ONCE, count - first);
    const inputs = new Float32Array(some * width);
    for (let row = 0; row < some; row++) {
      const start = (first + row) * FRAME;
      if (start > 0) inputs.set(waveform.subarray(start - CONTEXT, start), row * width);
      inputs.set(frameOf(waveform, first + row), row * width + CONTEXT);
    }
    const answer = await network.probabilities(inputs, some, state);
    all.set(answer.values, first);
    state = answer.state;
  }
  return all;
}

/** Return a frame; the last one goes on with the last sample. */
function frameOf(waveform: Float32Array, frame: number): Float32Array {
  const samples = waveform.subarray(frame * FRAME, (frame + 1) * FRAME);
  if (samples.length === FRAME) return samples;
  const padded = new Float32Array(FRAME).fill(samples[samples.length - 1]!);
  padded.set(samples);
  return padded;
}

function centred(frame: Float32Array): Float64Array {
  const mean = frame.reduce((sum, value) => sum + value, 0) / FRAME;
  return Float64Array.from(frame, (value) => value - mean);
}

function extremesOf(waveform: Float32Array): { peak: number; clipped: number } {
  let peak = 0;
  let clipped = 0;
  for (const value of waveform) {
    const size = Math.abs(value);
    if (size > peak) peak = size;
    if (size >= FULL_SCALE) clipped++;
  }
  return { peak, clipped: clipped / waveform.length };
}

function sumOf(power: Float64Array, [first, end]: readonly [number, number]): number {
  let sum = 0;
  for (let bin = first; bin < end; bin++) sum += power[bin]!;
  return sum;
}
