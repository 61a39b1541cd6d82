// The page: who is signed in, where one is, and what happens meanwhile.

import { useEffect, useRef, useState } from "preact/hooks";
import { del, setSession } from "./api";
import { EgressView } from "./egress/view";
import { EventsView } from "./events";
import { FleetView } from "./fleet";
import { HostView } from "./host/view";
import { live, useLive } from "./live";
import { Login } from "./login";
import { to, useRoute } from "./route";
import { forgetDrafts } from "./drafts";
import { SandboxView } from "./sandbox/view";
import { type Session, Signed, whoami } from "./session";
import { moment } from "./text";
import { Failure, Notice } from "./ui/parts";
import { ThemeSwitch } from "./ui/theme";
import { report, Toasts } from "./ui/toast";

export function App() {
  // undefined until it is known, null for nobody.
  const [session, setWho] = useState<Session | null | undefined>(undefined);
  const [error, setError] = useState<unknown>(undefined);
  // ended says that nobody has asked to leave.
  const [ended, setEnded] = useState(false);
  const enter = (s: Session) => {
    setSession(s.csrf, () => leave(true));
    setEnded(false);
    setWho(s);
    live.start(async () => {
      const now = await whoami().catch(() => undefined);
      if (now?.scope === "none") leave(true);
      return now?.scope === "none";
    });
  };
  const leave = (unasked: boolean) => {
    live.stop();
    setEnded(unasked);
    setWho(null);
  };
  const begin = () => {
    setError(undefined);
    whoami().then((s) => (s.scope === "none" ? leave(false) : enter(s)), setError);
  };
  const signOut = () => del("/session").then(() => {
    forgetDrafts();
    leave(false);
  }, report);
  useEffect(() => {
    begin();
    return () => live.stop();
  }, []);
  if (error !== undefined) return <main class="loading"><Failure error={error} /><button type="button" onClick={begin}>Try again</button></main>;
  if (session === undefined) return <main class="loading" aria-busy="true">Loading…</main>;
  return (
    <>
      {session === null
        ? <Login signedIn={enter} ended={ended} />
        : <Signed.Provider value={session}><Shell session={session} signOut={() => void signOut()} /></Signed.Provider>}
      <Toasts />
    </>
  );
}

// patience is how long the daemon may be away without a word, in milliseconds.
const patience = 2000;

const views: [string, string][] = [["fleet", "Fleet"], ["egress", "Egress"], ["events", "Events"], ["host", "Host"]];

function Shell({ session, signOut }: { session: Session; signOut: () => void }) {
  const route = useRoute();
  const { overview, connection } = useLive();
  const here = route.view === "sandbox" ? "fleet" : route.view;
  const waiting = overview?.pending.length ?? 0;
  const box = route.view === "sandbox" ? overview?.sandboxes.find((s) => s.sandboxID === route.parts[0] || s.name === route.parts[0]) : undefined;
  const software = overview?.sandboxes.some((s) => s.accel === "tcg");
  useEffect(() => {
    document.title = (waiting ? `(${waiting}) ` : "") + (box?.name ?? views.find(([id]) => id === here)?.[1] ?? "Console") + " · Bulkhead";
  }, [here, waiting, box?.name]);
  const place = [route.view, route.parts[0]].join("/");
  const first = useRef(true);
  useEffect(() => {
    if (first.current) {
      first.current = false;
      return;
    }
    window.scrollTo(0, 0);
    // What was pressed has gone with its view; the next Tab goes on in the new one.
    if (document.activeElement === null || document.activeElement === document.body) document.getElementById("main")?.focus({ preventScroll: true });
  }, [place]);
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
        {connection === "lost" && <Lost />}
        <View view={route.view} />
      </main>
    </div>
  );
}

// Lost says that what is seen is old, unless that is over in a moment.
function Lost() {
  const [long, set] = useState(false);
  useEffect(() => {
    const timer = window.setTimeout(() => set(true), patience);
    return () => window.clearTimeout(timer);
  }, []);
  if (!long) return null;
  return (
    <Notice kind="bad" role="alert">
      <strong>The daemon does not answer.</strong> {live.told > 0 ? <>What you see is from {moment(new Date(live.told).toISOString())}.</> : null} Sandboxes
      run on without it. This page comes back by itself; on the host, see <code>systemctl status bulkhead</code>.
    </Notice>
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
      return <FleetView query={route.query} />;
  }
}
