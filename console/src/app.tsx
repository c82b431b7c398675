// Who is logged in, and which page they see.

import { useEffect, useState } from "preact/hooks";
import { type Session, logIn, say, useSession, whoAmI } from "./api";
import { AuditPage } from "./audit";
import { Frame } from "./frame";
import { ImagePage } from "./image";
import { ImagesPage } from "./images";
import { closeChannel, openChannel } from "./live";
import { LoginPage } from "./login";
import { MicrovmPage } from "./microvm";
import { MicrovmsPage } from "./microvms";
import { Empty, Loading, Page } from "./parts";
import { go, useRoute } from "./route";
import { ServerPage } from "./server";
import { UsagePage } from "./usage";

const ENTER = /^#\/enter\/([\w-]+)$/;

export function App() {
  const [session, set] = useState<Session | null | undefined>(undefined);
  const [notice, setNotice] = useState<string | null>(null);
  const begin = (found: Session) => {
    useSession(found, () => {
      closeChannel();
      useSession(null, () => {});
      set(null);
    });
    openChannel();
    set(found);
  };
  useEffect(() => {
    enter().then(
      (found) => (found ? begin(found) : set(null)),
      (error: unknown) => {
        setNotice(say(error));
        set(null);
      },
    );
  }, []);
  if (session === undefined) return <Loading what="the console" />;
  if (session === null) return <LoginPage notice={notice} onLogin={begin} />;
  return (
    <Frame session={session}>
      <Shown session={session} />
    </Frame>
  );
}

/** Log in by the code in the address, where there is one, and take it out of there; else see who is logged in. */
async function enter(): Promise<Session | null> {
  const code = ENTER.exec(location.hash)?.[1];
  if (!code) return whoAmI();
  history.replaceState(null, "", "#/microvms");
  return logIn({ code });
}

function Shown({ session }: { session: Session }) {
  const [place, id, tab] = useRoute();
  useEffect(() => {
    if (!place) go("microvms");
  }, [place]);
  switch (place) {
    case undefined:
    case "microvms":
      return id ? <MicrovmPage key={id} id={id} tab={tab ?? "overview"} /> : <MicrovmsPage session={session} />;
    case "images":
      return id ? <ImagePage key={id} name={id} build={tab ?? null} session={session} /> : <ImagesPage />;
    case "usage":
      return <UsagePage />;
    case "audit":
      return <AuditPage />;
    case "server":
      return <ServerPage />;
    default:
      return (
        <Page title="Not found">
          <Empty title="There is no such page." />
        </Page>
      );
  }
}
