// The connection of a terminal to its shell, which outlives connections.

export interface Note {
  from: number;
  fresh?: boolean;
  shell?: string;
  ended?: string;
  error?: string;
}

export interface Handlers {
  output: (b: Uint8Array) => void;
  // fresh says that what was shown is not what comes before what follows.
  fresh: () => void;
  status: (s: Status) => void;
  size: () => { cols: number; rows: number };
}

export type Status =
  | { kind: "connecting" | "open" | "waiting" }
  | { kind: "ended"; how: string }
  | { kind: "failed"; why: string };

// Pauses between attempts to connect, in milliseconds.
const firstPause = 500;
const longestPause = 10_000;

// piece is how much of what is pasted goes into one message, in bytes.
const piece = 16_384;

export class ShellSocket {
  private socket: WebSocket | undefined;
  private shell = "";
  private seen = 0;
  private pause = firstPause;
  private closed = false;
  private timer = 0;
  private over = false;

  constructor(
    private readonly path: string,
    private readonly name: string,
    private readonly on: Handlers,
  ) {}

  connect(): void {
    if (this.closed) return;
    this.over = false;
    this.on.status({ kind: "connecting" });
    const { cols, rows } = this.on.size();
    const q = new URLSearchParams({ shell: this.name, cols: String(cols), rows: String(rows), of: this.shell, seen: String(this.seen) });
    const url = new URL(this.path + "?" + q.toString(), location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      this.pause = firstPause;
      this.on.status({ kind: "open" });
      this.resize();
    };
    socket.onmessage = (e: MessageEvent<string | ArrayBuffer>) => this.take(e.data);
    socket.onclose = () => {
      if (this.closed || this.over || this.socket !== socket) return;
      this.on.status({ kind: "waiting" });
      this.timer = window.setTimeout(() => this.connect(), this.pause);
      this.pause = Math.min(longestPause, this.pause * 2);
    };
  }

  private take(data: string | ArrayBuffer): void {
    if (typeof data !== "string") {
      this.seen += data.byteLength;
      this.on.output(new Uint8Array(data));
      return;
    }
    const note = JSON.parse(data) as Note;
    if (note.ended !== undefined || note.error !== undefined) {
      this.over = true;
      this.shell = "";
      if (note.error === undefined) {
        this.on.status({ kind: "ended", how: note.ended ?? "" });
        return;
      }
      // The machine was cut off, paused or rolled back: its shell may be there.
      this.over = false;
      this.on.status({ kind: "failed", why: note.error });
      return;
    }
    if (note.shell !== undefined) this.shell = note.shell;
    if (note.fresh) this.on.fresh();
    this.seen = note.from;
  }

  type(text: string): void {
    const all = new TextEncoder().encode(text);
    for (let at = 0; at < all.length; at += piece) this.bytes(all.slice(at, at + piece));
  }

  bytes(b: Uint8Array<ArrayBuffer>): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(b);
  }

  resize(): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(this.on.size()));
  }

  // again connects now instead of later.
  again(): void {
    window.clearTimeout(this.timer);
    this.socket?.close();
    this.connect();
  }

  close(): void {
    this.closed = true;
    window.clearTimeout(this.timer);
    this.socket?.close();
  }
}
