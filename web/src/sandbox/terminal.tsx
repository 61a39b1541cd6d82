// A shell in the sandbox.

import { FitAddon } from "@xterm/addon-fit";
import { type ITheme, Terminal as Xterm } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { useEffect, useRef, useState } from "preact/hooks";
import { sandboxPath } from "../api";
import { shown } from "../text";
import type { Sandbox } from "../types";
import { copy } from "../ui/copy";
import { report } from "../ui/toast";
import { up } from "../ui/state";
import { ShellSocket, type Status } from "./socket";
import { withSheets } from "./sheets";

const dark: ITheme = {
  background: "#0c1014", foreground: "#d7dde3", cursor: "#d7dde3", selectionBackground: "#33506e",
  black: "#22282e", red: "#ff7b72", green: "#6fcf8f", yellow: "#e3b341", blue: "#79b8ff", magenta: "#d2a8ff", cyan: "#66d9cf", white: "#c9d1d9",
  brightBlack: "#7d8790", brightRed: "#ffa198", brightGreen: "#8fe3aa", brightYellow: "#f2cc60", brightBlue: "#a5d0ff", brightMagenta: "#e2c5ff", brightCyan: "#8be9e0", brightWhite: "#f0f4f8",
};
const light: ITheme = {
  background: "#fbfbfc", foreground: "#1a2129", cursor: "#1a2129", selectionBackground: "#bcd6f2",
  black: "#1a2129", red: "#b3261e", green: "#146c43", yellow: "#7a5200", blue: "#0b5cad", magenta: "#7a3aa8", cyan: "#0a6a73", white: "#56616d",
  brightBlack: "#56616d", brightRed: "#9c1f18", brightGreen: "#0f5a37", brightYellow: "#664400", brightBlue: "#084a8d", brightMagenta: "#652f8c", brightCyan: "#08565e", brightWhite: "#3a444e",
};

function isDark(): boolean {
  const chosen = document.documentElement.dataset["theme"];
  return chosen === "dark" || (chosen !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
}

export function Terminal({ box, shell }: { box: Sandbox; shell: string }) {
  const host = useRef<HTMLDivElement>(null);
  const socket = useRef<ShellSocket | undefined>(undefined);
  const [status, setStatus] = useState<Status>({ kind: "connecting" });
  const [link, setLink] = useState("");
  useEffect(() => {
    const element = host.current;
    if (!element) return;
    withSheets(document);
    const term = new Xterm({
      fontFamily: "ui-monospace, 'SF Mono', 'Cascadia Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace",
      fontSize: 13, lineHeight: 1.2, scrollback: 5000, cursorBlink: false, screenReaderMode: true,
      theme: isDark() ? dark : light, minimumContrastRatio: 4.5,
      // A link of the guest says one thing and leads to another: where it leads
      // is shown, and nothing is opened.
      linkHandler: { activate: (_, uri) => setLink(uri), hover: (_, uri) => setLink(uri), leave: () => setLink(""), allowNonHttpProtocols: true },
    });
    const fit = new FitAddon();
    term.loadAddon(fit);
    term.open(element);
    const s = new ShellSocket(sandboxPath(box.sandboxID, "terminal"), shell, {
      output: (b) => term.write(b),
      fresh: () => term.reset(),
      status: setStatus,
      size: () => ({ cols: term.cols, rows: term.rows }),
    });
    socket.current = s;
    term.onData((data) => s.type(data));
    term.onBinary((data) => s.bytes(Uint8Array.from(data, (c) => c.charCodeAt(0))));
    term.onResize(() => s.resize());
    // Ctrl+Shift+C copies, as in other terminals; Ctrl+Shift+V is the browser's.
    term.attachCustomKeyEventHandler((e) => {
      if (e.type === "keydown" && e.ctrlKey && e.shiftKey && e.code === "KeyC" && term.hasSelection()) {
        void copy(term.getSelection()).catch(report);
        e.preventDefault();
        return false;
      }
      // Tab belongs to the shell, so something else has to lead out of here.
      if (e.type === "keydown" && e.code === "F6") {
        (document.querySelector(".terminal-bar button") as HTMLElement | null)?.focus();
        e.preventDefault();
        return false;
      }
      return true;
    });
    const refit = () => element.offsetWidth > 0 && fit.fit();
    refit();
    const watch = new ResizeObserver(refit);
    watch.observe(element);
    const theme = () => {
      term.options.theme = isDark() ? dark : light;
    };
    window.addEventListener("themechange", theme);
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", theme);
    s.connect();
    term.focus();
    return () => {
      window.removeEventListener("themechange", theme);
      system.removeEventListener("change", theme);
      watch.disconnect();
      s.close();
      term.dispose();
    };
  }, [box.sandboxID, shell]);
  // The machine was put back or came back: its shell is there, or a new one.
  useEffect(() => {
    if (up(box) && (status.kind === "failed" || status.kind === "waiting")) socket.current?.again();
  }, [box.state, box.head, box.startedAt]);
  return (
    <div class="terminal">
      <div class="terminal-bar">
        <StatusLine status={status} />
        {(status.kind === "ended" || status.kind === "failed") && <button type="button" class="small" onClick={() => socket.current?.again()}>{status.kind === "ended" ? "New shell" : "Connect"}</button>}
        <small class="muted terminal-help">{link ? <>link to <bdi class="guest">{shown(link, 200)}</bdi></> : "F6 leaves the terminal; Ctrl+Shift+C and V copy and paste"}</small>
        <button type="button" class="quiet small" onClick={() => host.current?.querySelector("textarea")?.focus()}>Focus</button>
      </div>
      <div class="terminal-host" ref={host} />
    </div>
  );
}

function StatusLine({ status }: { status: Status }) {
  const words = {
    connecting: "connecting…", open: "connected", waiting: "connection lost, trying again…",
    ended: "the shell has ended", failed: "cut off",
  }[status.kind];
  return (
    <span class={`chip ${status.kind === "open" ? "good" : status.kind === "connecting" ? "" : "warn"}`} role="status" data-status={status.kind}>
      {words}{status.kind === "ended" && status.how && <>: <bdi class="guest">{shown(status.how, 80)}</bdi></>}
      {status.kind === "failed" && <>: {shown(status.why, 160)}</>}
    </span>
  );
}
