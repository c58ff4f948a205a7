// SPDX-License-Identifier: Apache-2.0
// Shows the controller's own description, and asks nobody else: no validator, no other presets.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
