import { Refusal, type Message } from "../messages";
import type { Heard } from "./engine";
import type { VerifierPackage } from "./package";

export type Asked =
  | { number: number; kind: "open"; graph: Uint8Array; speechNetwork: Uint8Array; shortestInput: number }
  | { number: number; kind: "hear"; waveform: Float32Array; rate: number };
export type Answered = { number: number; heard: Heard | null } | { number: number; refused: Message };
type Question = Asked extends infer One ? (One extends Asked ? Omit<One, "number"> : never) : never;

/** Ask the worker that runs the networks. */
export class EngineClient {
  private readonly worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  private readonly waiting = new Map<number, { resolve: (heard: Heard | null) => void; reject: (error: Error) => void }>();
  private asked = 0;

  constructor() {
    this.worker.onmessage = ({ data }: MessageEvent<Answered>) => {
      const { resolve, reject } = this.waiting.get(data.number)!;
      this.waiting.delete(data.number);
      if ("refused" in data) reject(new Refusal(data.refused.key, ...data.refused.values));
      else resolve(data.heard);
    };
    this.worker.onerror = (event) => {
      event.preventDefault();
      for (const { reject } of this.waiting.values()) reject(new Refusal("fault", event.message || "worker"));
      this.waiting.clear();
    };
  }

  /** Open the networks of a verifier. */
  async open({ graph, speechNetwork, shortestInput }: VerifierPackage): Promise<void> {
    await this.ask({ kind: "open", graph, speechNetwork, shortestInput });
  }

  /** Inspect and embed a recording: samples, and how many of them are a second. */
  async hear(waveform: Float32Array, rate: number): Promise<Heard> {
    return (await this.ask({ kind: "hear", waveform, rate }))!;
  }

  private ask(question: Question): Promise<Heard | null> {
    const number = ++this.asked;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject });
      this.worker.postMessage({ number, ...question });
    });
  }
}
