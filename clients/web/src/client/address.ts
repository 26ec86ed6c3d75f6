// Where the server's parts are.

/** `path` without a slash in front: below the server's address, which may have a path of its own. */
export function below(server: string | URL, path: string): URL {
  const base = new URL(server, globalThis.location?.href);
  base.hash = base.search = "";
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  return new URL(path, base);
}

export function socketUrl(server: string | URL): string {
  const url = below(server, "v1/stream");
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}
