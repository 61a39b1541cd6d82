// Where one is in the console: the part of the address after "#".

import { useEffect, useState } from "preact/hooks";

export interface Route {
  // view is "fleet", "sandbox", "egress", "events" or "host".
  view: string;
  // parts are what follows: a sandbox and a tab.
  parts: string[];
  query: URLSearchParams;
}

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [view = "", ...parts] = path.split("/").map(decode);
  return { view: view || "fleet", parts, query: new URLSearchParams(query) };
}

function decode(s: string): string {
  try {
    return decodeURIComponent(s);
  } catch {
    return s;
  }
}

// to is the address of a view.
export function to(view: string, parts: string[] = [], query: Record<string, string> = {}): string {
  const path = "#/" + [view, ...parts].map(encodeURIComponent).join("/");
  const q = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== "")).toString();
  return q ? path + "?" + q : path;
}

export function go(view: string, parts: string[] = [], query: Record<string, string> = {}): void {
  location.hash = to(view, parts, query);
}

// stay changes the address without leaving: the way back leads elsewhere.
export function stay(view: string, parts: string[] = [], query: Record<string, string> = {}): void {
  history.replaceState(null, "", to(view, parts, query));
  window.dispatchEvent(new Event("hashchange"));
}

export function useRoute(): Route {
  const [route, set] = useState(() => parse(location.hash));
  useEffect(() => {
    const changed = () => set(parse(location.hash));
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  return route;
}
