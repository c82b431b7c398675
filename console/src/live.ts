// The push channel: one WebSocket, over which everything that is shown is told when it changes.

import { useEffect, useState } from "preact/hooks";
import { endSession } from "./api";

interface Watcher {
  topic: string;
  of: object;
  take: (data: unknown) => void;
  fail: (message: string) => void;
}

const SESSION_ENDED = 4401;
const SILENT_MS = 20_000; // the server says something every five seconds
const RETRY_MS = [500, 1000, 2000, 5000];

let socket: WebSocket | null = null;
let wanted = false;
let tries = 0;
let next = 1;
let retry = 0;
let silence = 0;
const watchers = new Map<number, Watcher>();
const listeners = new Set<(isOpen: boolean) => void>();

export function openChannel(): void {
  wanted = true;
  if (!socket) connect();
}

export function closeChannel(): void {
  wanted = false;
  clearTimeout(retry);
  clearTimeout(silence);
  socket?.close();
  socket = null;
}

function connect(): void {
  const url = new URL("api/live", document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  const opened = new WebSocket(url);
  socket = opened;
  opened.onopen = () => {
    tries = 0;
    for (const number of watchers.keys()) ask(number);
    tell(true);
  };
  opened.onmessage = (message) => {
    clearTimeout(silence);
    silence = window.setTimeout(() => opened.close(), SILENT_MS);
    take(JSON.parse(message.data as string));
  };
  opened.onclose = (event) => {
    if (socket !== opened) return;
    socket = null;
    clearTimeout(silence);
    tell(false);
    if (event.code === SESSION_ENDED) endSession();
    else if (wanted) retry = window.setTimeout(connect, RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]);
  };
}

function tell(isOpen: boolean): void {
  for (const listener of listeners) listener(isOpen);
}

function send(content: object): void {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(content));
}

function ask(number: number): void {
  const watcher = watchers.get(number);
  if (watcher) send({ watch: number, topic: watcher.topic, of: watcher.of });
}

function take(told: { watch?: number; data?: unknown; error?: { message: string } }): void {
  const watcher = watchers.get(told.watch ?? 0);
  if (!watcher) return;
  if (told.error) watcher.fail(told.error.message);
  else watcher.take(told.data);
}

function watch(topic: string, of: object, takeIt: Watcher["take"], fail: Watcher["fail"]): () => void {
  const number = next++;
  watchers.set(number, { topic, of, take: takeIt, fail });
  ask(number);
  return () => {
    watchers.delete(number);
    send({ unwatch: number });
  };
}

export interface Watched<S> {
  data: S | null;
  error: string | null;
}

/** Watch a topic for as long as the component is there; `merge` makes the new state of the old one and what is told. */
export function useWatch<S, D = S>(topic: string, of: object, merge: (before: S | null, told: D) => S): Watched<S> {
  const key = `${topic} ${JSON.stringify(of)}`;
  const [watched, set] = useState<Watched<S> & { key: string }>({ key, data: null, error: null });
  useEffect(() => {
    set({ key, data: null, error: null });
    let data: S | null = null;
    return watch(
      topic,
      of,
      (told) => {
        data = merge(data, told as D);
        set({ key, data, error: null });
      },
      (error) => set({ key, data, error }),
    );
  }, [key]);
  return watched.key === key ? watched : { data: null, error: null };
}

export const replace = <T,>(_before: T | null, told: T): T => told;

export function useConnected(): boolean {
  const [isOpen, set] = useState(true);
  useEffect(() => {
    listeners.add(set);
    return () => void listeners.delete(set);
  }, []);
  return isOpen;
}
