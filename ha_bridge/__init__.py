# SPDX-License-Identifier: Apache-2.0
"""Follow a home agent's binding cache and keep the controller in step with it.

`model`, `terminal`, `tunnels` and `policies` parse the sources' output; `reconciliation`, `frozen`, `schedule` and
`core` decide what to do next. All of these are pure: time and input are arguments. `console`, `kernel`, `sources` and
`client` do input and output; `daemon` ties them together.
"""
