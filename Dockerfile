# syntax=docker/dockerfile:1
# maglevd and its prober in one container. docs/user-guide.md explains how to run it.

FROM rust:1.91-slim-bookworm AS build
WORKDIR /src
COPY . .
ARG MAGLEV_COMMIT=unknown
ARG MAGLEV_BUILD_DATE=unknown
# The prober is built by itself: in one build it would get the controller's features of shared dependencies.
RUN cargo build --release --locked --package maglevd-prober
RUN cargo build --release --locked --package maglevd --package maglevc

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="vpp-maglev" \
      org.opencontainers.image.description="Health checks and weights for the Maglev load balancer in VPP" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates libcap2-bin \
 && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 maglevd \
 && useradd --uid 10001 --gid maglevd --home-dir /var/lib/vpp-maglev --shell /usr/sbin/nologin maglevd \
 && install --directory --owner maglevd --group maglevd --mode 0750 /run/vpp-maglev /var/lib/vpp-maglev
COPY --from=build /src/target/release/maglevd /src/target/release/maglevd-prober /src/target/release/maglevc /usr/bin/
# Only the prober may open raw sockets, and it drops the capability once they are open.
RUN setcap cap_net_raw+ep /usr/bin/maglevd-prober
USER 10001:10001
# The default has [::1] too, which a container often lacks.
ENV MAGLEV_GRPC_ADDR=127.0.0.1:9090
VOLUME /var/lib/vpp-maglev
EXPOSE 9091
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["maglevc", "show", "version"]
ENTRYPOINT ["maglevd", "--prober", "spawn"]
