import { useState } from "preact/hooks";
import { post } from "./api";
import type { Session } from "./session";
import { Copy, Failure, Field, Notice } from "./ui/parts";

export function Login({ signedIn, ended }: { signedIn: (s: Session) => void; ended: boolean }) {
  const [key, setKey] = useState("");
  const [error, setError] = useState<unknown>(undefined);
  const [waits, setWaits] = useState(false);
  const submit = async (e: Event) => {
    e.preventDefault();
    setWaits(true);
    setError(undefined);
    try {
      signedIn(await post<Session>("/session", { key: key.trim() }));
    } catch (e) {
      setError(e);
    } finally {
      setWaits(false);
    }
  };
  return (
    <main class="login">
      <form class="panel" onSubmit={(e) => void submit(e)}>
        <h1><img src="/console/icon.svg" alt="" width="28" height="28" /> Bulkhead</h1>
        {ended && error === undefined && (
          <Notice kind="warn" role="alert"><strong>Your session has ended.</strong> Its key was revoked, it was not used for long, or the daemon was started anew. Sign in to go on where you were.</Notice>
        )}
        <Field label="API key" hint="It is exchanged for a session of this browser and not kept in the page.">
          <input type="password" name="key" autocomplete="current-password" autofocus required spellcheck={false}
            value={key} onInput={(e) => setKey(e.currentTarget.value)} />
        </Field>
        {error !== undefined && <Failure error={error} />}
        <button type="submit" class="primary" disabled={waits}>{waits ? "Signing in…" : "Sign in"}</button>
        <p class="muted">No key yet? On the host, as root:</p>
        <Copy text="bulkhead key create console --scope admin" />
      </form>
    </main>
  );
}
