// Numbers, moments and names, as people read them.

export function seconds(moment: number | string | null | undefined): number | null {
  if (moment === null || moment === undefined) return null;
  return typeof moment === "number" ? moment : Date.parse(moment) / 1000;
}

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const moment = (at: number): string => exact.format(at * 1000);
export const time = (at: number): string => clock.format(at * 1000);

export function duration(s: number): string {
  if (s < 0.001) return "0 s";
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172_800) return `${(s / 3600).toFixed(1)} h`;
  return `${Math.round(s / 86_400)} d`;
}

export function ago(at: number, now: number): string {
  const s = now - at;
  return s < 5 ? "just now" : `${duration(s)} ago`;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count: number): string {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit && count < 10 ? count.toFixed(1) : Math.round(count)} ${UNITS[unit]}`;
}

export const percent = (part: number): string => `${(part * 100).toFixed(part < 0.1 ? 1 : 0)} %`;

export const imageName = (arn: string): string => arn.slice(arn.lastIndexOf(":") + 1);

/** An id without what all ids begin with, short enough for a table. */
export const short = (id: string): string => id.replace(/^microvm-/, "").slice(0, 8);

export const words = (state: string): string => state.toLowerCase().replaceAll("_", " ");
