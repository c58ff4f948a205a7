# SPDX-License-Identifier: Apache-2.0
"""Follow a home agent's binding cache and keep the controller in step with it.

`model`, `terminal_answers`, `kernel_view` and `ipsec_policies` parse the sources' output. `home_agent` holds what is
known of the home agent, with `desired`, `frozen_bindings` and `schedule`; `members` and `member` decide what each
controller is told next, with `reconciliation`. All of these are pure: time and input are arguments. `terminal_client`,
`kernel_watch`, `sources` and `client` do input and output; `daemon` ties them together.
"""
