// The audit trail, oldest first as it is kept; read a page at a time.

import { useEffect, useState } from "preact/hooks";
import { call, say } from "./api";
import { moment, seconds } from "./format";
import { Empty, Loading, Page, Problem, Rows } from "./parts";

interface Found {
  eventId: string;
  eventName: string;
  eventTime: number | string;
  username: string | null;
  errorCode: string | null;
  auditEvent: string;
}

interface Answer {
  events: Found[];
  nextToken: string;
  atEnd: boolean;
}

const HOURS = [1, 6, 24, 168] as const;
const KEPT_MAX = 2000;

export function AuditPage() {
  const [hours, setHours] = useState(1);
  const [name, setName] = useState("");
  const [found, setFound] = useState<Found[] | null>(null);
  const [error, setError] = useState<string | null>(null);
  useEffect(() => {
    let wanted = true;
    setFound(null);
    setError(null);
    const load = async () => {
      const events: Found[] = [];
      let token: string | undefined;
      const since = Date.now() / 1000 - hours * 3600;
      for (;;) {
        const asked = { startTime: Math.floor(since), eventName: name.trim() || undefined, maxResults: 1000, nextToken: token };
        const answer = await call<Answer>("LookupAuditEvents", asked);
        events.push(...answer.events);
        events.splice(0, Math.max(0, events.length - KEPT_MAX));
        token = answer.nextToken;
        if (answer.atEnd || !wanted) return events;
      }
    };
    const timer = setTimeout(() => {
      load().then(
        (events) => wanted && setFound(events.reverse()),
        (problem: unknown) => wanted && setError(say(problem)),
      );
    }, 300);
    return () => {
      wanted = false;
      clearTimeout(timer);
    };
  }, [hours, name]);
  return (
    <Page title="Audit">
      <div class="tools">
        <input
          type="search"
          class="form-control form-control-sm"
          placeholder="Operation, such as RunMicrovm"
          aria-label="Operation"
          value={name}
          onInput={(event) => setName(event.currentTarget.value)}
        />
        <select class="form-select form-select-sm" aria-label="Since" value={hours} onChange={(event) => setHours(Number(event.currentTarget.value))}>
          {HOURS.map((count) => (
            <option key={count} value={count}>
              {count === 168 ? "the last week" : count === 1 ? "the last hour" : `the last ${count} hours`}
            </option>
          ))}
        </select>
        {found && (
          <span class="count" role="status">
            {found.length === KEPT_MAX ? `the newest ${KEPT_MAX}` : `${found.length} records`}
          </span>
        )}
      </div>
      {error && <Problem text={error} />}
      {!found ? !error && <Loading what="records" /> : found.length === 0 ? <Empty title="There are no such records." /> : <Records found={found} />}
    </Page>
  );
}

function Records({ found }: { found: Found[] }) {
  const [count, setCount] = useState(100);
  return (
    <>
      <div class="table-box" role="region" aria-label="Records" tabIndex={0}>
        <Rows columns={["When", "Operation", "By", "Outcome", { name: "Record", is: "wide" }]}>
          {found.slice(0, count).map((event) => (
            <tr key={event.eventId}>
              <td class="quiet number">{moment(seconds(event.eventTime) ?? 0)}</td>
              <td class="name">{event.eventName}</td>
              <td>{event.username ?? "–"}</td>
              <td class={event.errorCode ? "text-bad" : "quiet"}>{event.errorCode ?? "done"}</td>
              <td class="wide">
                <details class="record">
                  <summary>show</summary>
                  <pre class="code">{pretty(event.auditEvent)}</pre>
                </details>
              </td>
            </tr>
          ))}
        </Rows>
      </div>
      {count < found.length && (
        <button type="button" class="btn btn-sm btn-outline-secondary" onClick={() => setCount(count + 100)}>
          Show more
        </button>
      )}
    </>
  );
}

function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
