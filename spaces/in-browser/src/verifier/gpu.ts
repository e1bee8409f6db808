/** Open the verifier's graph on the GPU, by WebGPU. This part of onnxruntime is downloaded when it is asked for. */
import type { InferenceSession } from "onnxruntime-web";
import glue from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url";
import binary from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url";

/**
 * Open a graph.
 *
 * @param graph content of model.onnx
 * @throws whatever onnxruntime and the driver throw
 */
export async function openOnGpu(graph: Uint8Array): Promise<InferenceSession> {
  const ort = await import("onnxruntime-web/webgpu");
  ort.env.wasm.wasmPaths = { mjs: new URL(glue, import.meta.url).href, wasm: new URL(binary, import.meta.url).href };
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  return ort.InferenceSession.create(graph, { executionProviders: ["webgpu"] });
}
