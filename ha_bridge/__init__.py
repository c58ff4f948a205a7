# SPDX-License-Identifier: Apache-2.0
"""Follow a home agent's binding cache and keep the controller in step with it.

`model`, `terminal_answers`, `kernel_view` and `ipsec_policies` parse the sources' output; `reconciliation`,
`frozen_bindings`, `schedule` and `core` decide what to do next. All of these are pure: time and input are arguments.
`terminal_client`, `kernel_watch`, `sources` and `client` do input and output; `daemon` ties them together.
"""
