// What is around every page: where to go, who is logged in, and whether the server still tells what changes.

import { type ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { type Session, logOut } from "./api";
import { useConnected } from "./live";
import { to, useRoute } from "./route";
import { type Choice, choose, chosen } from "./theme";

const PLACES = [
  ["microvms", "MicroVMs"],
  ["images", "Images"],
  ["usage", "Usage"],
  ["audit", "Audit"],
  ["server", "Server"],
] as const;

const CHOICES: Choice[] = ["auto", "light", "dark"];

export function Frame({ session, children }: { session: Session; children: ComponentChildren }) {
  const [place = "microvms"] = useRoute();
  const isConnected = useConnected();
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={skip}>
        Skip to the content
      </a>
      <aside class="side">
        <a class="brand" href={to("microvms")}>
          <span class="brand-mark" aria-hidden="true" />
          Emberbox
        </a>
        <nav aria-label="Main">
          <ul class="side-nav">
            {PLACES.map(([key, label]) => (
              <li key={key}>
                <a href={to(key)} aria-current={key === place ? "page" : undefined}>
                  {label}
                </a>
              </li>
            ))}
          </ul>
        </nav>
        <div class="side-foot">
          <div class="who">
            <span class="who-name" title={session.principal}>
              {session.name}
            </span>
            <span class="who-account">
              {session.accountId} · {session.region}
            </span>
          </div>
          <Theme />
          <button type="button" class="btn btn-sm btn-outline-secondary" onClick={() => void logOut()}>
            Log out
          </button>
        </div>
      </aside>
      <main id="main" tabIndex={-1}>
        {!isConnected && (
          <div class="alert alert-warning offline" role="status">
            The connection to the server is lost; what is shown may be old. Trying again …
          </div>
        )}
        {children}
      </main>
    </div>
  );
}

function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function Theme() {
  const [choice, set] = useState(chosen);
  const take = (value: string) => {
    choose(value as Choice);
    set(value as Choice);
  };
  return (
    <select class="form-select form-select-sm theme" aria-label="Colours" value={choice} onChange={(event) => take(event.currentTarget.value)}>
      {CHOICES.map((name) => (
        <option key={name} value={name}>
          {name === "auto" ? "system" : name}
        </option>
      ))}
    </select>
  );
}
