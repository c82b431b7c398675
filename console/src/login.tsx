// The way in: an access key, or a link of the command line's.

import { type JSX } from "preact";
import { useState } from "preact/hooks";
import { type Session, logIn, say } from "./api";
import { Problem } from "./parts";

export function LoginPage({ notice, onLogin }: { notice: string | null; onLogin: (session: Session) => void }) {
  const [error, setError] = useState(notice);
  const [busy, setBusy] = useState(false);
  const submit = async (event: JSX.TargetedEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    const fields = new FormData(form);
    const proof = Object.fromEntries([...fields].filter(([, value]) => value !== ""));
    setBusy(true);
    setError(null);
    try {
      const session = await logIn(proof);
      form.reset();
      onLogin(session);
    } catch (problem) {
      setError(say(problem));
      setBusy(false);
    }
  };
  return (
    <main class="login">
      <form class="login-card" onSubmit={submit}>
        <h1 class="brand">
          <span class="brand-mark" aria-hidden="true" />
          Emberbox
        </h1>
        {error && <Problem text={error} />}
        <div>
          <label class="form-label" for="key">
            Access key id
          </label>
          <input class="form-control" id="key" name="accessKeyId" autocomplete="username" required autofocus spellcheck={false} />
        </div>
        <div>
          <label class="form-label" for="secret">
            Secret access key
          </label>
          <input class="form-control" id="secret" name="secretAccessKey" type="password" autocomplete="current-password" required />
        </div>
        <details>
          <summary>Temporary credentials</summary>
          <label class="form-label mt-2" for="token">
            Session token
          </label>
          <input class="form-control" id="token" name="sessionToken" type="password" autocomplete="off" />
        </details>
        <button class="btn btn-primary" type="submit" disabled={busy}>
          {busy ? "Logging in …" : "Log in"}
        </button>
        <p class="note">
          On the server's machine <code>emberbox console</code> prints a link that logs you in. The secret is not kept in
          this browser.
        </p>
      </form>
    </main>
  );
}
