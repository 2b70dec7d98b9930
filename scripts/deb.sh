#!/usr/bin/env bash
# Builds the Debian packages of the working tree, as it is, into target/deb.
#
#   scripts/deb.sh [ARCH...]        amd64 and arm64, unless told otherwise
#
# The crates come from cargo's registry, locked by Cargo.lock. What was compiled is kept for the next time in
# target/deb/cargo; `DEB_BUILD_OPTIONS=noopt` compiles faster, for trying out.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(dpkg-parsechangelog --show-field Version)
out=$PWD/target/deb
: "${CARGO_TARGET_DIR:=$out/cargo}"
export CARGO_TARGET_DIR

name_commit() {
	local commit
	commit=$(git rev-parse --short=12 HEAD)
	[[ -z $(git status --porcelain) ]] || commit+=-dirty
	echo "$commit"
}

MAGLEV_COMMIT=$(name_commit)
export MAGLEV_COMMIT

# Copies what is in the repository, so that nothing else gets into a package. Times are kept, for cargo.
export_sources() { # DIR
	rm -rf "$1"
	mkdir -p "$1"
	git ls-files -z --cached --others --exclude-standard | tar -c --null --ignore-failed-read -T - | tar -x -C "$1"
}

build() { # DIR ARCH...
	local dir=$1/vpp-maglev-$version arch what=full
	shift
	export_sources "$dir"
	for arch in "$@"; do
		(cd "$dir" && dpkg-buildpackage --host-arch "$arch" --build="$what" --no-sign)
		what=any
	done
}

if (($# == 0)); then
	set -- amd64 arm64
fi
rm -rf "$out/build"
build "$out/build" "$@"
rm -rf "$out/build/vpp-maglev-$version"
mv "$out"/build/* "$out"
rmdir "$out/build"
(cd "$out" && ls -l -- *_"$version"*)
