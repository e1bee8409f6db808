import { Refusal, type Message } from "../messages";
import type { Heard, Trial } from "./engine";
import type { VerifierPackage } from "./package";

type Question =
  | { kind: "open"; graph: Uint8Array; speechNetwork: Uint8Array; shortestInput: number }
  | { kind: "hear"; waveform: Float32Array; rate: number }
  | { kind: "tryGpu"; graph: Uint8Array };
export type Asked = Question & { number: number };
export type Answered = { number: number; value: unknown } | { number: number; refused: Message };

/** Ask the worker that runs the networks. */
export class EngineClient {
  private readonly worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  private readonly waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  private asked = 0;

  constructor() {
    this.worker.onmessage = ({ data }: MessageEvent<Answered>) => {
      const question = this.waiting.get(data.number);
      if (!question) return; // it was given up
      const { resolve, reject } = question;
      this.waiting.delete(data.number);
      if ("refused" in data) reject(new Refusal(data.refused.key, ...data.refused.values));
      else resolve(data.value);
    };
    this.worker.onerror = (event) => {
      event.preventDefault();
      for (const { reject } of this.waiting.values()) reject(event.message ? new Refusal("fault", event.message) : new Refusal("no_worker"));
      this.waiting.clear();
    };
  }

  /** Open the networks of a verifier. */
  async open({ graph, speechNetwork, shortestInput }: VerifierPackage): Promise<void> {
    await this.ask({ kind: "open", graph, speechNetwork, shortestInput });
  }

  /** Inspect and embed a recording: samples, and how many of them are a second. */
  async hear(waveform: Float32Array, rate: number): Promise<Heard> {
    return (await this.ask({ kind: "hear", waveform, rate })) as Heard;
  }

  /** Try the GPU, see `Engine.tryGpu`. */
  async tryGpu({ graph }: VerifierPackage): Promise<Trial> {
    return (await this.ask({ kind: "tryGpu", graph })) as Trial;
  }

  private ask(question: Question): Promise<unknown> {
    const number = ++this.asked;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject });
      this.worker.postMessage({ number, ...question });
    });
  }
}
