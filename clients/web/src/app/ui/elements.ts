// Elements by hand, without a framework.

/** A new element with these attributes and this text. */
export const make = <K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Record<string, string> = {}, text = "",
): HTMLElementTagNameMap[K] => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
};

/** Only what has changed is written: a text that is written anew loses its selection, and a reader's place in it. */
export function write(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** A pen on a cleared canvas, in CSS pixels; null while it is not shown. */
export function pen(canvas: HTMLCanvasElement): CanvasRenderingContext2D | null {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((size) => Math.round(size * ratio));
  if (width === 0 || height === 0) return null;
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context?.setTransform(ratio, 0, 0, ratio, 0, 0);
  context?.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  return context;
}

/** A control with its label above. */
export function field(name: string, control: HTMLElement): HTMLElement {
  const made = make("div", { class: "field" });
  made.append(make("label", { for: control.id }, name), control);
  return made;
}
