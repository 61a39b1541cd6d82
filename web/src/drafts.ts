// What was written and is not saved yet. It outlives the view in which it was
// written, and the browser asks before it is thrown away with the page.

const drafts = new Map<string, string>();

const ask = (e: BeforeUnloadEvent) => e.preventDefault();

// draft is what was written under a name.
export const draft = (name: string): string | undefined => drafts.get(name);

// keepDraft keeps what is written; undefined for nothing.
export function keepDraft(name: string, text: string | undefined): void {
  if (text === undefined) drafts.delete(name);
  else drafts.set(name, text);
  if (drafts.size > 0) window.addEventListener("beforeunload", ask);
  else window.removeEventListener("beforeunload", ask);
}

// draftsOf lists the rest of the names that begin so.
export const draftsOf = (prefix: string): string[] => [...drafts.keys()].filter((n) => n.startsWith(prefix)).map((n) => n.slice(prefix.length));

export function forgetDrafts(): void {
  for (const name of [...drafts.keys()]) keepDraft(name, undefined);
}
