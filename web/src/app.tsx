// The page: who is signed in, where one is, and what happens meanwhile.

import { useEffect, useState } from "preact/hooks";
import { del, setSession } from "./api";
import { EgressView } from "./egress/view";
import { EventsView } from "./events";
import { FleetView } from "./fleet";
import { HostView } from "./host/view";
import { live, useLive } from "./live";
import { Login } from "./login";
import { to, useRoute } from "./route";
import { SandboxView } from "./sandbox/view";
import { type Session, Signed, whoami } from "./session";
import { ThemeSwitch } from "./ui/theme";
import { report, Toasts } from "./ui/toast";

export function App() {
  // undefined until it is known, null for nobody.
  const [session, setWho] = useState<Session | null | undefined>(undefined);
  const enter = (s: Session) => {
    setSession(s.csrf, () => leave());
    setWho(s);
    live.start();
  };
  const leave = () => {
    live.stop();
    setWho(null);
  };
  useEffect(() => {
    whoami().then((s) => (s.scope === "none" ? leave() : enter(s)), () => leave());
    return () => live.stop();
  }, []);
  if (session === undefined) return <main class="loading" aria-busy="true">Loading…</main>;
  return (
    <>
      {session === null
        ? <Login signedIn={enter} />
        : <Signed.Provider value={session}><Shell session={session} signOut={() => del("/session").then(leave, report)} /></Signed.Provider>}
      <Toasts />
    </>
  );
}

const views: [string, string][] = [["fleet", "Fleet"], ["egress", "Egress"], ["events", "Events"], ["host", "Host"]];

function Shell({ session, signOut }: { session: Session; signOut: () => void }) {
  const route = useRoute();
  const { overview, connection } = useLive();
  const here = route.view === "sandbox" ? "fleet" : route.view;
  const waiting = overview?.pending.length ?? 0;
  const software = overview?.sandboxes.some((s) => s.accel === "tcg");
  useEffect(() => {
    document.title = (waiting ? `(${waiting}) ` : "") + "Bulkhead · " + (views.find(([id]) => id === here)?.[1] ?? "");
  }, [here, waiting]);
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.getElementById("main")?.focus(); }}>Skip to content</a>
      <header class="top">
        <a class="brand" href={to("fleet")}><img src="/console/icon.svg" alt="" width="22" height="22" /> Bulkhead</a>
        <nav aria-label="Views">
          {views.map(([id, title]) => (
            <a key={id} href={to(id)} aria-current={id === here ? "page" : undefined}>
              {title}
              {id === "egress" && waiting > 0 && <span class="badge" aria-label={`${waiting} waiting`}>{waiting}</span>}
            </a>
          ))}
        </nav>
        <div class="top-end">
          {software && <a class="chip warn" href={to("host")} title="Guests run in QEMU's translator: this is no hardware boundary">no hardware boundary</a>}
          <span class={`chip ${connection === "live" ? "good" : "warn"}`} role="status">
            {connection === "live" ? "live" : connection === "lost" ? "reconnecting…" : "connecting…"}
          </span>
          <ThemeSwitch />
          <span class="who" title={`team ${session.team}, may ${session.scope}`}>{session.name}{session.scope === "read" && " · read-only"}</span>
          <button type="button" class="quiet small" onClick={signOut}>Sign out</button>
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        <View view={route.view} />
      </main>
    </div>
  );
}

function View({ view }: { view: string }) {
  const route = useRoute();
  switch (view) {
    case "sandbox":
      return <SandboxView key={route.parts[0] ?? ""} id={route.parts[0] ?? ""} tab={route.parts[1] ?? ""} query={route.query} />;
    case "egress":
      return <EgressView key={route.parts[0] ?? ""} id={route.parts[0] ?? ""} />;
    case "events":
      return <EventsView query={route.query} />;
    case "host":
      return <HostView />;
    default:
      return <FleetView />;
  }
}
