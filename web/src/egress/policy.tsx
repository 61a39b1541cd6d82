// The policy of a sandbox: what it says, what it would say, and changing it.

import { useEffect, useState } from "preact/hooks";
import { get, post, put, sandboxPath } from "../api";
import { draft as draftOf, keepDraft } from "../drafts";
import { useEvents } from "../live";
import { useMay } from "../session";
import { plural } from "../text";
import type { Egress, EgressChange, EgressCheck, Verdict } from "../types";
import { useLoad } from "../ui/load";
import { Action, Failure, Guest, Notice, Panel } from "../ui/parts";
import { say } from "../ui/toast";

// typingPause is how long nothing is typed before the policy is checked, in
// milliseconds.
const typingPause = 350;

export function Policy({ id, name }: { id: string; name: string }) {
  const egress = useLoad((s) => get<Egress>(sandboxPath(id, "egress"), s), [id]);
  const kept = "policy " + id;
  const [draft, setText] = useState(draftOf(kept));
  const setDraft = (text: string | undefined) => {
    keepDraft(kept, text);
    setText(text);
  };
  useEvents((e) => {
    if (e.sandboxID === id && e.type === "egress.policy") egress.again();
  });
  if (egress.error !== undefined && !egress.value) return <Failure error={egress.error} />;
  if (!egress.value) return <p class="muted pad" aria-busy="true">Loading…</p>;
  const inForce = egress.value.policy;
  return (
    <div>
      <Panel title={`Policy of ${name}`}>
        <Edit id={id} inForce={inForce} text={draft ?? inForce} change={(t) => setDraft(t === inForce ? undefined : t)}
          stored={() => { setDraft(undefined); egress.again(); }} />
      </Panel>
      <Panel title="Would this be allowed?"><Try id={id} inForce={inForce} draft={draft} /></Panel>
    </div>
  );
}

interface Checked {
  text: string;
  // error is why it could not be checked.
  error?: unknown;
  check?: EgressCheck;
}

function Edit({ id, inForce, text, change, stored }: { id: string; inForce: string; text: string; change: (t: string) => void; stored: () => void }) {
  const decides = useMay("admin");
  const [checked, setChecked] = useState<Checked>({ text: inForce });
  const changed = text !== inForce;
  useEffect(() => {
    if (!changed) {
      setChecked({ text });
      return;
    }
    const own = new AbortController();
    const timer = window.setTimeout(() => {
      post<EgressCheck>(sandboxPath(id, "egress", "check"), { policy: text }, own.signal)
        .then((check) => setChecked({ text, check }), (error: unknown) => own.signal.aborted || setChecked({ text, error }));
    }, typingPause);
    return () => {
      window.clearTimeout(timer);
      own.abort();
    };
  }, [text, inForce, id]);
  const current = changed && checked.text === text ? checked : undefined;
  const good = current?.check !== undefined && !current.check.mistake;
  const save = async () => {
    await put(sandboxPath(id, "egress"), { policy: text });
    say("The policy is in force");
    stored();
  };
  return (
    <div class="policy">
      <textarea class="code" aria-label="Policy document" aria-invalid={Boolean(current?.check?.mistake)} aria-describedby="policy-check"
        spellcheck={false} rows={16} readOnly={!decides} value={text} onInput={(e) => change(e.currentTarget.value)} />
      <div id="policy-check" role="status">
        {!changed && <p class="muted">{decides ? "This is in force. The first rule that fits decides." : "This is in force. Your key may not change it."}</p>}
        {changed && checked.text !== text && <p class="muted">Checking…</p>}
        {current?.error !== undefined && <Failure error={current.error} />}
        {current?.check?.mistake && <Mistake check={current.check} />}
        {good && <Effect changes={current.check?.changes ?? []} />}
      </div>
      {decides && (
        <div class="row-actions">
          <Action kind="primary" act={save} disabled={!good} busy="Putting in force…">Put in force</Action>
          {changed && <button type="button" class="quiet" onClick={() => change(inForce)}>Back to what is in force</button>}
        </div>
      )}
    </div>
  );
}

function Mistake({ check }: { check: EgressCheck }) {
  return <Notice kind="bad"><Guest text={(check.mistake ?? "").replace(/^egress policy: /, "")} most={600} />{check.hint && <div class="hint">{check.hint}</div>}</Notice>;
}

function Effect({ changes }: { changes: EgressChange[] }) {
  if (changes.length === 0) return <Notice kind="good">The policy is well formed. Nothing that was recorded would be decided otherwise.</Notice>;
  return (
    <Notice kind="info">
      The policy is well formed. {plural(changes.length, "recorded destination")} would be decided otherwise:
      <ul>{changes.slice(0, 20).map((c) => <li key={c.destination}><Guest text={c.destination} most={100} />: {c.now}, by <Guest text={c.rule} most={80} /></li>)}</ul>
    </Notice>
  );
}

function Try({ id, inForce, draft }: { id: string; inForce: string; draft: string | undefined }) {
  const [destination, setDestination] = useState("");
  const [verdict, setVerdict] = useState<Verdict | undefined>();
  const [error, setError] = useState<unknown>(undefined);
  const forget = () => {
    setVerdict(undefined);
    setError(undefined);
  };
  useEffect(forget, [inForce, draft, destination]);
  const ask = async (e: Event) => {
    e.preventDefault();
    forget();
    const to = /:\d+$/.test(destination) ? destination : destination + ":443";
    try {
      setVerdict(await post<Verdict>(sandboxPath(id, "egress", "test"), { destination: to, ...(draft === undefined ? {} : { policy: draft }) }));
    } catch (e) {
      setError(e);
    }
  };
  return (
    <form class="try" onSubmit={(e) => void ask(e)}>
      <input aria-label="Destination" placeholder="api.example.com:443" required value={destination} onInput={(e) => setDestination(e.currentTarget.value.trim())} />
      <button type="submit">Ask</button>
      <p class="muted answer">{draft === undefined ? "Asks the policy in force." : "Asks what is written above, which is not in force."} Nothing is sent.</p>
      {error !== undefined && <div class="answer"><Failure error={error} /></div>}
      {verdict && (
        <div role="status" class="answer">
          <span class={`mark ${verdict.allowed ? "allowed" : verdict.asks ? "asked" : "denied"}`}>{verdict.allowed ? "allowed" : verdict.asks ? "you are asked" : "denied"}</span> <Guest text={verdict.destination} />, by <Guest text={verdict.rule} />
        </div>
      )}
    </form>
  );
}
