# SPDX-License-Identifier: Apache-2.0
"""Follows a home agent's binding cache and keeps the controller in step with it.

`model`, `terminal`, `tunnels` and `policies` understand what the sources say; `ledger`, `schedule` and `core`
decide what is to be done next. All of these are pure: time and input are arguments. `console`, `kernel`,
`sources` and `client` do input and output, `daemon` ties them together.
"""
