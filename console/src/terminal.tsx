// A terminal in a microVM. What comes is bytes of a guest that nobody trusts: they go to xterm.js and nowhere else.

import type { Terminal } from "@xterm/xterm";
import { useEffect, useRef, useState } from "preact/hooks";
import { Problem } from "./parts";
import { onTheme, token } from "./theme";

/** Styles that the terminal makes are let in by the nonce of the page's policy. */
function nameStyles(): void {
  const nonce = document.querySelector<HTMLScriptElement>("script[nonce]")?.nonce;
  const create = document.createElement.bind(document);
  if (!nonce || "isNamed" in document.createElement) return;
  const named = (name: string, options?: ElementCreationOptions) => {
    const element = create(name, options);
    if (element instanceof HTMLStyleElement) element.nonce = nonce;
    return element;
  };
  document.createElement = Object.assign(named, { isNamed: true }) as typeof document.createElement;
}

function colours() {
  return {
    background: token("--term-back"),
    foreground: token("--term-text"),
    cursor: token("--term-text"),
    selectionBackground: token("--term-select"),
  };
}

type Phase = "connecting" | "open" | "closed";

export function TerminalTab({ id, state }: { id: string; state: string }) {
  const place = useRef<HTMLDivElement>(null);
  const [phase, setPhase] = useState<Phase>("connecting");
  const [why, setWhy] = useState("");
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    const element = place.current;
    if (!element) return;
    setPhase("connecting");
    setWhy("");
    let end = () => {};
    let gone = false;
    void open(element, id, setPhase, setWhy).then((close) => {
      if (gone) close();
      else end = close;
    });
    return () => {
      gone = true;
      end();
    };
  }, [id, attempt]);
  return (
    <div class="terminal-frame">
      <div class="terminal-bar">
        <span role="status">
          {phase === "connecting" && (state === "SUSPENDED" ? "resuming the microVM …" : "opening a shell …")}
          {phase === "open" && "a shell in the application's container; Ctrl+Shift+Escape leaves the terminal"}
          {phase === "closed" && "the shell has ended"}
        </span>
        {phase === "closed" && (
          <button type="button" class="btn btn-sm btn-primary" onClick={() => setAttempt(attempt + 1)}>
            New shell
          </button>
        )}
      </div>
      {why && <Problem text={why} />}
      <div ref={place} class="shell" />
    </div>
  );
}

async function open(
  place: HTMLElement,
  id: string,
  tell: (phase: Phase) => void,
  explain: (text: string) => void,
): Promise<() => void> {
  nameStyles();
  const [{ Terminal }, { FitAddon }] = await Promise.all([import("@xterm/xterm"), import("@xterm/addon-fit")]);
  const terminal = new Terminal({
    fontFamily: "ui-monospace, 'SFMono-Regular', Menlo, Consolas, 'DejaVu Sans Mono', monospace",
    fontSize: 13,
    cursorBlink: true,
    scrollback: 5000,
    screenReaderMode: false,
    theme: colours(),
    linkHandler: { activate: askBeforeOpening },
  });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(place);
  fit.fit();
  const forgetTheme = onTheme(() => {
    terminal.options.theme = colours();
  });
  terminal.attachCustomKeyEventHandler((event) => {
    const leaves = event.key === "Escape" && event.ctrlKey && event.shiftKey;
    if (leaves) document.getElementById("main")?.focus();
    return !leaves;
  });
  const close = connect(terminal, id, tell, explain);
  const resized = new ResizeObserver(() => fit.fit());
  resized.observe(place);
  terminal.focus();
  return () => {
    resized.disconnect();
    forgetTheme();
    close();
    terminal.dispose();
  };
}

/** A link in the output says where it leads, and is followed only when somebody wants that. */
function askBeforeOpening(_event: MouseEvent, uri: string): void {
  const leads = /^https?:\/\//.test(uri);
  if (leads && confirm(`The microVM wants this opened:\n\n${uri}\n\nOpen it?`)) window.open(uri, "_blank", "noopener,noreferrer");
}

function connect(terminal: Terminal, id: string, tell: (phase: Phase) => void, explain: (text: string) => void): () => void {
  const url = new URL(`api/microvms/${encodeURIComponent(id)}/shell`, document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  const encoder = new TextEncoder();
  const resize = () => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "resize", cols: terminal.cols, rows: terminal.rows }));
  };
  let wasOpen = false;
  socket.onopen = () => {
    wasOpen = true;
    tell("open");
    resize();
  };
  socket.onmessage = (message) => {
    if (message.data instanceof ArrayBuffer) terminal.write(new Uint8Array(message.data));
  };
  socket.onclose = (event) => {
    tell("closed");
    if (!wasOpen) explain("No shell could be opened: the microVM does not run, lets no shells in, or you may not.");
    else if (event.code !== 1000) explain(event.reason || "The connection was lost.");
  };
  const typed = terminal.onData((text) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(encoder.encode(text));
  });
  const sized = terminal.onResize(resize);
  return () => {
    typed.dispose();
    sized.dispose();
    socket.onclose = null;
    socket.close();
  };
}
