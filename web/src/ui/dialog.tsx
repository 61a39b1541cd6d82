// A question that has to be answered before anything else.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";

interface DialogProps {
  title: string;
  close: () => void;
  children: ComponentChildren;
  actions: ComponentChildren;
  wide?: boolean;
}

// Dialog is modal: the browser keeps the focus in it, and Escape closes it.
export function Dialog({ title, close, children, actions, wide }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const d = ref.current;
    d?.showModal();
    return () => d?.close();
  }, []);
  return (
    <dialog ref={ref} class={wide ? "wide" : ""} aria-labelledby={heading} onCancel={(e) => { e.preventDefault(); close(); }}>
      <h2 id={heading}>{title}</h2>
      <div class="dialog-body">{children}</div>
      <div class="dialog-actions">
        <button type="button" class="quiet" onClick={close}>Cancel</button>
        {actions}
      </div>
    </dialog>
  );
}
