// What happens, as the daemon tells it: one stream for the whole page.

import { useEffect, useState } from "preact/hooks";
import type { AuditEvent, Overview } from "./types";

export type Connection = "connecting" | "live" | "lost";

// keptEvents is how many events of this visit are kept.
const keptEvents = 500;

type Listener = () => void;

class Live {
  overview: Overview | undefined;
  connection: Connection = "connecting";
  recent: AuditEvent[] = [];
  private source: EventSource | undefined;
  private listeners = new Set<Listener>();
  private takers = new Set<(e: AuditEvent) => void>();

  start(): void {
    this.stop();
    const source = new EventSource("/live");
    this.source = source;
    source.addEventListener("overview", (e) => {
      this.overview = JSON.parse((e as MessageEvent<string>).data) as Overview;
      this.connection = "live";
      this.tell();
    });
    source.addEventListener("audit", (e) => {
      const event = JSON.parse((e as MessageEvent<string>).data) as AuditEvent;
      if (this.recent.some((r) => r.seq === event.seq)) return;
      this.recent = [...this.recent, event].slice(-keptEvents);
      for (const take of this.takers) take(event);
      this.tell();
    });
    source.addEventListener("error", () => {
      this.connection = "lost";
      this.tell();
      // The browser tries again by itself unless it was refused.
      if (source.readyState === EventSource.CLOSED) {
        window.setTimeout(() => this.source === source && this.start(), 3000);
      }
    });
  }

  stop(): void {
    this.source?.close();
    this.source = undefined;
  }

  subscribe(l: Listener): () => void {
    this.listeners.add(l);
    return () => this.listeners.delete(l);
  }

  // onEvent calls take with each event from now on.
  onEvent(take: (e: AuditEvent) => void): () => void {
    this.takers.add(take);
    return () => this.takers.delete(take);
  }

  private tell(): void {
    for (const l of this.listeners) l();
  }
}

export const live = new Live();

// useLive draws anew whenever something is told.
export function useLive(): Live {
  const [, redraw] = useState(0);
  useEffect(() => live.subscribe(() => redraw((n) => n + 1)), []);
  return live;
}

// useEvents calls take with each event that fits, while the component is there.
export function useEvents(take: (e: AuditEvent) => void): void {
  useEffect(() => live.onEvent(take));
}

// useNow is the time, every ten seconds.
export function useNow(): number {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    const timer = window.setInterval(() => set(Date.now()), 10_000);
    return () => window.clearInterval(timer);
  }, []);
  return now;
}
