# SPDX-License-Identifier: Apache-2.0
# One image for all parts of hoaflow. What a container runs is its command: hoaflow-controller, ha-bridge, hoaflow-ha,
# hoaflow-fa, hoaflow-lma, hoaflow-mag, hoaflow-router or hoaflow. How to use it: docs/containers.md.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS build
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates gcc libc6-dev python3-dev python3-venv
# Certificates of a company proxy, if there is one (deploy/image/ca/README.md). They stay in this stage.
COPY deploy/image/ca/ /usr/local/share/ca-certificates/
RUN update-ca-certificates
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements /src/requirements
RUN python3 -m venv /opt/hoaflow \
 && /opt/hoaflow/bin/pip install --require-hashes -r /src/requirements/build.txt \
 && cd /src/requirements \
 && /opt/hoaflow/bin/pip install --require-hashes --no-build-isolation \
        -r controller.txt -r bridge.txt -r router.txt -r home-agent.txt -r cli.txt
COPY . /src
# After Ryu, whose ryu-manager does not start with a current eventlet. Then what only builds goes.
RUN /opt/hoaflow/bin/pip install --no-deps --no-build-isolation /src \
 && /opt/hoaflow/bin/pip uninstall -y wheel setuptools pip

FROM ${BASE_IMAGE}
# python3: all parts. nftables: spoofing filters of home agent and routers. openvswitch-switch: routers without a host's own.
# iproute2, iputils-ping, ethtool: routers, mobile node and whoever looks for a fault. tini: reaps and passes signals on.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        python3 nftables openvswitch-switch iproute2 iputils-ping ethtool tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf /var/log/* /usr/share/doc /usr/share/man \
 && useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin --uid 999 hoaflow
COPY --from=build /opt/hoaflow /opt/hoaflow
COPY deploy/image/bin /usr/lib/hoaflow
ENV PATH=/opt/hoaflow/bin:/usr/lib/hoaflow:/usr/sbin:/usr/bin:/sbin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Last, as they differ from build to build.
ARG VERSION=0.2.0 REVISION=unknown SOURCE=unknown
LABEL org.opencontainers.image.title="hoaflow" \
      org.opencontainers.image.description="Takes the data traffic of Mobile IPv6 off the home agent, with OpenFlow" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
# Whoever needs more (the home agent, the routers) is given it where it is started.
USER hoaflow
ENTRYPOINT ["/usr/bin/tini", "-g", "--"]
CMD ["hoaflow-controller"]
