// Who is signed in.

import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { get } from "./api";

export interface Session {
  // name is that of the key.
  name: string;
  team: string;
  // scope is "read", "operate" or "admin".
  scope: string;
  // csrf proves that a request comes from this page.
  csrf: string;
}

const order = ["none", "read", "operate", "admin"];

// may reports whether a session has at least this scope. The daemon decides;
// this only keeps buttons away that would be refused.
export function may(s: Session, scope: string): boolean {
  return order.indexOf(s.scope) >= order.indexOf(scope);
}

export const Signed = createContext<Session>({ name: "", team: "", scope: "none", csrf: "" });

// useMay reports what the one who looks may do.
export function useMay(scope: string): boolean {
  return may(useContext(Signed), scope);
}

export const whoami = () => get<Session>("/session");
