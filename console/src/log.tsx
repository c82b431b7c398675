// The lines of a build or of a microVM, as they come. What guests write is text here and nothing else.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { useWatch } from "./live";
import { Empty, Loading, Problem } from "./parts";

type Line = [number, string];

const LINES_MAX = 5000; // the page keeps no more

function append(before: Line[] | null, told: { lines: Line[] }): Line[] {
  return [...(before ?? []), ...told.lines].slice(-LINES_MAX);
}

const CONTROLS = /\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]/g;

/** A line without what would move a cursor or turn the direction of writing. */
export const clean = (line: string): string => line.replace(CONTROLS, "");

const clock = (ms: number): string => new Date(ms).toISOString().slice(11, 23);

export function LogView(props: { group: string; owner: string; version: string; since: number; empty: string }) {
  const of = { logGroup: props.group, owner: props.owner, version: props.version, since: props.since };
  const { data: lines, error } = useWatch<Line[], { lines: Line[] }>("log", of, append);
  const box = useRef<HTMLDivElement>(null);
  const [follows, setFollows] = useState(true);
  useLayoutEffect(() => {
    if (follows && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, follows]);
  const scrolled = () => {
    const element = box.current;
    if (element) setFollows(element.scrollHeight - element.scrollTop - element.clientHeight < 24);
  };
  if (error) return <Problem text={error} />;
  if (!lines) return <Loading what="the log" />;
  if (!lines.length) return <Empty title={props.empty} />;
  return (
    <div class="log-frame">
      <div ref={box} class="log" role="log" aria-live="off" tabIndex={0} aria-label="Log" onScroll={scrolled}>
        {lines.map(([at, text], number) => (
          <div key={number} class="log-line">
            <span class="log-time">{clock(at)}</span>
            <span class="log-text">{clean(text)}</span>
          </div>
        ))}
      </div>
      {!follows && (
        <button type="button" class="btn btn-sm btn-primary log-follow" onClick={() => setFollows(true)}>
          Follow
        </button>
      )}
    </div>
  );
}
