// Small parts that all views are made of.

import { cloneElement, type ComponentChildren, type JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { ApiError } from "../api";
import { shown } from "../text";
import { copy } from "./copy";
import { report } from "./toast";

// Guest shows text that somebody else chose.
export function Guest({ text, most }: { text: string; most?: number }) {
  return <bdi class="guest" title={text.length > 60 ? shown(text, 2000) : undefined}>{shown(text, most)}</bdi>;
}

interface ActionProps {
  // act is what a press does; the button waits for it and reports its error.
  act: () => Promise<unknown> | void;
  children: ComponentChildren;
  kind?: "primary" | "danger" | "quiet";
  disabled?: boolean;
  title?: string;
  // about says to who does not see it what the button is for.
  about?: string;
  busy?: string;
}

// Action is a button that does something on the host.
export function Action({ act, children, kind, disabled, title, about, busy }: ActionProps) {
  const [waits, setWaits] = useState(false);
  // It is not disabled meanwhile: that would take the focus away.
  const press = async () => {
    if (waits) return;
    setWaits(true);
    try {
      await act();
    } catch (e) {
      report(e);
    } finally {
      setWaits(false);
    }
  };
  return (
    <button type="button" class={kind ?? ""} disabled={disabled} aria-disabled={waits} aria-busy={waits} title={title} onClick={() => void press()}>
      {waits && busy ? busy : children}
      {about && <span class="visually-hidden"> {shown(about, 80)}</span>}
    </button>
  );
}

// Removal asks once more: the second press counts, unless something else was
// done in between.
export function Removal({ act, what, verb = "Remove", busy }: { act: () => Promise<void>; what: string; verb?: string; busy?: string }) {
  const [sure, setSure] = useState(false);
  return (
    <span class="removal" onFocusOut={() => setSure(false)}>
      <Action kind={sure ? "danger" : "quiet"} about={what} {...(busy ? { busy } : {})} act={() => { if (sure) return act().finally(() => setSure(false)); setSure(true); return; }}>
        {sure ? `Really ${verb.toLowerCase()}` : verb}
      </Action>
    </span>
  );
}

// Empty says what there is not, and what to do next.
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

// Notice is something that the operator has to know here.
export function Notice({ kind, children, role }: { kind: "good" | "warn" | "bad" | "info"; children: ComponentChildren; role?: "alert" | "status" }) {
  return <div class={`notice ${kind}`} role={role}>{children}</div>;
}

// Failure shows an error where its answer would be.
export function Failure({ error }: { error: unknown }) {
  const e = error instanceof ApiError ? error : new ApiError(0, String(error));
  return (
    <Notice kind="bad" role="alert">
      <strong>{shown(e.message, 1000)}</strong>
      {e.hint && <div class="hint">{shown(e.hint)}</div>}
    </Notice>
  );
}

export function Panel({ title, aside, children, class: c }: { title: string; aside?: ComponentChildren; children: ComponentChildren; class?: string }) {
  return (
    <section class={`panel ${c ?? ""}`} aria-label={title}>
      <header class="panel-head">
        <h2>{title}</h2>
        {aside && <div class="panel-aside">{aside}</div>}
      </header>
      {children}
    </section>
  );
}

// Copy is a command to run elsewhere, and a button that copies it.
export function Copy({ text }: { text: string }) {
  const [done, setDone] = useState(false);
  return (
    <span class="copy">
      <code>{text}</code>
      <button type="button" class="quiet small" onClick={() => void copy(text).then(() => setDone(true), report)}>
        {done ? "Copied" : "Copy"}
      </button>
    </span>
  );
}

// Tabs chooses one of several panes.
export function Tabs({ all, at, href, label }: { all: [string, string][]; at: string; href: (id: string) => string; label: string }) {
  const nav = useRef<HTMLElement>(null);
  // On a phone the chosen one may be outside of what is seen.
  useEffect(() => nav.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" }), [at]);
  return (
    <nav class="tabs" aria-label={label} ref={nav}>
      {all.map(([id, title]) => (
        <a key={id} href={href(id)} aria-current={id === at ? "page" : undefined}>{title}</a>
      ))}
    </nav>
  );
}

// Field is an input with its label. The hint describes it and is no part of its
// name, which is read out each time.
export function Field({ label, hint, children }: { label: string; hint?: string; children: JSX.Element }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {cloneElement(children, { id, ...(hint ? { "aria-describedby": id + "-hint" } : {}) })}
      {hint && <small id={id + "-hint"}>{hint}</small>}
    </div>
  );
}
