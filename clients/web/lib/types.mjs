// `node lib/types.mjs FOLDER`: declarations whose imports name files with their endings, as Node's resolution asks for.

import { readFileSync, readdirSync, writeFileSync } from "node:fs";

const folder = process.argv[2];
for (const name of readdirSync(folder).filter((one) => one.endsWith(".d.ts"))) {
  const path = `${folder}/${name}`;
  writeFileSync(path, readFileSync(path, "utf8").replace(/(from |import\()"(\.\/[\w-]+)"/g, '$1"$2.js"'));
}
