// What server this is, and what its machine has now.

import { useEffect, useState } from "preact/hooks";
import { type Host, call, say } from "./api";
import { bytes, seconds, short } from "./format";
import { replace, useWatch } from "./live";
import { Ago, Loading, Page, Problem, Rows, Section, useNow } from "./parts";
import { to } from "./route";

interface Server {
  version: string;
  region: string;
  accelerator: string;
  boundary: string;
  engines: { name: string; description: string; boundary: string; isDefault: boolean }[];
  network: string;
  startedAt: number | string;
}

export function ServerPage() {
  const [server, set] = useState<Server | null>(null);
  const [error, setError] = useState<string | null>(null);
  const host = useWatch<Host>("host", {}, replace);
  const now = useNow();
  useEffect(() => {
    call<Server>("DescribeServer").then(set, (problem: unknown) => setError(say(problem)));
  }, []);
  return (
    <Page title="Server">
      {error && <Problem text={error} />}
      {host.error && <Problem text={host.error} />}
      <div class="columns">
        {server ? (
          <Section title="Emberbox">
            <dl class="facts">
              <dt>Version</dt>
              <dd>{server.version}</dd>
              <dt>Region</dt>
              <dd>{server.region}</dd>
              <dt>Started</dt>
              <dd>
                <Ago at={seconds(server.startedAt)} now={now} />
              </dd>
              <dt>Network</dt>
              <dd>{server.network}</dd>
              <dt>Boundary</dt>
              <dd>{server.boundary}</dd>
              {server.engines.map((engine) => (
                <Engine key={engine.name} engine={engine} />
              ))}
            </dl>
          </Section>
        ) : (
          !error && <Loading what="the server" />
        )}
        {host.data && <Machine host={host.data} />}
      </div>
      {host.data && host.data.microvms.length > 0 && <Uses host={host.data} />}
    </Page>
  );
}

function Engine({ engine }: { engine: Server["engines"][number] }) {
  return (
    <>
      <dt>{engine.isDefault ? "Engine" : "Another engine"}</dt>
      <dd>{engine.description}</dd>
    </>
  );
}

function Machine({ host }: { host: Host }) {
  const used = host.memoryTotalInBytes - host.memoryAvailableInBytes;
  return (
    <Section title="Machine">
      <dl class="facts">
        <dt>Processors</dt>
        <dd>
          <Meter part={host.loadAverage / host.cpuCount} text={`load ${host.loadAverage.toFixed(1)} on ${host.cpuCount}`} label="Load" />
        </dd>
        <dt>Memory</dt>
        <dd>
          <Meter part={used / host.memoryTotalInBytes} text={`${bytes(used)} of ${bytes(host.memoryTotalInBytes)} used`} label="Memory" />
        </dd>
        <dt>Disk</dt>
        <dd>
          {bytes(host.diskFreeInBytes)} free; below {bytes(host.diskReserveInBytes)} nothing new begins
        </dd>
      </dl>
    </Section>
  );
}

function Meter({ part, text, label }: { part: number; text: string; label: string }) {
  return (
    <>
      <meter class="meter" min={0} max={1} value={Math.min(part, 1)} aria-label={label} />
      <span>{text}</span>
    </>
  );
}

function Uses({ host }: { host: Host }) {
  const rows = [...host.microvms].sort((one, other) => other.memoryInBytes - one.memoryInBytes).slice(0, 50);
  return (
    <Section title="Your microVMs" side={<span class="quiet">those that use most</span>}>
      <div class="table-box">
        <Rows
          columns={[
            "MicroVM",
            { name: "Memory", is: "number" },
            { name: "Disk", is: "number" },
            { name: "Processor time", is: "number" },
          ]}
        >
          {rows.map((row) => (
            <tr key={row.microvmId}>
              <td>
                <a class="id" href={to("microvms", row.microvmId)}>
                  {short(row.microvmId)}
                </a>
              </td>
              <td class="number">{bytes(row.memoryInBytes)}</td>
              <td class="number">{bytes(row.diskInBytes)}</td>
              <td class="number">{row.cpuSeconds.toFixed(1)} s</td>
            </tr>
          ))}
        </Rows>
      </div>
    </Section>
  );
}
