#!/usr/bin/env bash
# Builds the Debian packages of the working tree, as it is, into target/deb, and tries them out.
#
#   scripts/deb.sh build [ARCH...]  amd64 and arm64, unless told otherwise
#   scripts/deb.sh lint             asks lintian
#   scripts/deb.sh start            starts what was built for arm64, in qemu
#   scripts/deb.sh compare          builds amd64 elsewhere once more: every byte is to be the same
#
# The crates come from cargo's registry, locked by Cargo.lock. What was compiled is kept for the next time in
# target/deb/cargo; `DEB_BUILD_OPTIONS=noopt` compiles faster, for trying out.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
out=$PWD/target/deb

name_commit() {
	local commit
	commit=$(git rev-parse --short=12 HEAD)
	[[ -z $(git status --porcelain) ]] || commit+=-dirty
	echo "$commit"
}

# What --version says.
export MAGLEV_COMMIT=${MAGLEV_COMMIT:-$(name_commit)}

# Copies what is in the repository, so that nothing else gets into a package. Every file is new: by an older time, cargo would
# take one that was changed during the last build for compiled.
export_sources() { # DIR
	rm -rf "$1"
	mkdir -p "$1"
	git ls-files -z --cached --others --exclude-standard | tar -c --null --ignore-failed-read -T - | tar -x --touch -C "$1"
}

# Leaves the packages in DIR. The source goes with the first architecture.
build() { # DIR ARCH...
	local sources=$1/vpp-maglev-$version arch what=full
	shift
	export_sources "$sources"
	for arch in "$@"; do
		(cd "$sources" && dpkg-buildpackage --host-arch "$arch" --build="$what" --no-sign)
		what=any
	done
	rm -rf "$sources"
}

build_packages() { # ARCH...
	(($#)) || set -- amd64 arm64
	export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$out/cargo}
	rm -rf "$out/build"
	build "$out/build" "$@"
	mv "$out"/build/* "$out"
	rmdir "$out/build"
	ls -l "$out"/*_"$version"*.deb
}

lint_packages() {
	lintian --allow-root --fail-on error,warning "$out/vpp-maglev_${version}"_*.changes
}

# Another place, another home, another language, another mask, and nothing compiled yet.
compare_builds() {
	local elsewhere package status=0
	elsewhere=$(mktemp -d)
	# shellcheck disable=SC2064
	trap "rm -rf '$elsewhere'" EXIT
	(
		umask 077
		export CARGO_TARGET_DIR=$elsewhere/cargo CARGO_HOME=$elsewhere/home TZ=Pacific/Auckland LC_ALL=C.UTF-8
		build "$elsewhere/build" amd64
	)
	for package in "$elsewhere"/build/*.deb; do
		cmp "$package" "$out/${package##*/}" || status=1
	done
	return "$status"
}

case ${1:-} in
build)
	shift
	build_packages "$@"
	;;
lint) lint_packages ;;
start) scripts/deb-start.sh "$out/vpp-maglev_${version}_arm64.deb" ;;
compare) compare_builds ;;
*)
	sed -n 's/^#   //p' "$0" >&2
	exit 1
	;;
esac
