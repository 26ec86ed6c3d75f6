// For `window.rivulet.state()`: plain values. Times in ms, positions in samples of 48 kHz.

import type { Live, Wish } from "./live";

export function snapshot(live: Live, wish: Wish | null): Record<string, unknown> {
  const { stream } = live;
  const stems = stream?.stems ?? [];
  const soloing = stems.some((stem) => stem.solo);
  const { server, player, media, network } = stream?.stats ?? {};
  return {
    phase: live.phase,
    wish,
    transport: stream?.transport ?? null,
    model: stream?.ready.model ?? null,
    session: stream?.ready.session ?? null,
    listening: live.listening,
    position: stream?.position ?? 0,
    sent: stream?.sent ?? 0,
    told: stream?.told ?? 0,
    away: stream?.away ?? false,
    stems: stems.map(({ name, gain, muted, solo, pan, level }) => ({
      name, pan, peak: level, gain: !muted && (solo || !soloing) ? gain : 0,
    })),
    declared: stream ? { samples: stream.ready.latency_samples, ms: stream.ready.latency_ms } : null,
    measured: stream && { median: stream.latency.arrival, worst: stream.latency.worst, ear: stream.latency.ear },
    player: player ? { ...player, peaks: [...player.peaks] } : null,
    stats: server ?? null,
    media: media ?? null,
    network: network ?? null,
  };
}
