// Where a stream over WebRTC is, in samples over all its calls: each session counts from zero, and begins where the one before it had
// got to. What was under way when a connection was lost never comes.

import type { Measure } from "./peer-measure";
import type { LatencyFigures } from "./stream";

export class Reckoning {
  told = 0;
  private origin = 0; // samples of the sessions before this one
  private still = 0; // the position while nothing is heard

  /** `measure`: of the call that is up. */
  constructor(private readonly measure: () => Measure | null) {}

  /** The stream's sample for one of the present session. */
  at(sample: number): number {
    return this.origin + sample;
  }

  advance(told: number): void {
    this.told = Math.max(this.told, this.at(told));
  }

  get position(): number {
    const heard = this.measure()?.heard ?? null;
    return heard === null ? this.still : Math.max(0, this.at(Math.round(heard)));
  }

  get sent(): number {
    return this.at(Math.round(this.measure()?.figures.sent ?? 0));
  }

  /** The session is over, before its call is forgotten. The sample at which the next one begins. */
  broken(): number {
    this.still = this.position;
    return (this.origin = Math.max(this.sent, this.told, this.still));
  }

  /** `device`: s that the output needs. */
  latency(declared: number, device: number): LatencyFigures {
    const { ear = null, figures = null } = this.measure() ?? {};
    const waited = figures?.network?.jitterBuffer ?? 0;
    const arrival = ear === null ? null : Math.max(0, ear - waited - 1000 * device);
    return { declared, arrival, worst: null, ear, turn: null };
  }
}
