#!/usr/bin/env bash
# Explores the decoders with libFuzzer, each for as long, and ends with a table of what that came to.
#
#   scripts/fuzz.sh MINUTES [TARGET...]
#   scripts/fuzz.sh minimise [TARGET...]   keeps in tests/fuzz/corpus, of what is short, what adds to the coverage
#
# What it learns stays in target/fuzz/corpus, and the next run goes on from there. What breaks a target is put in
# target/fuzz/found, and the run fails.
set -euo pipefail
cd "$(dirname "$0")/.."

task=$1
shift
kept=tests/fuzz/corpus learned=target/fuzz/corpus found=target/fuzz/found seeds=target/fuzz/seeds
triple=$(rustc -vV | sed -n 's/^host: //p')
fuzz=target/fuzz/$triple/fuzz/fuzz

# The compiler's own instrumentation, for which it needs no leave: LLVM's pass, and what libFuzzer reads of it. With
# --target, build scripts and derive macros go without.
build() {
	local coverage=-Cllvm-args=-sanitizer-coverage
	local flags="$coverage-level=4 $coverage-inline-8bit-counters $coverage-pc-table $coverage-trace-compares"
	RUSTFLAGS="-Cpasses=sancov-module $flags" \
		cargo build --locked --package maglev-fuzz --features engine --bin fuzz --profile fuzz \
		--target "$triple" --target-dir target/fuzz
}

# The names and longest inputs of all targets, from where they are declared.
list_targets() {
	cargo run --quiet --locked --package maglev-fuzz --bin targets
}

prepare() { # TARGET
	rm -rf "${seeds:?}/$1"
	mkdir -p "$seeds/$1" "$learned/$1" "$found" "$kept/$1"
}

run() { # TARGET LONGEST OPTION... FOLDER...
	local target=$1 longest=$2
	shift 2
	MAGLEV_FUZZ=$target MAGLEV_FUZZ_SEEDS=$seeds/$target "$fuzz" -max_len="$longest" -timeout=10 -rss_limit_mb=2048 \
		-print_final_stats=1 -artifact_prefix="$found/$target-" "$@"
}

explore() { # TARGET LONGEST
	local log=target/fuzz/$1.log status=ok
	prepare "$1"
	echo "== $1"
	run "$1" "$2" -max_total_time=$((task * 60)) "$learned/$1" "$seeds/$1" "$kept/$1" 2>&1 | tee "$log" | show || status=FOUND
	awk -v target="$1" -v status=$status '
		match($0, /inline 8-bit counters/) && /^INFO: Loaded/ { split($0, part, /[()]/); edges = part[2] + 0 }
		match($0, /cov: [0-9]+/) { cov = substr($0, RSTART + 5, RLENGTH - 5) }
		match($0, /ft: [0-9]+/) { ft = substr($0, RSTART + 4, RLENGTH - 4) }
		/^stat::number_of_executed_units/ { runs = $2 }
		/^stat::average_exec_per_sec/ { rate = $2 }
		END { printf "%-14s %11d %8d %7d %9d  %s\n", target, runs, rate, cov, ft, status }' "$log" >>"$table"
	[[ $status == ok ]]
}

# The lines that tell of progress, and what is wrong.
show() {
	grep --line-buffered -E '#[0-9]+.*(INITED|pulse|DONE)|panicked|ERROR|SUMMARY|artifact' || true
}

minimise() { # TARGET
	local small=target/fuzz/small/$1
	prepare "$1"
	rm -rf "$small"
	mkdir -p "$small"
	# It writes the seeds, which are not to be kept twice.
	run "$1" 1 -runs=0 &>/dev/null
	run "$1" 1024 -use_counters=0 -set_cover_merge=1 "$small" "$seeds/$1" "$kept/$1" "$learned/$1" &>/dev/null
	find "$kept/$1" -type f ! -name 'found-*' -delete
	# Of the messages between the two processes the seeds are enough: files would be of one version.
	if [[ $1 != to-* ]]; then
		cp -t "$kept/$1" "$small"/*
	fi
	for file in "$seeds/$1"/*; do
		rm -f "$kept/$1/$(sha1sum "$file" | cut -d' ' -f1)"
	done
	rmdir --ignore-fail-on-non-empty "$kept/$1"
	echo "$1: $(find "$kept/$1" -type f 2>/dev/null | wc -l) files"
}

build
failed=0
table=$(mktemp)
trap 'rm -f "$table"' EXIT
while read -r target longest; do
	if (($#)) && [[ " $* " != *" $target "* ]]; then
		continue
	fi
	if [[ $task == minimise ]]; then
		minimise "$target" </dev/null
	else
		explore "$target" "$longest" </dev/null || failed=1
	fi
done < <(list_targets)
if [[ $task != minimise ]]; then
	echo
	echo 'target          executions     a sec.   edges  features  outcome'
	cat "$table"
fi
exit $failed
