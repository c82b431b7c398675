// One image: its versions, and the builds with their logs.

import { useState } from "preact/hooks";
import { type Build, type Image, type Session, type Version, call } from "./api";
import { seconds, words } from "./format";
import { LaunchDialog } from "./launch";
import { replace, useWatch } from "./live";
import { LogView } from "./log";
import { Act, Ago, FormDialog, Loading, Page, Problem, Rows, Section, State, useNow } from "./parts";
import { go, to } from "./route";

interface Told {
  image: Image;
  versions: Version[];
  builds: Build[];
}

export function ImagePage({ name, build, session }: { name: string; build: string | null; session: Session }) {
  const arn = `arn:aws:lambda:${session.region}:${session.accountId}:microvm-image:${name}`;
  const { data, error } = useWatch<Told>("image", { imageArn: arn }, replace);
  const [launching, setLaunching] = useState<string | null>(null);
  const [deleting, setDeleting] = useState(false);
  const above = { href: to("images"), label: "Images" };
  if (!data) {
    return (
      <Page title={name} above={above}>
        {error ? <Problem text={error} /> : <Loading what="the image" />}
      </Page>
    );
  }
  const newest = data.image.latestActiveImageVersion;
  const chosen = data.builds.find((one) => one.buildId === build) ?? data.builds.find((one) => one.buildState === "IN_PROGRESS") ?? data.builds[0];
  const remove = async () => {
    await call("DeleteMicrovmImage", { imageIdentifier: arn });
    go("images");
  };
  return (
    <Page
      title={name}
      above={above}
      detail={<State of={data.image.state} />}
      actions={
        <div class="actions">
          <button type="button" class="btn btn-sm btn-primary" disabled={!newest} onClick={() => setLaunching(newest)}>
            Launch
          </button>
          <button type="button" class="btn btn-sm btn-outline-danger" onClick={() => setDeleting(true)}>
            Delete
          </button>
        </div>
      }
    >
      {error && <Problem text={error} />}
      <Versions told={data} arn={arn} onLaunch={setLaunching} />
      {chosen && <BuildPart told={data} chosen={chosen} name={name} />}
      {launching && <LaunchDialog session={session} image={name} version={launching} onClose={() => setLaunching(null)} />}
      {deleting && (
        <FormDialog title={`Delete ${name}?`} action="Delete" kind="btn-danger" onClose={() => setDeleting(false)} run={remove}>
          <p>All its versions and their snapshots go. That is refused while microVMs of it exist.</p>
        </FormDialog>
      )}
    </Page>
  );
}

function Versions({ told, arn, onLaunch }: { told: Told; arn: string; onLaunch: (version: string) => void }) {
  const now = useNow();
  const [error, setError] = useState<string | null>(null);
  const set = (version: Version) => () =>
    call("UpdateMicrovmImageVersion", {
      imageIdentifier: arn,
      imageVersion: version.imageVersion,
      status: version.status === "ACTIVE" ? "INACTIVE" : "ACTIVE",
    });
  return (
    <Section title="Versions">
      {error && <Problem text={error} />}
      <div class="table-box">
        <Rows
          columns={[
            "Version",
            "State",
            "Launches",
            { name: "Memory", is: "wide number" },
            { name: "Made", is: "wide" },
            { name: "Actions", isHidden: true },
          ]}
        >
          {told.versions.map((version) => {
            const build = told.builds.find((one) => one.imageVersion === version.imageVersion);
            const canLaunch = version.state === "SUCCESSFUL" && version.status === "ACTIVE";
            return (
              <tr key={version.imageVersion}>
                <td class="number">
                  {build ? <a href={to("images", told.image.name, build.buildId)}>{version.imageVersion}</a> : version.imageVersion}
                </td>
                <td>
                  <State of={version.state} />
                  {version.stateReason && <div class="quiet breaks">{version.stateReason}</div>}
                </td>
                <td>{words(version.status)}</td>
                <td class="wide number">{version.resources?.[0] ? `${version.resources[0].minimumMemoryInMiB} MiB` : "–"}</td>
                <td class="wide quiet">
                  <Ago at={seconds(version.createdAt)} now={now} />
                </td>
                <td class="row-actions">
                  <button type="button" class="btn btn-sm btn-outline-secondary" disabled={!canLaunch} onClick={() => onLaunch(version.imageVersion)}>
                    Launch<span class="visually-hidden"> version {version.imageVersion}</span>
                  </button>
                  {version.state === "SUCCESSFUL" && (
                    <Act label={version.status === "ACTIVE" ? "Deactivate" : "Activate"} run={set(version)} onError={setError} />
                  )}
                </td>
              </tr>
            );
          })}
        </Rows>
      </div>
    </Section>
  );
}

function BuildPart({ told, chosen, name }: { told: Told; chosen: Build; name: string }) {
  const version = told.versions.find((one) => one.imageVersion === chosen.imageVersion);
  const group = version?.logging?.cloudWatch?.logGroup ?? `/aws/lambda-microvms/${name}`;
  return (
    <Section
      title={`Build of ${chosen.imageVersion}`}
      side={
        <span>
          <State of={chosen.buildState} /> <span class="quiet">{chosen.architecture}</span>
        </span>
      }
    >
      {chosen.stateReason && <Problem text={chosen.stateReason} />}
      <LogView
        key={chosen.buildId}
        group={group}
        owner={chosen.buildId}
        version="0.0"
        since={seconds(chosen.createdAt) ?? 0}
        empty={chosen.buildState === "PENDING" ? "The build waits for its turn." : "This build has no log: it is a checkpoint, or its lines were kept long enough."}
      />
    </Section>
  );
}
