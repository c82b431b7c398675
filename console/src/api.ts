// What the page asks of the server: operations of the API, and the session that they are asked with.

export interface Session {
  csrf: string;
  accountId: string;
  accessKeyId: string;
  principal: string;
  name: string;
  region: string;
}

export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

let session: Session | null = null;
let onEnd: () => void = () => {};

export function useSession(found: Session | null, ended: () => void): void {
  session = found;
  onEnd = ended;
}

export function endSession(): void {
  session = null;
  onEnd();
}

/** Ask the server; what it refuses becomes a `Refused` with its own words. */
export async function ask(method: string, path: string, body?: BodyInit, type?: string): Promise<Response> {
  const headers: Record<string, string> = {};
  if (type) headers["content-type"] = type;
  if (session && method !== "GET") headers["x-emberbox-csrf"] = session.csrf;
  let answer: Response;
  try {
    answer = await fetch(path, { method, headers, body, credentials: "same-origin" });
  } catch {
    throw new Refused(0, "NoServer", "The server does not answer. Is it running?");
  }
  if (answer.ok) return answer;
  const told: { code?: string; message?: string } = await answer.json().catch(() => ({}));
  if (answer.status === 401 && session) endSession();
  throw new Refused(answer.status, told.code ?? "Error", told.message ?? `The server answered ${answer.status}.`);
}

async function json<T>(method: string, path: string, content?: unknown): Promise<T> {
  const body = content === undefined ? undefined : JSON.stringify(content);
  const answer = await ask(method, path, body, content === undefined ? undefined : "application/json");
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

/** Call an operation of the API by its name, with its members as the API names them. */
export function call<T>(operation: string, members: object = {}): Promise<T> {
  return json<T>("POST", `api/call/${operation}`, members);
}

export function logIn(proof: object): Promise<Session> {
  return json<Session>("POST", "api/session", proof);
}

export function whoAmI(): Promise<Session | null> {
  return json<Session | null>("GET", "api/session");
}

export async function logOut(): Promise<void> {
  await json<void>("DELETE", "api/session");
  endSession();
}

export function read<T>(path: string): Promise<T> {
  return json<T>("GET", path);
}

export function say(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

// --- what the server tells

export interface Row {
  id: string;
  state: string;
  image: string;
  version: string;
  startedAt: number;
  parent: string | null;
}

export interface Microvm {
  microvmId: string;
  state: string;
  endpoint: string;
  imageArn: string;
  imageVersion: string;
  executionRoleArn: string | null;
  idlePolicy: { maxIdleDurationSeconds: number; suspendedDurationSeconds: number; autoResumeEnabled: boolean } | null;
  maximumDurationInSeconds: number;
  startedAt: number | string;
  terminatedAt: number | string | null;
  stateReason: string | null;
  ingressNetworkConnectors: string[] | null;
  egressNetworkConnectors: string[] | null;
}

export interface Event {
  eventId: number;
  time: number | string;
  fromState: string | null;
  state: string;
  actor: string;
  reason: string;
  durationInMilliseconds: number;
}

export interface Told {
  microvm: Microvm;
  events: Event[];
  snapshots: string[];
}

export interface Image {
  imageArn: string;
  name: string;
  state: string;
  latestActiveImageVersion: string | null;
  latestFailedImageVersion: string | null;
  createdAt: number | string;
}

export interface Version {
  imageVersion: string;
  state: string;
  status: string;
  createdAt: number | string;
  updatedAt: number | string;
  stateReason: string | null;
  description: string | null;
  baseImageArn: string;
  codeArtifact: { uri: string } | null;
  logging: { cloudWatch?: { logGroup?: string | null } | null } | null;
  resources: { minimumMemoryInMiB: number }[] | null;
  hooks: { microvmHooks?: { run?: string | null } | null } | null;
}

export interface Build {
  imageVersion: string;
  buildId: string;
  buildState: string;
  architecture: string;
  stateReason: string | null;
  createdAt: number | string;
}

export interface Usage {
  at: number;
  memory: number;
  changed: number;
  disk: number;
  cpu: number;
  processors: number;
  memoryMax: number;
  ended?: boolean;
}

export interface Host {
  cpuCount: number;
  loadAverage: number;
  memoryTotalInBytes: number;
  memoryAvailableInBytes: number;
  diskFreeInBytes: number;
  diskReserveInBytes: number;
  microvms: { microvmId: string; memoryInBytes: number; diskInBytes: number; cpuSeconds: number }[];
}
