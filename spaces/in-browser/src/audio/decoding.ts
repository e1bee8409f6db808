/** Decode a file by Web Audio: one channel, at the rate of the file where its header says it. */
import { message, Refusal, type Message } from "../messages";
import { rateOf } from "./rates";

const MOST_MEGABYTES = 200;
const MOST_SECONDS = 600; // Web Audio holds a recording as a whole
const CANCELLED = 0.03; // as in modeling_oskdft/audio/decoding.py

/** A decoded recording, and what the visitor should know about it. */
export interface Decoded {
  waveform: Float32Array;
  rate: number;
  notes: Message[];
}

/**
 * Decode a file that the browser can play.
 *
 * @param file an audio or video file, or what the microphone recorded
 * @throws Refusal for a file that is empty, too large, too long, or not readable as audio
 */
export async function decode(file: Blob): Promise<Decoded> {
  if (file.size === 0) throw new Refusal("empty_file");
  if (file.size > MOST_MEGABYTES * 1e6) throw new Refusal("too_large", Math.round(file.size / 1e6), MOST_MEGABYTES);
  const { seconds, isVideo } = await look(file);
  if (seconds > MOST_SECONDS) throw new Refusal("too_long", Math.round(seconds / 60), MOST_SECONDS / 60);
  let buffer: AudioBuffer;
  try {
    const content = await file.arrayBuffer();
    const context = new OfflineAudioContext(1, 1, rateOf(content)); // what it decodes gets its own rate
    buffer = await context.decodeAudioData(content);
  } catch {
    throw new Refusal("unreadable");
  }
  if (buffer.duration > MOST_SECONDS) throw new Refusal("too_long", Math.round(buffer.duration / 60), MOST_SECONDS / 60);
  const waveform = mixed(Array.from({ length: buffer.numberOfChannels }, (_, n) => buffer.getChannelData(n)));
  if (!waveform.every(Number.isFinite)) throw new Refusal("not_finite");
  return { waveform, rate: buffer.sampleRate, notes: isVideo ? [message("video")] : [] };
}

/** Read the length and the kind of a file without decoding it; a length that the file does not state is 0. */
function look(file: Blob): Promise<{ seconds: number; isVideo: boolean }> {
  const player = document.createElement("video");
  const address = URL.createObjectURL(file);
  return new Promise<{ seconds: number; isVideo: boolean }>((resolve) => {
    const unknown = { seconds: 0, isVideo: false };
    const timer = setTimeout(() => resolve(unknown), 3000);
    player.onloadedmetadata = () => {
      clearTimeout(timer);
      resolve({ seconds: Number.isFinite(player.duration) ? player.duration : 0, isVideo: player.videoWidth > 0 });
    };
    player.onerror = () => {
      clearTimeout(timer);
      resolve(unknown); // the decoder says what is wrong
    };
    player.preload = "metadata";
    player.src = address;
  }).finally(() => {
    player.removeAttribute("src");
    player.load();
    URL.revokeObjectURL(address);
  });
}

/** Mix channels: those that are digital silence are left out; those that cancel each other are refused. */
function mixed(channels: Float32Array[]): Float32Array {
  if (channels.length === 1) return channels[0]!;
  const alive = channels.filter((channel) => channel.some((value) => value !== channel[0]));
  if (alive.length < 2) return alive[0] ?? channels[0]!;
  const mix = new Float32Array(alive[0]!.length);
  for (const channel of alive) for (let n = 0; n < mix.length; n++) mix[n]! += channel[n]! / alive.length;
  if (levelOf(mix) < CANCELLED * Math.max(...alive.map(levelOf))) throw new Refusal("cancelled");
  return mix;
}

function levelOf(samples: Float32Array): number {
  let [sum, squares] = [0, 0];
  for (const value of samples) {
    sum += value;
    squares += value * value;
  }
  return Math.sqrt(Math.max(squares / samples.length - (sum / samples.length) ** 2, 0));
}
