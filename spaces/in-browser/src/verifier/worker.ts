/** Answer the page's questions one after the other: see `EngineClient`. */
import { saidBy } from "../messages";
import type { Answered, Asked } from "./client";
import { Engine } from "./engine";

let engine: Promise<Engine> | undefined;
let queue: Promise<void> = Promise.resolve();

self.onmessage = ({ data }: MessageEvent<Asked>) => {
  queue = queue.then(() => answer(data));
};

async function answer(asked: Asked): Promise<void> {
  let answered: Answered;
  try {
    if (asked.kind === "open") {
      engine = Engine.open(asked.graph, asked.speechNetwork, asked.shortestInput);
      await engine;
      answered = { number: asked.number, heard: null };
    } else answered = { number: asked.number, heard: await (await engine!).hear(asked.waveform, asked.rate) };
  } catch (error) {
    answered = { number: asked.number, refused: saidBy(error) };
  }
  self.postMessage(answered);
}
