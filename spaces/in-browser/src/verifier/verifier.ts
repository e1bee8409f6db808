import type { Decoded } from "../audio/decoding";
import type { EngineClient } from "./client";
import type { Heard } from "./engine";
import type { VerifierPackage } from "./package";

/** Hold an exported verifier, and what runs it. */
export class Verifier {
  constructor(
    readonly model: VerifierPackage,
    private readonly engine: EngineClient,
  ) {}

  /** Inspect and embed what an input of the page holds. */
  async hear(input: { waveform(): Promise<Decoded> }): Promise<Heard> {
    const { waveform, rate, notes } = await input.waveform();
    const heard = await this.engine.hear(waveform, rate);
    return { ...heard, flaws: [...notes, ...heard.flaws] };
  }
}
