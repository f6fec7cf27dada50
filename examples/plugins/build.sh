#!/usr/bin/env bash
# Builds every plugin below this folder and puts the modules into dist/ or the folder named by --out.
#
#   ./build.sh [--fresh] [--out DIR]
#
#   --fresh     throw away what earlier builds left behind (target/, node_modules/, build/) first
#   --out DIR   where the modules go; dist/ beside this script if not given
#
# Rust is compiled by the machine's own toolchain if rustup has the target wasm32-wasip1, else by
# Debian's rustc-web, which brings the source of its standard library along. CLANG=/path/to/clang names
# a clang that can compile for wasm32-wasi; without it Debian's clang-19 is used. Debian packages that
# are missing are installed, which needs root or sudo.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
out=$here/dist
fresh=false

rust_modules=(fault_injection_rust header_rust body_rust)

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

build_assemblyscript() {
    cd "$here/fault-injection-as"
    have npm || need_packages nodejs npm
    if [[ ! node_modules/.package-lock.json -nt package-lock.json ]]; then
        npm ci --ignore-scripts --no-audit --no-fund >&2 ||
            die "npm cannot install the packages of fault-injection-as/package-lock.json"
    fi
    npm run --silent build
    install -m 644 build/fault_injection_as.wasm "$out/"
}

build_c() {
    local clang=${CLANG:-clang-19}
    [[ -n ${CLANG:-} ]] || need_packages clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32
    local compile=(
        "$clang" --target=wasm32-wasi -mexec-model=reactor -std=gnu17 -O2 -Wall -Wextra -Werror
        -I"$here/include" '-Wl,--strip-debug'
    )
    cd "$here"
    "${compile[@]}" fault-injection-c/fault_injection.c -o "$out/fault_injection_c.wasm"
    "${compile[@]}" fixtures/trap.c -o "$out/trap.wasm"
    "${compile[@]}" fixtures/probe.c -o "$out/probe.wasm"
    chmod 644 "$out"/{fault_injection_c,trap,probe}.wasm
}

# Lists the modules with their sizes, and lets wabt check them where it is installed.
report() {
    local module
    for module in "${rust_modules[@]}" fault_injection_as fault_injection_c trap probe; do
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
fi

# Each in a shell of its own: they change folders.
(build_c)
(build_assemblyscript)
(build_rust)
report
