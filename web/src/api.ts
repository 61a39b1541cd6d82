// Requests to the daemon that served this page, and to nobody else.

import type { ApiErrorBody } from "./types";

// ApiError is what the daemon answers instead of what was asked for.
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly hint = "",
  ) {
    super(message);
  }
}

let csrf = "";
let onSignedOut = () => {};

// setSession keeps what proves that requests come from this page.
export function setSession(token: string, signedOut: () => void): void {
  csrf = token;
  onSignedOut = signedOut;
}

type Body = Blob | ArrayBuffer | string;

async function send(method: string, path: string, body?: Body, type?: string, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = {};
  if (method !== "GET") headers["X-Bulkhead-Csrf"] = csrf;
  if (type) headers["Content-Type"] = type;
  let res: Response;
  try {
    res = await fetch(path, {
      method,
      headers,
      ...(body === undefined ? {} : { body }),
      ...(signal ? { signal } : {}),
      credentials: "same-origin",
      redirect: "error",
      cache: "no-store",
    });
  } catch (e) {
    if (signal?.aborted) throw e;
    throw new ApiError(0, "the daemon does not answer", "is it running? It comes back where it was");
  }
  if (res.ok) return res;
  if (res.status === 401 && path !== "/session") onSignedOut();
  throw await refusal(res);
}

async function refusal(res: Response): Promise<ApiError> {
  try {
    const e = (await res.json()) as ApiErrorBody;
    return new ApiError(res.status, e.message || `status ${res.status}`, e.hint ?? "");
  } catch {
    return new ApiError(res.status, `status ${res.status}`);
  }
}

async function json<T>(method: string, path: string, value?: unknown, signal?: AbortSignal): Promise<T> {
  const body = value === undefined ? undefined : JSON.stringify(value);
  const res = await send(method, path, body, body === undefined ? undefined : "application/json", signal);
  const text = await res.text();
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

export const get = <T>(path: string, signal?: AbortSignal) => json<T>("GET", path, undefined, signal);
export const post = <T>(path: string, value: unknown = {}, signal?: AbortSignal) => json<T>("POST", path, value, signal);
export const put = <T>(path: string, value: unknown) => json<T>("PUT", path, value);
export const del = <T>(path: string) => json<T>("DELETE", path);

// upload sends the bytes of a file.
export async function upload(path: string, body: Blob | string): Promise<void> {
  await send("PUT", path, body, "application/octet-stream");
}

// bytes reads at most max bytes of an answer; more says that there are more.
export async function bytes(path: string, max: number): Promise<{ data: Uint8Array; more: boolean }> {
  const res = await send("GET", path);
  const parts: Uint8Array[] = [];
  let size = 0;
  const reader = res.body?.getReader();
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    size += value.length;
    if (size > max) {
      void reader.cancel();
      break;
    }
  }
  const data = new Uint8Array(Math.min(size, max));
  let at = 0;
  for (const p of parts) {
    const piece = p.subarray(0, data.length - at);
    data.set(piece, at);
    at += piece.length;
  }
  return { data, more: size > max };
}

// chunks calls take with each piece of an answer, until it ends.
export async function chunks(path: string, signal: AbortSignal, take: (b: Uint8Array) => void, ask?: unknown): Promise<void> {
  const res = ask === undefined
    ? await send("GET", path, undefined, undefined, signal)
    : await send("POST", path, JSON.stringify(ask), "application/json", signal);
  const reader = res.body?.getReader();
  while (reader) {
    const { done, value } = await reader.read();
    if (done) return;
    take(value);
  }
}

// lines calls take with each line of an answer of JSON lines. It stops when
// take returns false.
export async function lines<T>(path: string, signal: AbortSignal, take: (v: T) => boolean | void, ask?: unknown): Promise<void> {
  const decoder = new TextDecoder();
  const own = new AbortController();
  const stop = () => own.abort();
  signal.addEventListener("abort", stop);
  let rest = "";
  let enough = false;
  try {
    await chunks(path, own.signal, (b) => {
      if (enough) return;
      rest += decoder.decode(b, { stream: true });
      const all = rest.split("\n");
      rest = all.pop() ?? "";
      for (const line of all) {
        if (line !== "" && take(JSON.parse(line) as T) === false) {
          enough = true;
          own.abort();
          return;
        }
      }
    }, ask);
  } catch (e) {
    if (!enough) throw e;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

// sandboxPath is the path of something of a sandbox.
export function sandboxPath(ref: string, ...parts: string[]): string {
  return "/" + ["sandboxes", ref, ...parts].map(encodeURIComponent).join("/");
}
