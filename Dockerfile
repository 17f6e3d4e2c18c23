# The program alone: static, without a shell, as a user without rights. `make static` builds it the same way and checks that
# it needs nothing else.
FROM rust:1.95.0-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends musl-tools && rm -rf /var/lib/apt/lists/*
# The toolchain of the image is that of rust-toolchain.toml; the components named there are for people.
ENV RUSTUP_TOOLCHAIN=1.95.0
# Set by the builder: amd64 or arm64.
ARG TARGETARCH=amd64
RUN case "$TARGETARCH" in amd64) arch=x86_64 ;; arm64) arch=aarch64 ;; *) exit 1 ;; esac \
    && echo "$arch-unknown-linux-musl" > /target && rustup target add "$(cat /target)"
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --target "$(cat /target)" --bin tailscale-gateway \
    && install -D "target/$(cat /target)/release/tailscale-gateway" /out/tailscale-gateway \
    && strip --strip-debug /out/tailscale-gateway \
    && tools/static /out/tailscale-gateway

FROM scratch
# What HTTPS targets outside are checked against.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/tailscale-gateway /tailscale-gateway
USER 65532:65532
EXPOSE 18000 8080
ENTRYPOINT ["/tailscale-gateway"]
CMD ["serve", "--source", "kubernetes", "--xds-listen", "0.0.0.0:18000", "--admin-listen", "0.0.0.0:8080"]
