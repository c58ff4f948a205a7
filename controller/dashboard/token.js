// SPDX-License-Identifier: Apache-2.0
// Asks the operator for a token if the controller requires one.

import { token } from "./api.js";
import { byId, say } from "./dom.js";

// Calls `go` once there is a token to try.
export function setUpToken(go) {
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token.keep(byId("token").value.trim());
    byId("token").value = "";
    byId("token-dialog").close();
    showForget();
    go();
  });
  // Without a token there is nothing to see behind the dialog.
  byId("token-dialog").addEventListener("cancel", (event) => event.preventDefault());
  byId("forget-token").addEventListener("click", () => {
    token.forget();
    location.reload(); // also forgets the data that the token gave access to
  });
  showForget();
}

function showForget() {
  byId("forget-token").hidden = token.get() === null;
}

// `problem` is the controller's answer to the last token.
export function askForToken(problem) {
  say(byId("token-problem"), problem ?? "");
  byId("token-problem").hidden = problem === null;
  if (!byId("token-dialog").open) byId("token-dialog").showModal();
}
