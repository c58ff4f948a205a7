// SPDX-License-Identifier: Apache-2.0
// Calls the controller. Every call has a time limit; the token goes with each call, and nowhere else.

const PATIENCE = 20_000; // milliseconds
const KEY = "hoaflow-token";

// A token is missing, unknown, or not for this.
export class Unauthorized extends Error {}
// There is no answer, or not a controller's.
export class Unreachable extends Error {}
// The controller refused; `status` is HTTP's.
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  keep: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

// Resolves to an answer of any status once its head has come. `signal` aborts all of it.
export async function request(path, { headers = {}, signal, patience = PATIENCE } = {}) {
  const held = token.get();
  const head = new AbortController();
  const timer = setTimeout(() => head.abort(), patience);
  const signals = signal ? [head.signal, signal] : [head.signal];
  try {
    const answer = await fetch(path, {
      headers: held === null ? headers : { ...headers, Authorization: `Bearer ${held}` },
      signal: AbortSignal.any(signals),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
    if (!answer.ok) throw await refusal(answer);
    return answer;
  } catch (error) {
    if (error instanceof Unauthorized || error instanceof Refused || signal?.aborted) throw error;
    throw new Unreachable(head.signal.aborted ? `no answer within ${patience / 1000} s` : "no connection");
  } finally {
    clearTimeout(timer);
  }
}

async function refusal(answer) {
  let detail = `${answer.status} ${answer.statusText}`;
  if (answer.headers.get("Content-Type")?.startsWith("application/problem+json")) {
    detail = String((await answer.json()).detail);
  }
  return answer.status === 401 || answer.status === 403 ? new Unauthorized(detail) : new Refused(answer.status, detail);
}

async function whole(path, read) {
  const signal = AbortSignal.timeout(PATIENCE);
  try {
    return await read(await request(path, { signal }));
  } catch (error) {
    if (error instanceof Unauthorized || error instanceof Refused || error instanceof Unreachable) throw error;
    throw new Unreachable(signal.aborted ? `no answer within ${PATIENCE / 1000} s` : "the answer can't be read");
  }
}

export const getJson = (path) => whole(path, (answer) => answer.json());
export const getText = (path) => whole(path, (answer) => answer.text());
