#!/bin/bash
# Builds the Debian package and looks whether what belongs into it is there and works. With the path of a binary
# that one is packed; without, a release build.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo=${CARGO:-cargo}
binary=${1:-}

command -v cargo-deb >/dev/null || "$cargo" install --locked cargo-deb
if [[ -z $binary ]]; then
    "$cargo" build --release --bin ringgate
    binary=target/release/ringgate
else
    mkdir -p target/release
    [[ $binary -ef target/release/ringgate ]] || cp "$binary" target/release/ringgate
fi
made=target/deb
rm -rf "$made"
mkdir -p "$made"
"$binary" completions bash >"$made/ringgate.bash"
"$binary" completions zsh >"$made/_ringgate"
"$binary" completions fish >"$made/ringgate.fish"
"$binary" man >"$made/ringgate.1"
"$cargo" deb --no-build --output "$made/"
package=$(ls "$made"/ringgate_*.deb)

root=$made/root
dpkg-deb -x "$package" "$root"
missing=0
for file in usr/bin/ringgate etc/ringgate/config.yaml etc/ringgate/apisix.yaml \
    usr/lib/systemd/system/ringgate.service usr/share/bash-completion/completions/ringgate \
    usr/share/zsh/vendor-completions/_ringgate usr/share/fish/vendor_completions.d/ringgate.fish \
    usr/share/man/man1/ringgate.1.gz usr/share/ringgate/config.schema.json usr/share/ringgate/apisix.schema.json \
    usr/share/doc/ringgate/copyright usr/share/doc/ringgate/docs/CONFIG.md; do
    [[ -e $root/$file ]] || { echo "$package: $file is missing" >&2; missing=1; }
done
(( missing == 0 ))

dpkg-deb --ctrl-tarfile "$package" | tar -xO ./conffiles | sort | diff - <(printf '/etc/ringgate/%s.yaml\n' apisix config)
dpkg-deb --field "$package" Depends | grep -q 'libc6'
"$root/usr/bin/ringgate" version
"$root/usr/bin/ringgate" check --strict -c "$root/etc/ringgate/config.yaml"
echo "$package: $(stat -c %s "$package") bytes; everything is there"
