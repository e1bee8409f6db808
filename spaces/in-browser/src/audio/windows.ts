/** Choose the windows of a recording that are embedded: modeling_oskdft/audio/track.py in this language. */
import { SAMPLING_RATE, type Speech } from "./speech";

const WHOLE_SECONDS = 30; // a recording up to here is embedded as it is
const WINDOW_SECONDS = 2;
const LEAST_SPEECH = 0.5; // seconds of speech in a window that is embedded
const LEAST_WINDOW = 1.0; // seconds; a shorter rest at the end joins the window before it

/** A stretch of a recording: its first sample, the sample behind its last one, and its seconds of speech. */
export interface Window {
  start: number;
  stop: number;
  speech: number;
}

/** Cut a recording of more than 30 s into windows of 2 s, and take those with speech. */
export function windowsOver(speech: Speech): Window[] {
  const samples = speech.samples;
  if (samples <= WHOLE_SECONDS * SAMPLING_RATE) return [{ start: 0, stop: samples, speech: speech.seconds }];
  const size = WINDOW_SECONDS * SAMPLING_RATE;
  const edges: number[] = [];
  for (let start = 0; start < samples; start += size) edges.push(start);
  if (samples - edges[edges.length - 1]! < LEAST_WINDOW * SAMPLING_RATE) edges.pop();
  edges.push(samples);
  const windows = edges.slice(1).map((stop, index) => {
    const start = edges[index]!;
    return { start, stop, speech: speech.secondsBetween(start, stop) };
  });
  const withSpeech = windows.filter((window) => window.speech >= LEAST_SPEECH);
  return withSpeech.length ? withSpeech : [windows.reduce((best, window) => (window.speech > best.speech ? window : best))];
}

/** Weigh windows by their speech; equal weights where none has any. Their sum is 1. */
export function weightsOf(windows: Window[]): number[] {
  const sum = windows.reduce((total, window) => total + window.speech, 0);
  return windows.map((window) => (sum > 0 ? window.speech / sum : 1 / windows.length));
}
