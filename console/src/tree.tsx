// Where a microVM comes from and what came of it: forks below what they were forked from.

import { type Row } from "./api";
import { short } from "./format";
import { useWatch } from "./live";
import { type Rows, mergeRows } from "./microvms";
import { Section, State } from "./parts";
import { to } from "./route";

const SHOWN_MAX = 200;

export function Tree({ id, snapshots }: { id: string; snapshots: string[] }) {
  const { data: rows } = useWatch<Rows, Parameters<typeof mergeRows>[1]>("microvms", {}, mergeRows);
  const own = rows?.get(id);
  if (!rows || !own) return null;
  const children = new Map<string, Row[]>();
  for (const row of [...rows.values()].sort((one, other) => one.startedAt - other.startedAt)) {
    if (row.parent) children.set(row.parent, [...(children.get(row.parent) ?? []), row]);
  }
  let root = own;
  for (let above = root.parent; above; above = root.parent) {
    const found = rows.get(above);
    if (!found) break;
    root = found;
  }
  if (root === own && !children.has(id) && !snapshots.length) return null;
  const left = { count: SHOWN_MAX };
  return (
    <Section title="Forks and checkpoints">
      <ul class="tree">
        <Node row={root} children={children} here={id} snapshots={snapshots} left={left} />
      </ul>
    </Section>
  );
}

function Node(props: { row: Row; children: Map<string, Row[]>; here: string; snapshots: string[]; left: { count: number } }) {
  const { row, children, here, snapshots, left } = props;
  const isHere = row.id === here;
  const below = (children.get(row.id) ?? []).filter(() => left.count-- > 0);
  return (
    <li>
      <span class={`tree-node ${isHere ? "tree-here" : ""}`}>
        <a class="id" href={to("microvms", row.id)} title={row.id} aria-current={isHere ? "true" : undefined}>
          {short(row.id)}
        </a>
        <State of={row.state} />
      </span>
      {(below.length > 0 || (isHere && snapshots.length > 0)) && (
        <ul>
          {isHere &&
            snapshots.map((version) => (
              <li key={version}>
                <span class="tree-node">
                  <span class="tag">checkpoint</span> <a href={to("images", row.image)}>version {version}</a>
                </span>
              </li>
            ))}
          {below.map((fork) => (
            <Node key={fork.id} row={fork} children={children} here={here} snapshots={snapshots} left={left} />
          ))}
        </ul>
      )}
    </li>
  );
}
