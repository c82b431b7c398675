// One microVM: how it is, what it uses, what happened to it, and what can be done with it.

import { useState } from "preact/hooks";
import { type Event, type Microvm, type Told, call } from "./api";
import { FilesTab } from "./files";
import { duration, imageName, moment, seconds, short, time, words } from "./format";
import { replace, useWatch } from "./live";
import { LogView } from "./log";
import { Act, Ago, Copy, Dialog, Empty, FormDialog, Loading, Page, Problem, Rows, Section, State, Tabs, useNow } from "./parts";
import { Plots } from "./plots";
import { to } from "./route";
import { TerminalTab } from "./terminal";
import { Tree } from "./tree";

const TABS = [
  ["overview", "Overview"],
  ["terminal", "Terminal"],
  ["files", "Files"],
  ["log", "Log"],
] as const;

export function MicrovmPage({ id, tab }: { id: string; tab: string }) {
  const { data, error } = useWatch<Told>("microvm", { microvmId: id }, replace);
  const above = { href: to("microvms"), label: "MicroVMs" };
  if (!data) {
    return (
      <Page title={short(id)} above={above}>
        {error ? <Problem text={error} /> : <Loading what="the microVM" />}
      </Page>
    );
  }
  const { microvm } = data;
  return (
    <Page
      title={short(id)}
      above={above}
      detail={
        <>
          <State of={microvm.state} />
          <span class="quiet">
            of <a href={to("images", imageName(microvm.imageArn))}>{imageName(microvm.imageArn)}</a> {microvm.imageVersion}
          </span>
        </>
      }
      actions={<Actions told={data} />}
    >
      {error && <Problem text={error} />}
      <Tabs label="Of this microVM" now={tab} tabs={TABS.map(([key, label]) => ({ key, label, href: to("microvms", id, key) }))} />
      <Shown told={data} tab={tab} />
    </Page>
  );
}

function Shown({ told, tab }: { told: Told; tab: string }) {
  const { microvm } = told;
  const letsShellsIn = (microvm.ingressNetworkConnectors ?? []).some((arn) => arn.endsWith(":SHELL_INGRESS"));
  if (tab === "terminal" || tab === "files") {
    if (microvm.state === "TERMINATED") return <Empty title="This microVM has ended." />;
    if (!letsShellsIn) return <Empty title="This microVM was launched without SHELL_INGRESS, so no shell or file can be opened in it." />;
    return tab === "terminal" ? <TerminalTab id={microvm.microvmId} state={microvm.state} /> : <FilesTab id={microvm.microvmId} />;
  }
  if (tab === "log") {
    return (
      <LogView
        group={`/aws/lambda-microvms/${imageName(microvm.imageArn)}`}
        owner={microvm.microvmId}
        version={microvm.imageVersion}
        since={seconds(microvm.startedAt) ?? 0}
        empty="The application has written nothing yet."
      />
    );
  }
  return <Overview told={told} />;
}

// --- what can be done

function Actions({ told }: { told: Told }) {
  const { microvm, snapshots } = told;
  const [error, setError] = useState<string | null>(null);
  const [open, setOpen] = useState<"fork" | "checkpoint" | "rollback" | "terminate" | "open" | null>(null);
  const close = () => setOpen(null);
  const it = { microvmIdentifier: microvm.microvmId };
  const settled = microvm.state === "RUNNING" || microvm.state === "SUSPENDED";
  const over = microvm.state === "TERMINATED" || microvm.state === "TERMINATING";
  return (
    <>
      {!over && (
        <div class="actions">
          <button type="button" class="btn btn-sm btn-primary" disabled={!settled} onClick={() => setOpen("open")}>
            Open
          </button>
          {microvm.state === "SUSPENDED" ? (
            <Act label="Resume" run={() => call("ResumeMicrovm", it)} onError={setError} />
          ) : (
            <Act label="Suspend" disabled={microvm.state !== "RUNNING"} run={() => call("SuspendMicrovm", it)} onError={setError} />
          )}
          <button type="button" class="btn btn-sm btn-outline-secondary" disabled={!settled} onClick={() => setOpen("fork")}>
            Fork
          </button>
          <button type="button" class="btn btn-sm btn-outline-secondary" disabled={!settled} onClick={() => setOpen("checkpoint")}>
            Checkpoint
          </button>
          <button
            type="button"
            class="btn btn-sm btn-outline-secondary"
            disabled={!settled || !snapshots.length}
            title={snapshots.length ? undefined : "There is no checkpoint of this microVM yet."}
            onClick={() => setOpen("rollback")}
          >
            Roll back
          </button>
          <button type="button" class="btn btn-sm btn-outline-danger" onClick={() => setOpen("terminate")}>
            Terminate
          </button>
        </div>
      )}
      {error && <Problem text={error} />}
      {open === "fork" && <ForkDialog id={microvm.microvmId} onClose={close} />}
      {open === "checkpoint" && (
        <FormDialog title="Take a checkpoint" action="Take it" onClose={close} run={() => call("SnapshotMicrovm", it)}>
          <p>
            Its memory and disk become a new version of the image <b>{imageName(microvm.imageArn)}</b>, which can be launched
            and which this microVM can be rolled back to. It stands still for a moment and then goes on.
          </p>
        </FormDialog>
      )}
      {open === "rollback" && <RollBackDialog id={microvm.microvmId} snapshots={snapshots} onClose={close} />}
      {open === "terminate" && (
        <FormDialog title="Terminate this microVM?" action="Terminate" kind="btn-danger" onClose={close} run={() => call("TerminateMicrovm", it)}>
          <p>
            <span class="id">{short(microvm.microvmId)}</span> ends for good; its memory and disk are lost.
          </p>
        </FormDialog>
      )}
      {open === "open" && <OpenDialog microvm={microvm} onClose={close} />}
    </>
  );
}

function ForkDialog({ id, onClose }: { id: string; onClose: () => void }) {
  const [count, setCount] = useState("1");
  const run = () => call("ForkMicrovm", { microvmIdentifier: id, count: Number(count) });
  return (
    <FormDialog title="Fork this microVM" action="Fork" onClose={onClose} run={run}>
      <p>Each fork goes on from this instant with the same memory and disk, at an endpoint of its own.</p>
      <label class="form-label" for="count">
        How many
      </label>
      <input
        id="count"
        class="form-control"
        type="number"
        min="1"
        max="100"
        required
        value={count}
        onInput={(event) => setCount(event.currentTarget.value)}
      />
    </FormDialog>
  );
}

function RollBackDialog({ id, snapshots, onClose }: { id: string; snapshots: string[]; onClose: () => void }) {
  const [version, setVersion] = useState(snapshots.at(-1) ?? "");
  const run = () => call("RestoreMicrovm", { microvmIdentifier: id, imageVersion: version });
  return (
    <FormDialog title="Roll back" action="Roll back" kind="btn-danger" onClose={onClose} run={run}>
      <p>It becomes what it was at that instant, and runs on from there. What came after is lost.</p>
      <label class="form-label" for="version">
        Checkpoint
      </label>
      <select id="version" class="form-select" value={version} onChange={(event) => setVersion(event.currentTarget.value)}>
        {snapshots.map((one) => (
          <option key={one} value={one}>
            version {one}
          </option>
        ))}
      </select>
    </FormDialog>
  );
}

interface Token {
  authToken: Record<string, string>;
}

function OpenDialog({ microvm, onClose }: { microvm: Microvm; onClose: () => void }) {
  const [port, setPort] = useState("8080");
  const [made, setMade] = useState<{ token: string; port: string } | null>(null);
  const [error, setError] = useState<string | null>(null);
  const make = async () => {
    const answer = await call<Token>("CreateMicrovmAuthToken", {
      microvmIdentifier: microvm.microvmId,
      expirationInMinutes: 60,
      allowedPorts: [{ port: Number(port) }],
    });
    setMade({ token: answer.authToken["X-aws-proxy-auth"] ?? "", port });
  };
  const url = `https://${microvm.endpoint}/`;
  const curl = made && `curl -H 'X-aws-proxy-auth: ${made.token}' -H 'X-aws-proxy-port: ${made.port}' ${url}`;
  return (
    <Dialog title="Open its application" onClose={onClose}>
      <div class="dialog-body">
        <p>
          A token opens one port of it for an hour. Whoever has the link or the token gets in; requests wake the microVM where
          its idle policy says so.
        </p>
        <label class="form-label" for="port">
          Port of the application
        </label>
        <div class="inline">
          <input id="port" class="form-control" type="number" min="1" max="65535" required value={port} onInput={(event) => setPort(event.currentTarget.value)} />
          <Act label="Make a token" kind="btn-primary" run={make} onError={setError} />
        </div>
        {error && <Problem text={error} />}
        {made && curl && (
          <>
            <p class="mt-3 mb-1">
              <a class="btn btn-primary" href={`${url}.emberbox/enter?port=${made.port}&token=${made.token}`} target="_blank" rel="noopener noreferrer">
                Open the page
              </a>
            </p>
            <p class="note">The browser must trust the gateway's certificate: see `emberbox trust`.</p>
            <div class="code-head">
              <span>For programs</span>
              <Copy text={curl} label="the command" />
            </div>
            <pre class="code">{curl}</pre>
          </>
        )}
      </div>
    </Dialog>
  );
}

// --- how it is

function Overview({ told }: { told: Told }) {
  const { microvm, events } = told;
  const now = useNow();
  const policy = microvm.idlePolicy;
  const ended = seconds(microvm.terminatedAt);
  return (
    <>
      {microvm.stateReason && microvm.state !== "RUNNING" && <p class="reason">{microvm.stateReason}</p>}
      <div class="columns">
        <Section title="About">
          <dl class="facts">
            <dt>Id</dt>
            <dd>
              <span class="id breaks">{microvm.microvmId}</span> <Copy text={microvm.microvmId} label="the id" />
            </dd>
            <dt>Endpoint</dt>
            <dd>
              <span class="id breaks">{microvm.endpoint}</span> <Copy text={microvm.endpoint} label="the endpoint" />
            </dd>
            <dt>Launched</dt>
            <dd>
              <Ago at={seconds(microvm.startedAt)} now={now} />
            </dd>
            {ended !== null && (
              <>
                <dt>Ended</dt>
                <dd>
                  <Ago at={ended} now={now} />
                </dd>
              </>
            )}
            <dt>Lets in</dt>
            <dd>{connectors(microvm.ingressNetworkConnectors)}</dd>
            <dt>May reach</dt>
            <dd>{connectors(microvm.egressNetworkConnectors)}</dd>
            <dt>When idle</dt>
            <dd>
              {policy
                ? `suspended after ${duration(policy.maxIdleDurationSeconds)}${policy.autoResumeEnabled ? ", resumed by a request" : ""}`
                : "runs on"}
            </dd>
            <dt>Ends after</dt>
            <dd>{duration(microvm.maximumDurationInSeconds)}</dd>
            {microvm.executionRoleArn && (
              <>
                <dt>Role</dt>
                <dd class="breaks">{microvm.executionRoleArn}</dd>
              </>
            )}
          </dl>
        </Section>
        {microvm.state === "TERMINATED" ? null : <Plots id={microvm.microvmId} state={microvm.state} />}
      </div>
      <Tree id={microvm.microvmId} snapshots={told.snapshots} />
      <Timeline events={events} />
    </>
  );
}

const connectors = (arns: string[] | null): string =>
  (arns ?? []).map((arn) => arn.slice(arn.lastIndexOf(":") + 1).replace(/^aws-network-connector:?/, "")).join(", ") || "–";

function Timeline({ events }: { events: Event[] }) {
  if (!events.length) return null;
  return (
    <Section title="Timeline">
      <div class="table-box" role="region" aria-label="Timeline" tabIndex={0}>
        <Rows
          kind="timeline"
          columns={["When", "State", { name: "Took", is: "number" }, { name: "By", is: "wide" }, "Reason"]}
        >
          {[...events].reverse().map((event) => {
            const at = seconds(event.time) ?? 0;
            return (
              <tr key={event.eventId}>
                <td class="quiet number">
                  <time dateTime={new Date(at * 1000).toISOString()} title={moment(at)}>
                    {time(at)}
                  </time>
                </td>
                <td>
                  <State of={event.state} isPast />
                </td>
                <td class="number">{event.durationInMilliseconds ? duration(event.durationInMilliseconds / 1000) : ""}</td>
                <td class="wide quiet">{words(event.actor)}</td>
                <td class="breaks">{event.reason}</td>
              </tr>
            );
          })}
        </Rows>
      </div>
    </Section>
  );
}
