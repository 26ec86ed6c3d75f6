// How long the output device takes from a context's time to the ear, in seconds.
//
// Firefox on Linux is not asked: it asks PulseAudio while it holds the lock of its audio graph, PulseAudio waits for the callback that
// waits for that graph, and the page stands still for ever (Firefox 153: 5 of 8 sessions over WebRTC). The figure of 0 s is too small
// there by some 40 ms.

/** `agent`: the browser's name of itself. */
export function deviceDelay(context: AudioContext, agent = navigator.userAgent): number {
  return /Linux.*Firefox\//.test(agent) ? 0 : context.outputLatency || 0; // Safari knows of no such figure
}
