#!/usr/bin/env bash
# Expected: if a server hangs, TCP checks that connect and reset pass until the accept queue is full, and then fail, as
#           nobody takes connections out of it.
# Happens:  they pass for ever. With `AcceptFilter http data`, Apache's listener has the kernel's TCP_DEFER_ACCEPT: a
#           connection enters the queue with its first byte of data, and a check that sends none leaves no trace.
#           With `none`, 512 checks pass, and no more.
# Here:     a check of type `tcp` finds no hung Apache, in either mode; one of type `http` does. docs/healthchecks.md says so.
# Seen with Apache 2.4.71 of Debian 12, on Linux 6.18.
# shellcheck source=findings/lib.sh
. "$(dirname "$0")/lib.sh"
debian apache2-bin=2.4.71-1~deb12u1

modules=$work/root/usr/lib/apache2/modules
port=18080

# Stops all of Apache's processes, and prints how many of 700 checks pass until the first one fails.
checks() { # PROCESS-GROUP
	python3 - "$port" "$1" <<'PYTHON'
import os, signal, socket, struct, subprocess, sys, time

def check():
    with socket.socket() as s:
        s.settimeout(1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() resets
        try:
            s.connect(("127.0.0.1", int(sys.argv[1])))
        except OSError:
            return False
        return True

def is_stopped():
    threads = subprocess.run(["ps", "-L", "-o", "state=", "-g", sys.argv[2]], capture_output=True, text=True)
    return set(threads.stdout.split()) == {"T"}

os.killpg(int(sys.argv[2]), signal.SIGSTOP)
while not is_stopped():
    time.sleep(0.1)
print(next((n for n in range(700) if not check()), 700))
PYTHON
}

apache2 -v | sed -n 1p
for filter in data none; do
	cat >"$work/httpd.conf" <<-CONF
		ServerRoot $work
		ServerName localhost
		PidFile $work/httpd.pid
		DefaultRuntimeDir $work
		LoadModule mpm_event_module $modules/mod_mpm_event.so
		LoadModule authz_core_module $modules/mod_authz_core.so
		Listen 127.0.0.1:$port
		ListenBacklog 511
		AcceptFilter http $filter
		ErrorLog $work/error.log
	CONF
	setsid apache2 -f "$work/httpd.conf" -D FOREGROUND &
	group=$!
	await curl -s "http://127.0.0.1:$port/"
	passed=$(checks "$group")
	kill -KILL -- "-$group"
	wait "$group" 2>/dev/null || true
	case $filter in
	data) expect 'passes of a stopped Apache, AcceptFilter data' 700 "$passed" ;;
	none) expect 'passes of a stopped Apache, AcceptFilter none' 512 "$passed" ;;
	esac
done
