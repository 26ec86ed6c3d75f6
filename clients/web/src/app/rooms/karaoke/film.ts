// The picture of a song that is a video: silent, and led by the sound. Small differences are made up by its speed, large ones
// by a jump; where it stands is known because the sound's way to the ear is.

const JUMP = 0.2; // s apart: too far to be made up unseen
const GAIN = 1.2; // of its speed, a second apart
const MOST = 0.25; // of its speed

export class Film {
  private url: string | null = null;
  private wanted = 0;

  constructor(readonly element: HTMLVideoElement) {
    element.muted = true;
    element.playsInline = true;
    element.preload = "auto";
    // What has no picture is no film.
    element.addEventListener("loadedmetadata", () => (element.hidden = element.videoWidth === 0));
  }

  /** null: none. */
  load(file: File | null): void {
    this.close();
    if (file === null || file.type.startsWith("audio/")) return;
    this.url = URL.createObjectURL(file);
    this.element.src = this.url;
  }

  /** `at`: seconds of the song that are heard now. */
  follow(at: number, playing: boolean, tempo: number): void {
    const { element } = this;
    if (this.url === null || element.hidden || element.readyState < HTMLMediaElement.HAVE_METADATA) return;
    const ahead = element.currentTime - at;
    this.wanted = at;
    const far = Math.abs(ahead) > (playing ? JUMP : 0.02);
    if (far && !element.seeking) element.currentTime = Math.min(at, element.duration || at);
    element.playbackRate = tempo * (1 - Math.max(-MOST, Math.min(MOST, GAIN * ahead)));
    if (playing && element.paused && at < element.duration) void element.play().catch(() => {});
    else if (!playing && !element.paused) element.pause();
  }

  /** Seconds by which the picture is ahead of the sound; null without one. */
  get ahead(): number | null {
    return this.url === null || this.element.hidden ? null : this.element.currentTime - this.wanted;
  }

  close(): void {
    this.element.hidden = true;
    this.element.pause();
    this.element.removeAttribute("src");
    this.element.load();
    if (this.url !== null) URL.revokeObjectURL(this.url);
    this.url = null;
  }
}
