# SPDX-License-Identifier: Apache-2.0
"""Serve the northbound REST API, version 1: a WSGI application over the core.

`http` receives a request, `api` routes it, `authorization` admits it, and `calls` carries it out: it decodes and
encodes the structs of `schemas`, which `views` makes from the core's values. Each call's parameters and answers are
declared once, with `operations`; routing, access control and OpenAPI follow from that.
"""
