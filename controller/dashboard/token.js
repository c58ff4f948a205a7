// SPDX-License-Identifier: Apache-2.0
// Asks for a token when the controller wants one.

import { token } from "./api.js";
import { byId, say } from "./dom.js";

// `go` is called when there is a token to try.
export function setUpToken(go) {
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token.keep(byId("token").value.trim());
    byId("token").value = "";
    byId("token-dialog").close();
    showForget();
    go();
  });
  // Without a token there is nothing to see behind it.
  byId("token-dialog").addEventListener("cancel", (event) => event.preventDefault());
  byId("forget-token").addEventListener("click", () => {
    token.forget();
    location.reload(); // forgets what it has let see, too
  });
  showForget();
}

function showForget() {
  byId("forget-token").hidden = token.get() === null;
}

// `problem`: what the controller says of the one that it was shown.
export function askForToken(problem) {
  say(byId("token-problem"), problem ?? "");
  byId("token-problem").hidden = problem === null;
  if (!byId("token-dialog").open) byId("token-dialog").showModal();
}
