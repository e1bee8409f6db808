/** Run the two networks in onnxruntime, in a worker, so that the page answers while they run. */
import * as ort from "onnxruntime-web/wasm";
import glue from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import binary from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import { resample } from "../audio/resampling";
import { inspect, SAMPLING_RATE, type SpeechNetwork } from "../audio/speech";
import { weightsOf, windowsOver } from "../audio/windows";
import { firstLine, isOfMemory, Refusal, type Message } from "../messages";
import { openOnGpu } from "./gpu";
import { threadsHere } from "./threads";
import { cosine, unit } from "./vectors";

const TRIAL_SECONDS = 3;
const TRIAL_ROUNDS = 5;
const PARITY = 5e-7; // largest distance in cosine between CPU and GPU: no score moves by more than 1e-3

/** What a recording gives. */
export interface Heard {
  embedding: Float32Array;
  speech: number;
  isClipped: boolean;
  flaws: Message[];
}

/** How long 3 s of audio take on CPU and GPU, in milliseconds, and whether the GPU runs the graph now. */
export interface Trial {
  cpu: number;
  gpu: number;
  isUsed: boolean;
}

/** Hold the verifier's graph and the network that finds speech, in onnxruntime. */
export class Engine {
  private gpu: ort.InferenceSession | null = null;

  private constructor(
    private readonly graph: ort.InferenceSession,
    private readonly speechNetwork: SpeechNetwork,
    private readonly shortestInput: number,
  ) {}

  /**
   * Open both networks, and run them once: WebAssembly is compiled while it runs for the first time.
   *
   * @throws Refusal where they cannot be opened
   */
  static async open(graph: Uint8Array, speechNetwork: Uint8Array, shortestInput: number): Promise<Engine> {
    ort.env.wasm.wasmPaths = { mjs: new URL(glue, import.meta.url).href, wasm: new URL(binary, import.meta.url).href };
    ort.env.wasm.numThreads = threadsHere();
    ort.env.logLevel = "error";
    const opened = await Promise.all([session(graph, "model.onnx"), session(speechNetwork, "silero_vad_16k_sequence.onnx")]);
    const engine = new Engine(opened[0], new Silero(opened[1]), shortestInput);
    await engine.hear(trialSignal(), SAMPLING_RATE);
    return engine;
  }

  /**
   * Try the GPU, and use it from now on if it is faster and gives the same embeddings.
   *
   * @param content content of model.onnx
   * @throws Refusal where the GPU cannot run the graph
   */
  async tryGpu(content: Uint8Array): Promise<Trial> {
    const signal = trialSignal();
    let other: ort.InferenceSession | null = null;
    try {
      other = await openOnGpu(content);
      const [expected, found] = [await embed(this.graph, signal), await embed(other, signal)];
      if (!(cosine(unit(expected), unit(found)) > 1 - PARITY)) throw new Error("other embeddings");
      const times = { cpu: await timeOf(this.graph, signal), gpu: await timeOf(other, signal) };
      const isUsed = times.gpu < times.cpu;
      if (isUsed) [this.gpu, other] = [other, null];
      return { ...times, isUsed };
    } catch (error) {
      throw new Refusal("no_gpu", firstLine(error));
    } finally {
      await other?.release().catch(() => {});
    }
  }

  /**
   * Inspect and embed a recording.
   *
   * @param samples one channel
   * @param rate samples a second
   * @throws Refusal for a recording that is silent or too short
   */
  async hear(samples: Float32Array, rate: number): Promise<Heard> {
    const waveform = resample(samples, rate, SAMPLING_RATE);
    if (waveform.length < this.shortestInput) throw new Refusal("too_short", (waveform.length / SAMPLING_RATE).toFixed(2));
    const { speech, isClipped, flaws } = await inspect(waveform, this.speechNetwork);
    const windows = windowsOver(speech);
    const weights = weightsOf(windows);
    let mean: Float32Array | undefined;
    for (const [index, { start, stop }] of windows.entries()) {
      const embedding = unit(await this.run(waveform.subarray(start, stop)));
      mean ??= new Float32Array(embedding.length);
      for (let n = 0; n < mean.length; n++) mean[n]! += weights[index]! * embedding[n]!;
    }
    return { embedding: unit(mean!), speech: speech.seconds, isClipped, flaws };
  }

  /** Run the graph on the GPU where it is used; where the browser takes it away, on the CPU from then on. */
  private async run(waveform: Float32Array): Promise<Float32Array> {
    if (this.gpu) {
      try {
        return await embed(this.gpu, waveform);
      } catch {
        this.gpu = null;
      }
    }
    return embed(this.graph, waveform);
  }
}

/** Run the graph on one recording. */
async function embed(graph: ort.InferenceSession, waveform: Float32Array): Promise<Float32Array> {
  const shape = [1, waveform.length];
  const mask = new BigInt64Array(waveform.length).fill(1n);
  const inputs = {
    input_values: new ort.Tensor("float32", waveform, shape),
    attention_mask: new ort.Tensor("int64", mask, shape),
  };
  const { embeddings } = await graph.run(inputs);
  return Float32Array.from(embeddings!.data as Float32Array);
}

/** Return the median time of a run in milliseconds. */
async function timeOf(graph: ort.InferenceSession, signal: Float32Array): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < TRIAL_ROUNDS; round++) {
    const start = performance.now();
    await embed(graph, signal);
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[Math.floor(TRIAL_ROUNDS / 2)]!;
}

/** Return a rising tone: something to run the networks on. */
function trialSignal(): Float32Array {
  const seconds = (n: number) => n / SAMPLING_RATE;
  const samples = new Float32Array(TRIAL_SECONDS * SAMPLING_RATE);
  return samples.map((_, n) => 0.1 * Math.sin(2 * Math.PI * (200 + 400 * seconds(n)) * seconds(n)));
}

class Silero implements SpeechNetwork {
  constructor(private readonly network: ort.InferenceSession) {}

  async probabilities(frames: Float32Array, count: number, state: unknown) {
    const [h, c] = (state as [ort.Tensor, ort.Tensor] | undefined) ?? [zeros(), zeros()];
    const input = new ort.Tensor("float32", frames, [count, frames.length / count]);
    const answers = await this.network.run({ input, h, c });
    const [values, hidden, cell] = this.network.outputNames.map((name) => answers[name]!);
    return { values: values!.data as Float32Array, state: [hidden, cell] };
  }
}

async function session(content: Uint8Array, name: string): Promise<ort.InferenceSession> {
  try {
    return await ort.InferenceSession.create(content, { executionProviders: ["wasm"], enableMemPattern: false });
  } catch (error) {
    if (isOfMemory(error)) throw new Refusal("no_memory");
    const why = firstLine(error);
    if (why.includes("ERROR_CODE")) throw new Refusal("cannot_open", name); // onnxruntime runs, and refuses the graph
    if (/fetch|import|network|load|MIME/i.test(why)) throw new Refusal("no_connection", "WebAssembly");
    throw /no available backend|wasm|WebAssembly/i.test(why) ? new Refusal("no_webassembly") : new Refusal("cannot_open", name);
  }
}

function zeros(): ort.Tensor {
  return new ort.Tensor("float32", new Float32Array(128), [1, 1, 128]);
}
