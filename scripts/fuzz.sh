#!/usr/bin/env bash
# Explores the fuzz targets with libFuzzer, each for MINUTES, and prints a table of the results.
#
#   scripts/fuzz.sh MINUTES [TARGET...]
#   scripts/fuzz.sh minimise [TARGET...]   reduces tests/fuzz/corpus to the short inputs that add coverage
#
# The corpus in target/fuzz/corpus grows from run to run. An input that fails a target is written to target/fuzz/found, and
# the run fails.
set -euo pipefail
cd "$(dirname "$0")/.."

task=$1
shift
kept=tests/fuzz/corpus learned=target/fuzz/corpus found=target/fuzz/found seeds=target/fuzz/seeds
triple=$(rustc -vV | sed -n 's/^host: //p')
fuzz=target/fuzz/$triple/fuzz/fuzz

# The stable compiler's instrumentation: LLVM's pass, with the parts that libFuzzer reads. With --target, build scripts and
# derive macros stay uninstrumented.
build() {
	local coverage=-Cllvm-args=-sanitizer-coverage
	local flags="$coverage-level=4 $coverage-inline-8bit-counters $coverage-pc-table $coverage-trace-compares"
	RUSTFLAGS="-Cpasses=sancov-module $flags" \
		cargo build --locked --package maglev-fuzz --features engine --bin fuzz --profile fuzz \
		--target "$triple" --target-dir target/fuzz
}

# Prints the names and maximum input sizes of all targets.
list_targets() {
	cargo run --quiet --locked --package maglev-fuzz --bin targets
}

prepare() { # TARGET
	rm -rf "${seeds:?}/$1"
	mkdir -p "$seeds/$1" "$learned/$1" "$found" "$kept/$1"
}

run() { # TARGET LONGEST OPTION... DIRECTORY...
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

# Filters progress and failures.
show() {
	grep --line-buffered -E '#[0-9]+.*(INITED|pulse|DONE)|panicked|ERROR|SUMMARY|artifact' || true
}

minimise() { # TARGET
	local small=target/fuzz/small/$1
	prepare "$1"
	rm -rf "$small"
	mkdir -p "$small"
	# It writes the seeds. They are in the code already, so the corpus must not contain them.
	run "$1" 1 -runs=0 &>/dev/null
	run "$1" 1024 -use_counters=0 -set_cover_merge=1 "$small" "$seeds/$1" "$kept/$1" "$learned/$1" &>/dev/null
	find "$kept/$1" -type f ! -name 'found-*' -delete
	# Files with messages between the two processes would be of one protocol version. Their seeds suffice.
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
