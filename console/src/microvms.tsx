// The list of microVMs, and launching one.

import { useMemo, useRef, useState, useEffect } from "preact/hooks";
import { type Row, type Session } from "./api";
import { short } from "./format";
import { LaunchDialog } from "./launch";
import { useWatch } from "./live";
import { Ago, Empty, Loading, Page, Problem, Rows, State, useNow } from "./parts";
import { to } from "./route";

export type Rows = Map<string, Row>;
interface Change {
  all?: Row[];
  changed?: Row[];
  gone?: string[];
}

export function mergeRows(before: Rows | null, told: Change): Rows {
  if (told.all) return new Map(told.all.map((row) => [row.id, row]));
  const rows = new Map(before);
  for (const row of told.changed ?? []) rows.set(row.id, row);
  for (const id of told.gone ?? []) rows.delete(id);
  return rows;
}

const AT_ONCE = 100;
const SHOWN = ["live", "running", "suspended", "terminated", "all"] as const;
type Which = (typeof SHOWN)[number];

function isShown(row: Row, which: Which): boolean {
  if (which === "all") return true;
  if (which === "live") return row.state !== "TERMINATED";
  return row.state === which.toUpperCase();
}

export function MicrovmsPage({ session }: { session: Session }) {
  const { data: rows, error } = useWatch<Rows, Change>("microvms", {}, mergeRows);
  const [launching, setLaunching] = useState(false);
  return (
    <Page
      title="MicroVMs"
      actions={
        <button type="button" class="btn btn-primary btn-sm" onClick={() => setLaunching(true)}>
          Launch
        </button>
      }
    >
      {error && <Problem text={error} />}
      {rows ? <List rows={rows} /> : !error && <Loading what="microVMs" />}
      {launching && <LaunchDialog session={session} onClose={() => setLaunching(false)} />}
    </Page>
  );
}

function List({ rows }: { rows: Rows }) {
  const [which, setWhich] = useState<Which>("live");
  const [text, setText] = useState("");
  const [page, setPage] = useState(0);
  const now = useNow();
  const field = useRef<HTMLInputElement>(null);
  useSlash(field);
  const found = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    return [...rows.values()]
      .filter((row) => isShown(row, which) && (row.id.includes(wanted) || row.image.toLowerCase().includes(wanted)))
      .sort((one, other) => other.startedAt - one.startedAt || (one.id < other.id ? 1 : -1));
  }, [rows, which, text]);
  const pages = Math.max(1, Math.ceil(found.length / AT_ONCE));
  const at = Math.min(page, pages - 1);
  return (
    <>
      <div class="tools">
        <input
          ref={field}
          type="search"
          class="form-control form-control-sm"
          placeholder="Filter by id or image ( / )"
          aria-label="Filter by id or image"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <select
          class="form-select form-select-sm"
          aria-label="Which microVMs"
          value={which}
          onChange={(event) => setWhich(event.currentTarget.value as Which)}
        >
          {SHOWN.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
        <span class="count" role="status">
          {found.length} of {rows.size}
        </span>
        {pages > 1 && <Pager at={at} pages={pages} go={setPage} />}
      </div>
      {found.length === 0 ? (
        <Empty title={rows.size ? "No microVM fits." : "There are no microVMs yet."}>
          {!rows.size && (
            <p>
              Launch one from an <a href={to("images")}>image</a>.
            </p>
          )}
        </Empty>
      ) : (
        <div class="table-box">
          <Rows columns={["MicroVM", "State", "Image", { name: "Version", is: "wide" }, "Launched"]}>
            {found.slice(at * AT_ONCE, (at + 1) * AT_ONCE).map((row) => (
              <tr key={row.id}>
                <td>
                  <a class="id" href={to("microvms", row.id)} title={row.id}>
                    {short(row.id)}
                  </a>
                  {row.parent && (
                    <span class="tag" title={`forked from ${row.parent}`}>
                      fork
                    </span>
                  )}
                </td>
                <td>
                  <State of={row.state} />
                </td>
                <td class="name">
                  <a href={to("images", row.image)}>{row.image}</a>
                </td>
                <td class="wide number">{row.version}</td>
                <td class="quiet">
                  <Ago at={row.startedAt} now={now} />
                </td>
              </tr>
            ))}
          </Rows>
        </div>
      )}
    </>
  );
}

function Pager({ at, pages, go }: { at: number; pages: number; go: (page: number) => void }) {
  return (
    <nav class="pager" aria-label="Pages">
      <button type="button" class="btn btn-sm btn-outline-secondary" disabled={at === 0} onClick={() => go(at - 1)}>
        Previous
      </button>
      <span>
        {at + 1} / {pages}
      </span>
      <button type="button" class="btn btn-sm btn-outline-secondary" disabled={at === pages - 1} onClick={() => go(at + 1)}>
        Next
      </button>
    </nav>
  );
}

/** The key / leads to the filter, unless somebody is typing. */
function useSlash(field: { current: HTMLInputElement | null }): void {
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const typing = event.target instanceof HTMLElement && event.target.closest("input, textarea, select, dialog, .xterm");
      if (event.key === "/" && !typing) {
        event.preventDefault();
        field.current?.focus();
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}
