# SPDX-License-Identifier: Apache-2.0
"""Accept bindings by REST and install their flows on the routers by OpenFlow."""
