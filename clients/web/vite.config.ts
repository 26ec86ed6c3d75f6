import { defineConfig } from "vite";

// SharedArrayBuffer needs both headers on the page and on every worklet; the Rivulet server sends them too.
const headers = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

const server = "http://127.0.0.1:8000"; // `npm run dev` beside `python -m server serve --port 8000`

export default defineConfig({
  build: { target: "es2022" },
  worker: { format: "es" },
  server: { headers, proxy: { "/v1": { target: server, ws: true } } },
  preview: { headers, proxy: { "/v1": { target: server, ws: true } } },
});
