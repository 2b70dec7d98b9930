#!/usr/bin/env bash
# Expected: a gRPC client and a gRPC server agree on a unix socket, whatever languages they are in.
# Happens:  each call ends with INTERNAL, and the server's code never sees it. grpcio sends the socket's path as `:authority`,
#           with %2F for each slash. RFC 3986 allows that in a host, but the Rust crate http refuses a percent sign there.
#           The crate h2 then resets the stream as malformed, below tonic, hyper and every interceptor.
# Here:     maglevd's unix socket is the way to be known as a user. docs/user-guide.md names the option that helps.
# Seen with grpcio 1.85.3 of PyPI, and the crates h2 0.4.20 and http 1.5.0.
# shellcheck source=findings/lib.sh
. "$(dirname "$0")/lib.sh"

python3 -m venv "$work/venv" || unavailable 'no venv of Python'
"$work/venv/bin/pip" --quiet --disable-pip-version-check install grpcio==1.85.3 || unavailable 'no grpcio'
tokio='{ version = "=1.54.1", features = ["macros", "net", "rt"] }'
rust 'h2 = "=0.4.20"' 'http = "=1.5.0"' "tokio = $tokio" <<'RUST'
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let listener = tokio::net::UnixListener::bind(std::env::args().nth(1).unwrap()).unwrap();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((request, mut reply))) = connection.accept().await {
            println!("request to {}", request.uri());
            let head = http::Response::builder().header("content-type", "application/grpc").header("grpc-status", "0");
            reply.send_response(head.body(()).unwrap(), true).unwrap();
        }
    }
}
RUST

call() { # SOCKET [AUTHORITY]
	"$work/venv/bin/python" - "$@" <<'PYTHON'
import sys, grpc

options = [("grpc.default_authority", authority) for authority in sys.argv[2:]]
call = grpc.insecure_channel("unix:" + sys.argv[1], options=options).unary_unary("/package.Service/Call")
try:
    call(b"", timeout=10)
except grpc.RpcError as error:
    print(error.code().name)
else:
    print("OK")
PYTHON
}

"$work/target/debug/finding" "$work/socket" >"$work/requests" &
await test -S "$work/socket"
echo 'grpcio 1.85.3, h2 0.4.20'
expect 'call' INTERNAL "$(call "$work/socket")"
expect 'requests that the server has seen' 0 "$(wc -l <"$work/requests")"
expect 'call with grpc.default_authority' OK "$(call "$work/socket" localhost)"
expect 'requests that the server has seen' 'request to http://localhost/package.Service/Call' "$(cat "$work/requests")"
