import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { build, defineConfig, type Plugin } from "vite";

const OUT = "dist";
const ON_DEMAND = /asyncify|webgpu/; // the part for GPUs, large and not for everybody

/** Build the service worker last, as one file that knows the files of the page, and a version that changes with them. */
function serviceWorker(): Plugin {
  return {
    name: "service-worker",
    async closeBundle() {
      const files = walk(OUT).sort();
      const hash = createHash("sha256").update(readFileSync("src/service_worker.ts"));
      for (const file of files) hash.update(file).update(readFileSync(join(OUT, file)));
      await build({
        configFile: false,
        logLevel: "warn",
        publicDir: false,
        define: {
          __FILES__: JSON.stringify(files.filter((file) => !ON_DEMAND.test(file))),
          __ON_DEMAND__: JSON.stringify(files.filter((file) => ON_DEMAND.test(file))),
          __VERSION__: JSON.stringify(hash.digest("hex").slice(0, 16)),
        },
        build: {
          outDir: OUT,
          emptyOutDir: false,
          target: "es2022",
          lib: { entry: "src/service_worker.ts", name: "sw", formats: ["iife"], fileName: () => "sw.js" },
        },
      });
    },
  };
}

function walk(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? walk(path) : [relative(OUT, path)];
  });
}

export default defineConfig({
  base: "./", // the page works in any folder of any host
  plugins: [serviceWorker()],
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "production"] },
  worker: { format: "es" },
  build: { outDir: OUT, target: "es2022", modulePreload: false, chunkSizeWarningLimit: 1000 },
});
