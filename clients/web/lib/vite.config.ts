// `npm run build:lib`: the library alone, as a package in dist-lib. What lies in `lib/package` goes with it as it is.
//
// Vite gives a worklet a file of its own, beside the page. A library cannot: whoever bundles it again, or does not bundle at all,
// would have to find that file. So `x.ts?worker&url` becomes the address of a Blob that holds the bundled worklet as text.

import { type Plugin, build, defineConfig } from "vite";

const SUFFIX = "?worker&url";
const INSIDE = "\0worklet:";

async function bundled(entry: string): Promise<string> {
  const built = await build({
    configFile: false, logLevel: "warn", publicDir: false,
    build: { write: false, target: "es2022", lib: { entry, formats: ["es"], fileName: "worklet" }, minify: true },
  });
  const [output] = Array.isArray(built) ? built : [built];
  if (!("output" in output)) throw new Error(`got a watcher for ${entry}, expected a bundle`);
  return output.output[0].code;
}

function worklets(): Plugin {
  return {
    name: "rivulet-worklets",
    enforce: "pre",
    async resolveId(id, importer) {
      if (!id.endsWith(SUFFIX)) return null;
      const found = await this.resolve(id.slice(0, -SUFFIX.length), importer, { skipSelf: true });
      return found && INSIDE + found.id;
    },
    async load(id) {
      if (!id.startsWith(INSIDE)) return null;
      const text = JSON.stringify(await bundled(id.slice(INSIDE.length)));
      return `export default /* @__PURE__ */ URL.createObjectURL(/* @__PURE__ */ new Blob([${text}], { type: "text/javascript" }));`;
    },
  };
}

export default defineConfig({
  publicDir: "lib/package",
  plugins: [worklets()],
  build: {
    target: "es2022", outDir: "dist-lib", emptyOutDir: true, sourcemap: true, minify: false,
    lib: { entry: "src/client/index.ts", formats: ["es"], fileName: "index" },
  },
});
