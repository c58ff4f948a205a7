# SPDX-License-Identifier: Apache-2.0
"""The northbound REST API, version 1: a WSGI application over the core.

A request comes in by ``http``, is routed by ``api``, let in by ``authorization`` and carried out in ``calls``, which
decode and encode the structs of ``schemas`` and make these from the core's values by ``views``. What a call takes and
answers is declared once, by ``operations``; routing, access control and OpenAPI follow from that.
"""
