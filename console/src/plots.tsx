// What a microVM uses, as it is told while the page is open: processor, memory and disk.

import { useEffect, useRef, useState } from "preact/hooks";
import type uPlot from "uplot";
import { type Usage } from "./api";
import { bytes, percent } from "./format";
import { useWatch } from "./live";
import { Section } from "./parts";
import { onTheme, token } from "./theme";

const POINTS = 150; // five minutes

interface Point {
  at: number;
  cpu: number | null;
  memory: number;
  disk: number;
}

interface Kept {
  points: Point[];
  last: Usage | null;
}

export function keep(before: Kept | null, told: Usage): Kept {
  const { points, last } = before ?? { points: [], last: null };
  if (told.ended) return { points, last };
  const passed = last && told.at > last.at && told.cpu >= last.cpu ? told.at - last.at : 0;
  const cpu = last && passed ? (told.cpu - last.cpu) / passed / told.processors : null;
  const point = { at: told.at, cpu, memory: told.memory, disk: told.disk };
  return { points: [...points, point].slice(-POINTS), last: told };
}

export function Plots({ id, state }: { id: string; state: string }) {
  const { data, error } = useWatch<Kept, Usage>("usage", { microvmId: id }, keep);
  const last = data?.last;
  const at = data?.points.at(-1);
  return (
    <Section title="Use" side={<span class="quiet">since this page is open, five minutes at most</span>}>
      {error ? (
        <p class="note">{error}</p>
      ) : (
        <div class="plots">
          <Plot
            label="Processor"
            value={at?.cpu === null || at?.cpu === undefined ? "–" : percent(at.cpu)}
            of={last ? `of ${last.processors} vCPU` : ""}
            points={data?.points ?? []}
            pick={(point) => point.cpu}
            top={1}
          />
          <Plot
            label="Memory"
            value={at ? bytes(at.memory) : "–"}
            of={last ? `of ${bytes(last.memoryMax)}` : ""}
            points={data?.points ?? []}
            pick={(point) => point.memory}
            top={last?.memoryMax}
          />
          <Plot
            label="Disk"
            value={at ? bytes(at.disk) : "–"}
            of="written by it"
            points={data?.points ?? []}
            pick={(point) => point.disk}
          />
        </div>
      )}
      {state === "SUSPENDED" && <p class="note">It is suspended: it takes no memory and no processor, only disk.</p>}
    </Section>
  );
}

interface PlotProps {
  label: string;
  value: string;
  of: string;
  points: Point[];
  pick: (point: Point) => number | null;
  top?: number;
}

function Plot({ label, value, of, points, pick, top }: PlotProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [make, setMake] = useState<typeof uPlot | null>(null);
  useEffect(() => {
    void import("uplot").then((module) => setMake(() => module.default));
  }, []);
  useEffect(() => {
    const element = place.current;
    if (!make || !element) return;
    const draw = () => {
      plot.current?.destroy();
      plot.current = new make(options(element.clientWidth), [[], []], element);
      plot.current.setData(data(points, pick), false);
      rescale(plot.current, points, pick, top);
    };
    draw();
    const forget = onTheme(draw);
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }));
    resized.observe(element);
    return () => {
      forget();
      resized.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [make]);
  useEffect(() => {
    if (!plot.current) return;
    plot.current.setData(data(points, pick), false);
    rescale(plot.current, points, pick, top);
  }, [points, make]);
  return (
    <figure class="plot">
      <figcaption>
        <span class="plot-label">{label}</span>
        <span class="plot-value">{value}</span>
        <span class="quiet">{of}</span>
      </figcaption>
      <div ref={place} class="plot-place" role="img" aria-label={`${label}: ${value} ${of}`} />
    </figure>
  );
}

const HEIGHT = 56;
const SHORTEST_S = 60; // what a plot shows at least

function data(points: Point[], pick: PlotProps["pick"]): [number[], (number | null)[]] {
  return [points.map((point) => point.at), points.map(pick)];
}

function rescale(plot: uPlot, points: Point[], pick: PlotProps["pick"], top?: number): void {
  const first = points[0]?.at ?? Date.now() / 1000;
  const end = points.at(-1)?.at ?? first;
  const highest = Math.max(...points.map((point) => pick(point) ?? 0), 0);
  plot.batch(() => {
    plot.setScale("x", { min: first, max: Math.max(end, first + SHORTEST_S) });
    plot.setScale("y", { min: 0, max: Math.max(top ?? 0, highest) || 1 });
  });
}

function options(width: number): uPlot.Options {
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [2, 0, 2, 0],
    axes: [{ show: false }, { show: false }],
    scales: { x: { time: true }, y: { auto: false } },
    series: [{}, { stroke: token("--plot-line"), fill: token("--plot-fill"), width: 1.5, points: { show: false }, spanGaps: false }],
  };
}
