import { Refusal } from "../messages";

const MOST_MILLISECONDS = 60_000;

/** A recording that goes on: `stop` ends it, and `file` comes when it has ended. */
export interface Recording {
  stop(): void;
  file: Promise<Blob>;
}

/**
 * Record from the microphone, for a minute at most.
 *
 * @throws Refusal without a microphone, or where the visitor or the page's address forbids it
 */
export async function record(): Promise<Recording> {
  if (!navigator.mediaDevices?.getUserMedia || typeof MediaRecorder === "undefined") throw new Refusal("no_recorder");
  let stream: MediaStream;
  try {
    // What phones do to a voice before they send it changes it: the model has learnt from recordings without that.
    stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
  } catch (error) {
    const name = error instanceof DOMException ? error.name : "";
    throw new Refusal(name === "NotAllowedError" || name === "SecurityError" ? "microphone_denied" : "no_microphone");
  }
  const close = () => stream.getTracks().forEach((track) => track.stop());
  let recorder: MediaRecorder;
  try {
    recorder = new MediaRecorder(stream, { audioBitsPerSecond: 128_000 });
    recorder.start();
  } catch {
    close();
    throw new Refusal("no_recorder");
  }
  const parts: Blob[] = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  const file = new Promise<Blob>((resolve) => {
    recorder.onstop = () => {
      close();
      resolve(new Blob(parts, { type: recorder.mimeType }));
    };
  });
  const stop = () => recorder.state === "recording" && recorder.stop();
  const timer = setTimeout(stop, MOST_MILLISECONDS);
  void file.then(() => clearTimeout(timer));
  return { stop, file };
}
