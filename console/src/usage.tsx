// What microVMs have used in the last day, and what AWS would have asked for it.

import { duration, imageName } from "./format";
import { replace, useWatch } from "./live";
import { Empty, Loading, Page, Problem, Rows } from "./parts";
import { to } from "./route";

interface Spent {
  image_arn: string;
  launches: number;
  running_s: number;
  vcpu_s: number;
  gib_s: number;
  usd: number;
}

const hours = (s: number): string => (s / 3600).toFixed(s < 3600 ? 3 : 1);
const dollars = (usd: number): string => `$${usd.toFixed(usd < 10 ? 4 : 2)}`;

export function UsagePage() {
  const { data, error } = useWatch<{ seconds: number; images: Spent[] }>("spending", {}, replace);
  return (
    <Page title="Usage" detail={<span class="quiet">the last 24 hours</span>}>
      {error && <Problem text={error} />}
      {!data ? !error && <Loading what="usage" /> : data.images.length === 0 ? <Empty title="No microVM has run." /> : <Table images={data.images} />}
      <p class="note">
        The price is what AWS's list for us-east-1 (August 2026) asks for the baseline of processor and memory while microVMs run.
        Peaks above it, snapshots and traffic are not in it. Here nothing is charged.
      </p>
    </Page>
  );
}

function Table({ images }: { images: Spent[] }) {
  const sum = (pick: (one: Spent) => number): number => images.reduce((total, one) => total + pick(one), 0);
  return (
    <div class="table-box" role="region" aria-label="Usage by image" tabIndex={0}>
      <Rows
        columns={[
          "Image",
          { name: "Launches", is: "number" },
          { name: "Ran for", is: "number wide" },
          { name: "vCPU hours", is: "number wide" },
          { name: "GiB hours", is: "number wide" },
          { name: "Price on AWS", is: "number" },
        ]}
        foot={
          <tr>
            <th scope="row">All</th>
            <td class="number">{sum((one) => one.launches)}</td>
            <td class="number wide">{duration(sum((one) => one.running_s))}</td>
            <td class="number wide">{hours(sum((one) => one.vcpu_s))}</td>
            <td class="number wide">{hours(sum((one) => one.gib_s))}</td>
            <td class="number">{dollars(sum((one) => one.usd))}</td>
          </tr>
        }
      >
        {images.map((one) => (
          <tr key={one.image_arn}>
            <td class="name">
              <a href={to("images", imageName(one.image_arn))}>{imageName(one.image_arn)}</a>
            </td>
            <td class="number">{one.launches}</td>
            <td class="number wide">{duration(one.running_s)}</td>
            <td class="number wide">{hours(one.vcpu_s)}</td>
            <td class="number wide">{hours(one.gib_s)}</td>
            <td class="number">{dollars(one.usd)}</td>
          </tr>
        ))}
      </Rows>
    </div>
  );
}
