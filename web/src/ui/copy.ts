// copy puts text on the clipboard. A page that came without TLS from another
// host has no clipboard of its own; there it selects the text and has the browser
// copy what is selected.
export async function copy(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const before = document.activeElement as HTMLElement | null;
  const area = document.createElement("textarea");
  area.className = "visually-hidden";
  area.value = text;
  // Behind a dialog nothing can be selected.
  (before?.closest("dialog") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus();
  if (!done) throw new Error("The browser does not let this page copy; select the text and copy it by hand.");
}
