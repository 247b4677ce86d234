# Two stages: one with Rust that builds, one with the binary and the certificates of TLS.
#
#     docker build --tag lynxdata .
#     docker run --rm --volume "$PWD:/work" --user "$(id -u):$(id -g)" lynxdata run recipe.toml
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN cargo build --locked --profile dist --package lynxdata && cp target/dist/lynxdata /usr/local/bin/lynxdata

FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local/bin/lynxdata /usr/local/bin/lynxdata
WORKDIR /work
ENTRYPOINT ["lynxdata"]
CMD ["help"]
