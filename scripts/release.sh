#!/usr/bin/env bash
# Prepares a release in the working tree and prints the checklist. Commits, tags, pushes and publishes nothing.
#
#   scripts/release.sh VERSION [DATE]      DATE is YYYY-MM-DD, by default today in UTC
set -euo pipefail
cd "$(dirname "$0")/.."

die() {
	echo "release: $*" >&2
	exit 1
}

version=${1:-}
day=${2:-$(date -u +%F)}
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || die "usage: scripts/release.sh X.Y.Z [YYYY-MM-DD]"
date -u -d "$day" +%F >/dev/null 2>&1 || die "$day is not a date: write YYYY-MM-DD"
[[ -z $(git status --porcelain) ]] || die "the working tree has changes: commit or stash them first"
current=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
[[ $(printf '%s\n' "$current" "$version" | sort -V | tail -n 1) == "$version" && $current != "$version" ]] ||
	die "$version is not later than $current"
changes=$(awk '/^## \[Unreleased\]/ { on = 1; next } /^## / { on = 0 } on && /^\* /' CHANGELOG.md)
[[ -n $changes ]] || die "CHANGELOG.md has no line below Unreleased"

sed -i "/^\[workspace.package\]/,/^\[/s/^version = .*/version = \"$version\"/" Cargo.toml
cargo update --quiet --workspace --offline
sed -i "s/^## \[Unreleased\]$/## [Unreleased]\n\n## [$version] - $day/" CHANGELOG.md
maintainer=$(sed -n 's/^Maintainer: //p' debian/control)
{
	echo "vpp-maglev ($version) unstable; urgency=medium"
	echo
	echo "  * Release $version; CHANGELOG.md has the changes."
	echo
	echo " -- $maintainer  $(LC_ALL=C date -u -d "$day 12:00" '+%a, %d %b %Y %T +0000')"
	echo
	cat debian/changelog
} >debian/changelog.new
mv debian/changelog.new debian/changelog

cat <<TXT
Prepared $version of $day: Cargo.toml, Cargo.lock, CHANGELOG.md, debian/changelog. Next:

  1. make test && make deny && make deb-check && make demo
     VPP_BIN=/path/to/vpp make test
  2. make soak SEEDS=1000 && make fuzz MINUTES=5
  3. make bench, and read the difference in docs/performance.md
  4. git diff, then git commit --all --message 'release: $version'
  5. make deb, and install target/deb/vpp-maglev_${version}_*.deb on a machine of your own
  6. git tag --sign v$version --message $version, and publish the packages with their checksums
TXT
