// The pieces that all pages are made of: Bootstrap's classes, and the browser's own dialogs.

import { type ComponentChildren, type JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { say } from "./api";
import { ago, duration, moment, words } from "./format";

// --- states

const TONES: Record<string, string> = {
  RUNNING: "good",
  CREATED: "good",
  UPDATED: "good",
  SUCCESSFUL: "good",
  ACTIVE: "good",
  PENDING: "busy",
  SUSPENDING: "busy",
  TERMINATING: "busy",
  CREATING: "busy",
  UPDATING: "busy",
  IN_PROGRESS: "busy",
  DELETING: "busy",
  SUSPENDED: "still",
  FAILED: "bad",
  CREATE_FAILED: "bad",
  UPDATE_FAILED: "bad",
  DELETE_FAILED: "bad",
};

/** A state; one that is past does not move. */
export function State({ of, isPast }: { of: string; isPast?: boolean }) {
  return (
    <span class={`state state-${TONES[of] ?? "off"} ${isPast ? "state-past" : ""}`}>
      <span class="state-dot" aria-hidden="true" />
      {words(of)}
    </span>
  );
}

// --- moments

/** The present in seconds, anew so often; for "5 s ago". */
export function useNow(everyMs = 5000): number {
  const [now, set] = useState(Date.now() / 1000);
  useEffect(() => {
    const timer = setInterval(() => set(Date.now() / 1000), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

export function Ago({ at, now }: { at: number | null; now: number }) {
  if (at === null) return <>–</>;
  return (
    <time dateTime={new Date(at * 1000).toISOString()} title={moment(at)}>
      {ago(at, now)}
    </time>
  );
}

export const Took = ({ ms }: { ms: number }) => <>{ms ? duration(ms / 1000) : ""}</>;

// --- what is shown when there is nothing else

export function Loading({ what }: { what: string }) {
  return (
    <div class="hint" role="status">
      <span class="spinner-border spinner-border-sm" aria-hidden="true" /> Loading {what} …
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

export function Problem({ text }: { text: string }) {
  return (
    <div class="alert alert-danger" role="alert">
      {text}
    </div>
  );
}

// --- things to press

export function Copy({ text, label }: { text: string; label: string }) {
  const [done, set] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    set(true);
    setTimeout(() => set(false), 1500);
  };
  return (
    <button type="button" class="btn btn-sm btn-link copy" onClick={copy} aria-label={`Copy ${label}`}>
      {done ? "copied" : "copy"}
    </button>
  );
}

/** A button that does something which takes its time, and says what went wrong. */
export function Act(props: {
  label: string;
  run: () => Promise<unknown>;
  kind?: string;
  disabled?: boolean;
  onError: (text: string | null) => void;
}) {
  const [busy, set] = useState(false);
  const run = async () => {
    set(true);
    props.onError(null);
    try {
      await props.run();
    } catch (error) {
      props.onError(say(error));
    } finally {
      set(false);
    }
  };
  return (
    <button
      type="button"
      class={`btn btn-sm ${props.kind ?? "btn-outline-secondary"}`}
      disabled={props.disabled || busy}
      aria-busy={busy}
      onClick={run}
    >
      {busy && <span class="spinner-border spinner-border-sm me-1" aria-hidden="true" />}
      {props.label}
    </button>
  );
}

// --- dialogs

/** A dialog of the browser's own: it keeps the focus inside, and the Escape key closes it.
 *
 * It is closed by going from the page, in the turn of the key or the click: the browser tells of a dialog that it has closed
 * itself a turn later, and what opens one would meanwhile be pressed in vain.
 */
export function Dialog(props: { title: string; onClose: () => void; children: ComponentChildren }) {
  const found = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    const dialog = found.current;
    dialog?.showModal();
    // What is asked for first; where nothing is, the button that changes nothing.
    dialog?.querySelector<HTMLElement>(".dialog-body :is(input, select, textarea), .dialog-foot button")?.focus();
    return () => {
      dialog?.close(); // nothing behind an open one takes the focus
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  const cancel = (event: Event) => {
    event.preventDefault();
    props.onClose();
  };
  const closed = (event: JSX.TargetedEvent<HTMLDialogElement>) => {
    if (event.currentTarget.isConnected) props.onClose(); // by the browser, which asks before it only once
  };
  return (
    <dialog ref={found} class="dialog" aria-labelledby="dialog-title" onCancel={cancel} onClose={closed}>
      <header class="dialog-head">
        <h2 id="dialog-title">{props.title}</h2>
        <button type="button" class="btn-close" aria-label="Close" onClick={props.onClose} />
      </header>
      {props.children}
    </dialog>
  );
}

/** A dialog with a form, whose last button does what it is about. */
export function FormDialog(props: {
  title: string;
  action: string;
  kind?: string;
  onClose: () => void;
  run: () => Promise<unknown>;
  children: ComponentChildren;
}) {
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: JSX.TargetedEvent<HTMLFormElement>) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await props.run();
      props.onClose();
    } catch (problem) {
      setError(say(problem));
      setBusy(false);
    }
  };
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <form onSubmit={submit}>
        <div class="dialog-body">
          {props.children}
          {error && <Problem text={error} />}
        </div>
        <footer class="dialog-foot">
          <button type="button" class="btn btn-outline-secondary" onClick={props.onClose}>
            Cancel
          </button>
          <button type="submit" class={`btn ${props.kind ?? "btn-primary"}`} disabled={busy} aria-busy={busy}>
            {busy && <span class="spinner-border spinner-border-sm me-1" aria-hidden="true" />}
            {props.action}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

// --- tables

/** A column's heading: one of numbers is set to the right, a `wide` one is not on a phone, a hidden one is only read out. */
type Column = string | { name: string; is?: string; isHidden?: boolean };

export function Rows(props: { columns: Column[]; kind?: string; foot?: ComponentChildren; children: ComponentChildren }) {
  return (
    <table class={`table table-sm rows ${props.kind ?? ""}`}>
      <thead>
        <tr>
          {props.columns.map((column) => {
            const { name, is, isHidden } = typeof column === "string" ? { name: column } : { ...column };
            return (
              <th key={name} scope="col" class={is}>
                {isHidden ? <span class="visually-hidden">{name}</span> : name}
              </th>
            );
          })}
        </tr>
      </thead>
      <tbody>{props.children}</tbody>
      {props.foot && <tfoot>{props.foot}</tfoot>}
    </table>
  );
}

// --- the frame of a page

export function Page(props: {
  title: string;
  detail?: ComponentChildren;
  actions?: ComponentChildren;
  above?: { href: string; label: string };
  children: ComponentChildren;
}) {
  useEffect(() => {
    document.title = `${props.title} – Emberbox`;
  }, [props.title]);
  return (
    <>
      <header class="page-head">
        <div class="page-title">
          {props.above && (
            <a class="page-above" href={props.above.href}>
              ← {props.above.label}
            </a>
          )}
          <h1>{props.title}</h1>
          {props.detail}
        </div>
        {props.actions && <div class="page-actions">{props.actions}</div>}
      </header>
      {props.children}
    </>
  );
}

export function Section({ title, side, children }: { title: string; side?: ComponentChildren; children: ComponentChildren }) {
  return (
    <section class="part">
      <header class="part-head">
        <h2>{title}</h2>
        {side}
      </header>
      {children}
    </section>
  );
}

/** Tabs by links, so that each has an address and the browser's way back works. */
export function Tabs({ tabs, now, label }: { tabs: { key: string; label: string; href: string }[]; now: string; label: string }) {
  return (
    <nav aria-label={label}>
      <ul class="nav nav-underline tabs">
        {tabs.map((tab) => (
          <li class="nav-item" key={tab.key}>
            <a
              class={`nav-link ${tab.key === now ? "active" : ""}`}
              href={tab.href}
              aria-current={tab.key === now ? "page" : undefined}
            >
              {tab.label}
            </a>
          </li>
        ))}
      </ul>
    </nav>
  );
}
