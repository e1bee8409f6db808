import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { defineConfig, type Plugin } from "vite";

const OUT = "dist";
const ON_DEMAND = /asyncify|webgpu/; // the part for graphics processors, large and not for everybody

/** Write into the service worker which files the page consists of, and a version that changes with any of them. */
function listFiles(): Plugin {
  return {
    name: "list-files",
    closeBundle() {
      const files = walk(OUT).filter((file) => file !== "sw.js" && !ON_DEMAND.test(file)).sort();
      const hash = createHash("sha256");
      for (const file of files) hash.update(file).update(readFileSync(join(OUT, file)));
      const path = join(OUT, "sw.js");
      const code = readFileSync(path, "utf8")
        .replace("__FILES__", JSON.stringify(files).replaceAll('"', "'"))
        .replace("__VERSION__", hash.digest("hex").slice(0, 16));
      writeFileSync(path, code);
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
  plugins: [listFiles()],
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "production"] },
  worker: { format: "es" },
  build: {
    outDir: OUT,
    target: "es2022",
    modulePreload: false,
    chunkSizeWarningLimit: 1000,
    rollupOptions: {
      input: { page: "index.html", sw: "src/service_worker.ts" },
      output: { entryFileNames: (chunk) => (chunk.name === "sw" ? "sw.js" : "assets/[name]-[hash].js") },
    },
  },
});
