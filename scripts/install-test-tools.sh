#!/usr/bin/env bash
# Installs the tools of the system suites that Debian does not package, each at the version pinned here:
#
#   install-test-tools.sh [DIR]      DIR: ~/.cache/hauberk-test-tools unless given
#
# and says what to put on PATH. The suites find them by name, and one that is missing fails its suite:
#
#   h2spec                                    HTTP/2 conformance
#   grpc-interop-client, grpc-interop-server  grpc-go's interop programs
#   grpc-python                               a Python that has grpcio, protobuf and cryptography
#   verifpal                                  analysis of the models in docs/formal
#
# Needs Go 1.19 or later, Python with venv, and Cargo 1.95 or later. What is there already is not installed again.
set -euo pipefail

# The commit of h2spec's release 2.6.0, which cannot be named as a version: its module path has no /v2.
H2SPEC=v0.0.0-20200804131034-70ac22940108
# The last releases of grpc-go that Debian 12's Go can build are of 1.64.
GRPC_GO=v1.64.1
GRPCIO=1.85.1
PROTOBUF=7.36.2
CRYPTOGRAPHY=50.0.2
# Asks for Rust 1.98, which Debian has not, and builds with 1.95.
VERIFPAL=1.6.7

dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/hauberk-test-tools}
mkdir -p "$dir/bin" "$dir/versions"
dir=$(cd "$dir" && pwd)

# once NAME VERSION COMMAND...: runs the command unless it has installed that version here before.
once() {
  local stamp=$dir/versions/$1 version=$2
  shift 2
  [ "$(cat "$stamp" 2>/dev/null)" != "$version" ] || return 0
  rm -f "$stamp"
  "$@"
  echo "$version" >"$stamp"
}

# go_program NAME PACKAGE@VERSION: builds it as bin/NAME.
go_program() {
  local build=$dir/build
  rm -rf "$build"
  mkdir "$build"
  GOBIN=$build go install "$2"
  mv "$build"/* "$dir/bin/$1"
  rmdir "$build"
}

python_program() {
  rm -rf "$dir/python"
  python3 -m venv "$dir/python"
  "$dir/python/bin/pip" install --quiet --only-binary :all: \
    "grpcio==$GRPCIO" "protobuf==$PROTOBUF" "cryptography==$CRYPTOGRAPHY"
  # A link from elsewhere would not find the packages.
  printf '#!/bin/sh\nexec "%s" "$@"\n' "$dir/python/bin/python3" >"$dir/bin/grpc-python"
  chmod +x "$dir/bin/grpc-python"
}

# Link-time optimisation would take minutes and gain seconds.
rust_program() {
  local build=$dir/build
  rm -rf "$build"
  CARGO_TARGET_DIR=$build/target CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    cargo install --quiet --locked --ignore-rust-version --root "$build/root" "$1"
  mv "$build/root/bin"/* "$dir/bin/"
  rm -rf "$build"
}

once h2spec "$H2SPEC" go_program h2spec "github.com/summerwind/h2spec/cmd/h2spec@$H2SPEC"
for end in client server; do
  once "grpc-interop-$end" "$GRPC_GO" go_program "grpc-interop-$end" "google.golang.org/grpc/interop/$end@$GRPC_GO"
done
once grpc-python "$GRPCIO $PROTOBUF $CRYPTOGRAPHY" python_program
"$dir/bin/grpc-python" -c 'import grpc, google.protobuf, cryptography'
once verifpal "$VERIFPAL" rust_program "verifpal@$VERIFPAL"
echo "PATH=$dir/bin:\$PATH"
