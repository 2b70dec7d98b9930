#!/usr/bin/env bash
# Runs the lints and all tests, and ends with the line `N passed, N failed, N skipped`. Each lint and each test is one.
#
#   scripts/test.sh           the lints and the tests
#   scripts/test.sh lint      the lints alone
#   scripts/test.sh deb       the Debian packages alone
#   scripts/test.sh deny      the dependencies alone
#   scripts/test.sh scripts   lists the shell scripts
#
# A test that cannot run here prints a line `SKIP name: reason` and returns: for its runner it has passed, here it counts
# as skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

log=target/test.log
passed=0 failed=0 skipped=0 remarks=

check() { # NAME COMMAND...
	local name=$1
	shift
	echo "== $name"
	if "$@"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		remarks+="FAIL $name"$'\n'
	fi
}

skip() { # NAME REASON
	skipped=$((skipped + 1))
	remarks+="SKIP $1: $2"$'\n'
}

list_scripts() {
	git grep -l -m1 '^#!.*sh$'
}

lint() {
	local scripts
	mapfile -t scripts < <(list_scripts)
	if cargo fmt --version &>/dev/null; then
		check fmt cargo fmt --all --check
	else
		skip fmt 'this Rust toolchain has no rustfmt'
	fi
	if cargo clippy --version &>/dev/null; then
		check clippy cargo clippy --locked --workspace --all-targets -- -D warnings
	else
		skip clippy 'this Rust toolchain has no clippy'
	fi
	if rustdoc --version &>/dev/null; then
		check rustdoc lint_rustdoc
	else
		skip rustdoc 'this Rust toolchain has no rustdoc'
	fi
	lint_commits
	if command -v shellcheck >/dev/null; then
		check shellcheck shellcheck "${scripts[@]}"
	else
		skip shellcheck 'it is not installed'
	fi
	if command -v shfmt >/dev/null; then
		check shfmt shfmt --diff "${scripts[@]}"
	else
		skip shfmt 'it is not installed'
	fi
	if command -v mandoc >/dev/null; then
		check mandoc lint_manuals
	else
		skip mandoc 'it is not installed'
	fi
	lint_proto
	if systemd-analyze --version &>/dev/null; then
		check systemd-analyze scripts/units.sh
	else
		skip systemd-analyze 'it is not installed'
	fi
}

# Links in doc comments lead somewhere, those between private items too.
lint_rustdoc() {
	RUSTDOCFLAGS='--deny warnings --allow rustdoc::private_intra_doc_links' \
		cargo doc --quiet --locked --workspace --lib --no-deps --document-private-items
}

# Subjects of commits since the style guide was written.
lint_commits() {
	local first
	first=$(git log --diff-filter=A --format=%H -- docs/glossary.md 2>/dev/null | tail -n 1)
	if [[ -n $first ]]; then
		check commits check_subjects "$first"
	else
		skip commits 'the history is not on this machine'
	fi
}

check_subjects() { # FIRST
	! git log --no-merges --format=%s "$1..HEAD" | awk '!/^[a-z0-9_\/.,{}*-]+: [a-z]/ || length > 72' | grep .
}

# The API's description, and its compatibility with the newest release.
lint_proto() {
	local buf release
	buf=$(find target/tools -path '*/bin/buf' 2>/dev/null | sort -V | tail -n 1)
	if [[ -z $buf ]]; then
		skip buf-lint 'buf is not installed'
		skip buf-breaking 'buf is not installed'
		return
	fi
	export BUF_CACHE_DIR=$PWD/target/buf
	check buf-lint "$buf" lint proto
	if release=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null); then
		check buf-breaking check_compatibility "$buf" "$release"
	else
		skip buf-breaking 'there is no release to compare with'
	fi
}

check_compatibility() { # BUF TAG
	rm -rf target/buf/release
	mkdir -p target/buf/release
	git archive "$2" proto | tar -x -C target/buf/release
	"$1" breaking proto --against target/buf/release/proto
}

lint_manuals() {
	local remarks
	# Which other manuals there are is a matter of the machine.
	remarks=$(mandoc -T lint docs/man/*.[0-9] 2>&1 | grep -vE 'referenced manual not found|^mandoc: (outdated|[^ ]*db)' || true)
	echo -n "$remarks"
	[[ -z $remarks ]]
}

# Fetches the database of advisories: from ADVISORY_DB, a clone of it on this machine, or from the network.
fetch_advisories() { # DENY
	local upstream=https://github.com/RustSec/advisory-db seconds
	if [[ -z ${ADVISORY_DB:-} ]]; then
		"$1" --locked fetch db
		return
	fi
	seconds=$(git -C "$ADVISORY_DB" log -1 --format=%ct) || return
	echo "advisories: $ADVISORY_DB of $(date --utc --date="@$seconds" +%F), $((($(date +%s) - seconds) / 86400)) days old"
	# cargo-deny clones with git, which takes the copy for the original.
	GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.$(realpath "$ADVISORY_DB").insteadOf" GIT_CONFIG_VALUE_0=$upstream \
		"$1" --locked fetch db
}

# The dependencies, against deny.toml. What is known of their faults is not on this machine, and may not be to be had.
check_dependencies() {
	local deny
	deny=$(find target/tools -path '*/bin/cargo-deny' 2>/dev/null | tail -n 1)
	if [[ -z $deny ]]; then
		skip deny 'cargo-deny is not installed'
		return
	fi
	check deny "$deny" --locked check --deny warnings licenses bans sources
	if fetch_advisories "$deny"; then
		check advisories "$deny" --locked --offline check advisories
	else
		skip advisories 'the database of advisories cannot be fetched from here: ADVISORY_DB=DIR names a clone of it'
	fi
}

# The packages, which take long to build.
check_packages() {
	check deb scripts/deb.sh build
	check lintian scripts/deb.sh lint
	check deb-arm64 scripts/deb.sh start
	check deb-reproducible scripts/deb.sh compare
}

# Whether the tests of the deployment want a package that is not there, or is older than what it is to be built of.
needs_package() {
	local package file
	[[ ${SKIP_CONTAINER:-} != 1 && -z ${MAGLEV_DEB:-} ]] || return 1
	package=$(find target/deb -maxdepth 1 -name "vpp-maglev_*_$(dpkg --print-architecture).deb" 2>/dev/null | tail -n 1)
	[[ -n $package ]] || return 0
	while read -r -d '' file; do
		[[ ! $file -nt $package ]] || return 0
	done < <(git ls-files -z --cached --others --exclude-standard)
	return 1
}

start_tests() {
	if cargo nextest --version &>/dev/null; then
		cargo nextest run --locked --workspace --no-fail-fast --success-output immediate
	else
		cargo test --locked --workspace --all-targets --no-fail-fast -- --show-output
	fi
}

# Hides what passing tests have printed: Rust's own runner shows it under `successes:`, nextest after a line with PASS.
hide_successes() {
	awk '
		$1 == "PASS" { print; quiet = 1; next }
		/^successes:$/ { quiet = 1 }
		/^failures:$|^test result:|^ *[A-Z]+ \[|^─/ { quiet = 0 }
		!quiet'
}

# Prints how many tests have passed, failed and were left out, as far as the runner knows, from lines such as these:
#   test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
#   Summary [   2.112s] 4 tests run: 3 passed (1 slow), 1 timed out, 2 skipped
count() {
	awk '
		/^test result:/ { passed += $4; failed += $6; skipped += $8 }
		$1 == "Summary" {
			for (i = 1; i < NF; i++) {
				if ($(i + 1) ~ /^tests?$/) run = $i
				if ($(i + 1) ~ /^passed/) passed += $i
				if ($(i + 1) ~ /^skipped/) skipped += $i
			}
			failed += run - passed
		}
		END { print passed + 0, failed + 0, skipped + 0 }' "$log"
}

list_skips() {
	awk '$1 == "SKIP" && !seen[$2]++ { sub(/^ +/, ""); print }' "$log"
}

run_tests() {
	local status=0 tests skips
	mkdir -p "${log%/*}"
	start_tests 2>&1 | tee "$log" | hide_successes || status=$?
	read -r -a tests < <(count)
	skips=$(list_skips | wc -l)
	# A runner can fail without a failed test, as when a test does not compile.
	if ((status != 0 && tests[1] == 0)); then
		tests[1]=1
	fi
	passed=$((passed + tests[0] - skips))
	failed=$((failed + tests[1]))
	skipped=$((skipped + tests[2] + skips))
	remarks+=$(list_skips)$'\n'
}

case ${1:-} in
scripts)
	list_scripts
	exit
	;;
lint)
	lint
	# Among the tests otherwise.
	check house cargo test --quiet --locked --package maglev-house
	;;
deb) check_packages ;;
deny) check_dependencies ;;
*)
	lint
	# The programs too, which some tests start.
	check build cargo build --locked --workspace --all-targets
	if needs_package; then
		check deb scripts/deb.sh build "$(dpkg --print-architecture)"
	fi
	echo '== tests'
	run_tests
	;;
esac
sed '/^$/d' <<<"$remarks"
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
