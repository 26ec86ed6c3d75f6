// What an offer says of Opus (RFC 7587, section 6.1). Browsers offer speech: mono, and no word on the bitrate.

export interface Sound {
  channels: number; // that go up; stereo is taken in any case
  bitrate: number; // bit/s that may come down a track
}

/** The offer with Opus as we want it; what is said already stays. */
export function musical(sdp: string, { channels, bitrate }: Sound): string {
  const wanted = [`stereo=1`, `sprop-stereo=${channels > 1 ? 1 : 0}`, `maxaveragebitrate=${bitrate}`];
  const types = new Set([...sdp.matchAll(/^a=rtpmap:(\d+) opus\/48000\/2\r?$/gim)].map(([, type]) => type));
  return sdp.replace(/^(a=fmtp:(\d+) )([^\r\n]*)/gm, (line, head: string, type: string, said: string) => {
    if (!types.has(type)) return line;
    const given = said.split(";").map((one) => one.trim()).filter(Boolean);
    const names = new Set(given.map((one) => one.split("=")[0]));
    return head + [...given, ...wanted.filter((one) => !names.has(one.split("=")[0]))].join(";");
  });
}
