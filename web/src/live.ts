// What happens, as the daemon tells it: one stream for the whole page.

import { useEffect, useState } from "preact/hooks";
import type { AuditEvent, Overview } from "./types";

export type Connection = "connecting" | "live" | "lost";

// keptEvents is how many events of this visit are kept.
const keptEvents = 500;

// lookedAt is where the tabs of a browser write which of them was looked at last.
const lookedAt = "bulkhead-looked-at";

// again is how long after a refusal it is asked again, in milliseconds.
const again = 3000;

type Listener = () => void;

class Live {
  overview: Overview | undefined;
  connection: Connection = "connecting";
  // version counts what was told.
  version = 0;
  // told is when the overview came.
  told = 0;
  recent: AuditEvent[] = [];
  private source: EventSource | undefined;
  private listeners = new Set<Listener>();
  private takers = new Set<(e: AuditEvent) => void>();
  private returns = new Set<Listener>();

  // A browser has six connections to a host for all its tabs (Chromium and
  // Firefox, without HTTP/2), and a stream takes one. So a tab that is not seen
  // listens only if none was looked at since.
  private readonly me = String(Math.random());
  private refused: (() => Promise<boolean>) | undefined;
  private missed = false;

  constructor() {
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.rest();
      else this.look();
    });
    window.addEventListener("storage", () => this.rest());
  }

  // look says that this tab is looked at, and listens again if it does not.
  private look(): void {
    localStorage.setItem(lookedAt, this.me);
    if (!this.source && this.refused) this.start(this.refused);
  }

  private rest(): void {
    if (!document.hidden || !this.source || localStorage.getItem(lookedAt) === this.me) return;
    this.source.close();
    this.source = undefined;
    this.missed = true;
  }

  // start listens. When the stream is refused, refused finds out whether that is
  // for good: it returns true if it has seen to that.
  start(refused: () => Promise<boolean>): void {
    this.source?.close();
    this.refused = refused;
    const source = new EventSource("/live");
    this.source = source;
    if (!document.hidden) localStorage.setItem(lookedAt, this.me);
    source.addEventListener("overview", (e) => {
      this.overview = JSON.parse((e as MessageEvent<string>).data) as Overview;
      this.told = Date.now();
      const back = this.connection === "lost" || this.missed;
      this.missed = false;
      this.connection = "live";
      this.tell();
      if (back) for (const l of this.returns) l();
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
        window.setTimeout(() => {
          if (this.source !== source) return;
          void refused().then((settled) => settled || this.source !== source || this.start(refused));
        }, again);
      }
    });
  }

  // stop forgets what was told: it was for whom it was told to.
  stop(): void {
    this.source?.close();
    this.source = undefined;
    this.refused = undefined;
    this.overview = undefined;
    this.recent = [];
    this.connection = "connecting";
  }

  // onReturn calls back each time the daemon answers again after it did not:
  // what was asked for in between is not known.
  onReturn(l: Listener): () => void {
    this.returns.add(l);
    return () => this.returns.delete(l);
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
    this.version++;
    for (const l of this.listeners) l();
  }
}

export const live = new Live();

// useLive draws anew whenever something is told.
export function useLive(): Live {
  const [, redraw] = useState(0);
  const drawn = live.version;
  useEffect(() => {
    const change = () => redraw((n) => n + 1);
    // Something may have been told since this was drawn.
    if (live.version !== drawn) change();
    return live.subscribe(change);
  }, []);
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
