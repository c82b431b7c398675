// The list of images.

import { type Image } from "./api";
import { seconds } from "./format";
import { replace, useWatch } from "./live";
import { Ago, Empty, Loading, Page, Problem, Rows, State, useNow } from "./parts";
import { to } from "./route";

export function ImagesPage() {
  const { data, error } = useWatch<{ all: Image[] }>("images", {}, replace);
  const now = useNow();
  return (
    <Page title="Images">
      {error && <Problem text={error} />}
      {!data ? (
        !error && <Loading what="images" />
      ) : data.all.length === 0 ? (
        <Empty title="There are no images yet.">
          <p>
            <code>emberbox images create NAME DIRECTORY</code> builds one from a directory with a Dockerfile.
          </p>
        </Empty>
      ) : (
        <div class="table-box">
          <Rows columns={["Image", "State", "Launches", { name: "Last failed", is: "wide" }, "Made"]}>
            {data.all.map((image) => (
              <tr key={image.imageArn}>
                <td class="name">
                  <a href={to("images", image.name)}>{image.name}</a>
                </td>
                <td>
                  <State of={image.state} />
                </td>
                <td class="number">{image.latestActiveImageVersion ?? "–"}</td>
                <td class="wide number">{image.latestFailedImageVersion ?? "–"}</td>
                <td class="quiet">
                  <Ago at={seconds(image.createdAt)} now={now} />
                </td>
              </tr>
            ))}
          </Rows>
        </div>
      )}
    </Page>
  );
}
