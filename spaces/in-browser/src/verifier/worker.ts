/** Answer the page's questions one after the other: see `EngineClient`. */
import { saidBy } from "../messages";
import type { Answered, Asked } from "./client";
import { Engine } from "./engine";

let engine: Promise<Engine> | undefined;
let queue: Promise<void> = Promise.resolve();

self.onmessage = ({ data }: MessageEvent<Asked>) => {
  queue = queue.then(async () => {
    const answered: Answered = await answer(data).then(
      (value) => ({ number: data.number, value }),
      (error: unknown) => ({ number: data.number, refused: saidBy(error) }),
    );
    self.postMessage(answered);
  });
};

async function answer(asked: Asked): Promise<unknown> {
  switch (asked.kind) {
    case "open":
      engine = Engine.open(asked.graph, asked.speechNetwork, asked.shortestInput);
      await engine;
      return null;
    case "hear":
      return (await engine!).hear(asked.waveform, asked.rate);
    case "tryGpu":
      return (await engine!).tryGpu(asked.graph);
  }
}
