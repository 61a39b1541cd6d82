// Text that somebody else chose is shown so that it cannot pass for something
// else: nothing in it is invisible, and nothing reorders what stands around it.

// hidden are characters that do not show, or change how others do: controls,
// line separators, directions (Unicode Standard Annex 9), those of no width, and
// tags.
const hidden =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202f\u205f-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\uffff]|[\u{e0000}-\u{e0fff}]/gu;

// piled are marks on one character beyond what any script needs: they would
// cover what stands above and below.
const piled = /(\p{M}{4})\p{M}+/gu;

// shown writes out what would be hidden, and cuts what is too long.
export function shown(s: string, most = 500): string {
  const clear = s.replace(piled, "$1…").replace(hidden, (c) => {
    if (c === "\n") return "⏎";
    if (c === "\t") return "⇥";
    return "\\u{" + (c.codePointAt(0) ?? 0).toString(16) + "}";
  });
  return clear.length > most ? clear.slice(0, most) + "…" : clear;
}

// log makes bytes of a console readable: escape sequences are left out, one
// without an end up to the end of its line; what else is hidden is written out;
// lines stay lines.
export function log(s: string): string {
  return s
    .replace(/\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?/g, "")
    .replace(/\x1b[P^_X][^\x1b\n]*(?:\x1b\\)?/g, "")
    .replace(/\x1b\[[0-?]*[ -/]*[@-~]/g, "")
    .replace(/\x1b[ -/]*[0-~]?/g, "")
    .replace(/\r+\n/g, "\n")
    .split("\n")
    .map((line) => shown(line.replace(/^[^]*\r(?=[^\r])/, "").replace(/\r/g, "").replace(/\t/g, "    "), 2000))
    .join("\n");
}

const units = ["B", "KiB", "MiB", "GiB", "TiB"];

export function size(n: number): string {
  let i = 0;
  while (n >= 1024 && i < units.length - 1) {
    n /= 1024;
    i++;
  }
  return (i === 0 || n >= 100 ? Math.round(n).toString() : n.toFixed(1)) + " " + units[i];
}

export function percent(n: number): string {
  return (n < 9.95 && n > 0.05 ? n.toFixed(1) : Math.round(n).toString()) + " %";
}

// span is a length of time in seconds, in its largest unit or two.
export function span(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return s + " s";
  const m = Math.floor(s / 60);
  if (m < 60) return m + " min";
  const h = Math.floor(m / 60);
  if (h < 48) return h < 10 && m % 60 ? `${h} h ${m % 60} min` : h + " h";
  return Math.floor(h / 24) + " d";
}

export function ago(time: string, now: number): string {
  const t = Date.parse(time);
  if (!t || t < 0) return "never";
  const s = (now - t) / 1000;
  return s < 5 ? "just now" : span(s) + " ago";
}

// moment is a time of day, with the date unless that is today.
export function moment(time: string, now = Date.now()): string {
  const t = new Date(time);
  const clock = t.toLocaleTimeString([], { hour12: false });
  return t.toDateString() === new Date(now).toDateString() ? clock : `${iso(t)} ${clock}`;
}

function iso(t: Date): string {
  const two = (n: number) => String(n).padStart(2, "0");
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}`;
}

// plural is a number of things.
export function plural(n: number, one: string, many = one + "s"): string {
  return `${n} ${n === 1 ? one : many}`;
}
