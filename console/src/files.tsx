// The files of a microVM: what is in a directory, one file in, one file out.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ask, read, say } from "./api";
import { bytes, moment } from "./format";
import { clean } from "./log";
import { Act, Empty, Loading, Problem, Rows } from "./parts";

interface Entry {
  name: string;
  isDirectory: boolean;
  isFile: boolean;
  target: string | null;
  size: number;
  permissions: string;
  owner: string;
  group: string;
  modified: number;
}

interface Listing {
  path: string;
  entries: Entry[];
  isCut: boolean;
}

const join = (path: string, name: string): string => `${path === "/" ? "" : path}/${name}`;

export function FilesTab({ id }: { id: string }) {
  const [path, setPath] = useState("/");
  const [listing, setListing] = useState<Listing | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const base = `api/microvms/${encodeURIComponent(id)}`;
  const load = useCallback(
    async (wanted: string) => {
      setBusy(true);
      setError(null);
      try {
        const found = await read<Listing>(`${base}/entries?path=${encodeURIComponent(wanted)}`);
        setListing(found);
        setPath(wanted);
      } catch (problem) {
        setError(say(problem));
      } finally {
        setBusy(false);
      }
    },
    [base],
  );
  useEffect(() => void load("/"), [load]);
  const chosen = useRef<HTMLInputElement>(null);
  const upload = async () => {
    for (const file of chosen.current?.files ?? []) {
      const where = encodeURIComponent(join(path, file.name));
      await ask("PUT", `${base}/files?path=${where}`, file, "application/octet-stream");
    }
    if (chosen.current) chosen.current.value = "";
    await load(path);
  };
  return (
    <>
      <div class="tools">
        <Crumbs path={path} go={(wanted) => void load(wanted)} />
        <span class="spacer" />
        <label class="visually-hidden" for="upload">
          Files to upload
        </label>
        <input ref={chosen} id="upload" type="file" multiple class="form-control form-control-sm upload" />
        <Act label="Upload" run={upload} onError={setError} />
        <Act label="Reload" run={() => load(path)} onError={setError} />
      </div>
      {error && <Problem text={error} />}
      {!listing ? (
        !error && <Loading what="files" />
      ) : listing.entries.length === 0 ? (
        <Empty title="This directory is empty." />
      ) : (
        <div class="table-box" aria-busy={busy}>
          <Rows
            columns={[
              "Name",
              { name: "Size", is: "number" },
              { name: "Mode", is: "wide" },
              { name: "Owner", is: "wide" },
              "Modified",
            ]}
          >
            {[...listing.entries].sort(inOrder).map((entry) => (
              <FileRow key={entry.name} entry={entry} path={path} base={base} go={(wanted) => void load(wanted)} />
            ))}
          </Rows>
          {listing.isCut && <p class="note">There are more files than can be shown here.</p>}
        </div>
      )}
    </>
  );
}

const inOrder = (one: Entry, other: Entry): number =>
  Number(other.isDirectory) - Number(one.isDirectory) || one.name.localeCompare(other.name);

function FileRow({ entry, path, base, go }: { entry: Entry; path: string; base: string; go: (path: string) => void }) {
  const full = join(path, entry.name);
  const shown = clean(entry.name);
  return (
    <tr>
      <td class="name breaks">
        {entry.isDirectory ? (
          <button type="button" class="btn btn-link file" onClick={() => go(full)}>
            {shown}/
          </button>
        ) : entry.isFile ? (
          <a href={`${base}/files?path=${encodeURIComponent(full)}`} download={shown}>
            {shown}
          </a>
        ) : (
          <span>{shown}</span>
        )}
        {entry.target !== null && <span class="quiet"> → {clean(entry.target)}</span>}
      </td>
      <td class="number">{entry.isFile ? bytes(entry.size) : ""}</td>
      <td class="wide mono quiet">{entry.permissions}</td>
      <td class="wide quiet">
        {clean(entry.owner)}:{clean(entry.group)}
      </td>
      <td class="quiet">{moment(entry.modified)}</td>
    </tr>
  );
}

function Crumbs({ path, go }: { path: string; go: (path: string) => void }) {
  const parts = path.split("/").filter(Boolean);
  return (
    <nav aria-label="Where you are">
      <ol class="breadcrumb crumbs">
        {["/", ...parts].map((part, number) => {
          const where = `/${parts.slice(0, number).join("/")}`;
          const isLast = number === parts.length;
          return (
            <li key={where} class="breadcrumb-item" aria-current={isLast ? "location" : undefined}>
              {isLast ? (
                <span>{number ? clean(part) : "root"}</span>
              ) : (
                <button type="button" class="btn btn-link file" onClick={() => go(where)}>
                  {number ? clean(part) : "root"}
                </button>
              )}
            </li>
          );
        })}
      </ol>
    </nav>
  );
}
