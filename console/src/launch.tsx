// Launching a microVM.

import { useState } from "preact/hooks";
import { type Image, type Microvm, type Session, call } from "./api";
import { replace, useWatch } from "./live";
import { FormDialog, Loading } from "./parts";
import { go } from "./route";

const LAUNCHABLE = new Set(["CREATED", "UPDATING", "UPDATED", "UPDATE_FAILED"]);

export function LaunchDialog(props: { session: Session; image?: string; version?: string; onClose: () => void }) {
  const { data, error } = useWatch<{ all: Image[] }>("images", {}, replace);
  const fit = (data?.all ?? []).filter((image) => LAUNCHABLE.has(image.state) && image.latestActiveImageVersion);
  const [chosen, setChosen] = useState(props.image ?? "");
  const [web, setWeb] = useState(true);
  const [shell, setShell] = useState(true);
  const [idle, setIdle] = useState("900");
  const [hours, setHours] = useState("8");
  const [payload, setPayload] = useState("");
  const name = chosen || fit[0]?.name || "";
  const image = fit.find((one) => one.name === name);
  const connector = (kind: string) => `arn:aws:lambda:${props.session.region}:aws:network-connector:aws-network-connector:${kind}`;
  const run = async () => {
    if (!image) throw new Error("Choose an image first.");
    const ingress = [web && "HTTP_INGRESS", shell && "SHELL_INGRESS"].filter((kind) => typeof kind === "string");
    if (!ingress.length) throw new Error("A microVM that lets nothing in cannot be reached: choose requests, a shell, or both.");
    const launched = await call<Microvm>("RunMicrovm", {
      imageIdentifier: image.imageArn,
      imageVersion: props.version,
      ingressNetworkConnectors: ingress.map(connector),
      maximumDurationInSeconds: Math.round(Number(hours) * 3600),
      runHookPayload: payload || undefined,
      idlePolicy:
        idle === "never"
          ? undefined
          : { maxIdleDurationSeconds: Number(idle), suspendedDurationSeconds: 28800, autoResumeEnabled: true },
    });
    go("microvms", launched.microvmId);
  };
  return (
    <FormDialog title="Launch a microVM" action="Launch" onClose={props.onClose} run={run}>
      {!data && !error && <Loading what="images" />}
      {error && <p class="text-danger">{error}</p>}
      {data && !fit.length && <p>No image can be launched yet: build one first, with `emberbox images create` or the API.</p>}
      <div>
        <label class="form-label" for="image">
          Image
        </label>
        <select id="image" class="form-select" value={name} disabled={!!props.version} onChange={(event) => setChosen(event.currentTarget.value)}>
          {fit.map((one) => (
            <option key={one.name} value={one.name}>
              {one.name} ({props.version ?? one.latestActiveImageVersion})
            </option>
          ))}
        </select>
      </div>
      <fieldset>
        <legend>It lets in</legend>
        <Check label="requests to its application" on={web} set={setWeb} />
        <Check label="shells, commands and files" on={shell} set={setShell} />
      </fieldset>
      <div class="pair">
        <div>
          <label class="form-label" for="idle">
            Suspend when idle for
          </label>
          <select id="idle" class="form-select" value={idle} onChange={(event) => setIdle(event.currentTarget.value)}>
            <option value="60">1 minute</option>
            <option value="300">5 minutes</option>
            <option value="900">15 minutes</option>
            <option value="3600">1 hour</option>
            <option value="never">never</option>
          </select>
        </div>
        <div>
          <label class="form-label" for="hours">
            Ends after (hours)
          </label>
          <input
            id="hours"
            class="form-control"
            type="number"
            min="0.05"
            max="8"
            step="any"
            required
            value={hours}
            onInput={(event) => setHours(event.currentTarget.value)}
          />
        </div>
      </div>
      <details>
        <summary>Payload of the run hook</summary>
        <label class="visually-hidden" for="payload">
          Payload
        </label>
        <textarea
          id="payload"
          class="form-control mt-2 mono"
          rows={3}
          maxLength={4096}
          value={payload}
          onInput={(event) => setPayload(event.currentTarget.value)}
        />
      </details>
    </FormDialog>
  );
}

function Check({ label, on, set }: { label: string; on: boolean; set: (on: boolean) => void }) {
  return (
    <label class="form-check">
      <input class="form-check-input" type="checkbox" checked={on} onChange={(event) => set(event.currentTarget.checked)} />
      <span class="form-check-label">{label}</span>
    </label>
  );
}
