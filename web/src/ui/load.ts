// Answers of the daemon as they are needed to draw.

import { useCallback, useEffect, useState } from "preact/hooks";
import { live } from "../live";

export interface Loaded<T> {
  value: T | undefined;
  error: unknown;
  loading: boolean;
  again: () => void;
}

// useLoad asks for something when the component appears and whenever one of
// the inputs changes, and when the daemon is back. What was there stays until the
// answer comes.
export function useLoad<T>(ask: (signal: AbortSignal) => Promise<T>, inputs: unknown[]): Loaded<T> {
  const [state, set] = useState<{ value: T | undefined; error: unknown; loading: boolean }>({ value: undefined, error: undefined, loading: true });
  const [turn, next] = useState(0);
  useEffect(() => {
    const own = new AbortController();
    set((s) => ({ ...s, loading: true }));
    ask(own.signal).then(
      (value) => own.signal.aborted || set({ value, error: undefined, loading: false }),
      (error: unknown) => own.signal.aborted || set((s) => ({ value: s.value, error, loading: false })),
    );
    return () => own.abort();
  }, [...inputs, turn]);
  const again = useCallback(() => next((n) => n + 1), []);
  useEffect(() => live.onReturn(again), []);
  return { ...state, again };
}
