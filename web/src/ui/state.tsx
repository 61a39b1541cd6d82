// How a sandbox is, in one word and a colour.

import type { Sandbox } from "../types";

// Health is what matters to an operator: the state, unless something is wrong
// with a machine that runs.
export function health(s: Sandbox): string {
  if (s.unhealthy && s.state !== "crashed") return "unhealthy";
  return s.state;
}

// up reports whether a machine works, or would at once if something were asked of it.
export function up(s: Sandbox): boolean {
  return s.state === "running" || s.state === "suspended";
}

const tones: Record<string, string> = {
  running: "good", suspended: "calm", paused: "calm", stopped: "calm", unhealthy: "bad", crashed: "bad", held: "warn",
};

export function StateChip({ sandbox }: { sandbox: Sandbox }) {
  const h = health(sandbox);
  return <span class={`state ${tones[h] ?? "busy"}`}><i aria-hidden="true" />{h.replace("_", " ")}</span>;
}
