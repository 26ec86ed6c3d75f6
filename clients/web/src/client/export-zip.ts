// Several files as one.

import { downloadZip } from "client-zip";

export interface Named {
  name: string;
  file: Blob;
}

/** Stored, not packed: sound hardly gets smaller. */
export const zip = (files: readonly Named[]): Promise<Blob> =>
  downloadZip(files.map(({ name, file }) => ({ name, input: file, lastModified: new Date() }))).blob();

/** To the folder where the browser keeps what is taken away. */
export function save({ name, file }: Named): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
