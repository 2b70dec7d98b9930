use std::net::Ipv4Addr;

use super::*;

fn tcp(address: SocketAddr) -> Check {
    check(address.ip(), ProbeKind::Tcp { port: address.port(), mode: ConnectMode::Full, tls: None })
}

#[test]
fn open_port_passes() {
    let (_listener, address) = silent();
    assert_eq!(probe(tcp(address)), (OutcomeCode::L4Ok, String::new()));
}

#[test]
fn open_port_passes_over_ipv6() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    assert_eq!(probe(tcp(listener.local_addr().unwrap())).0, OutcomeCode::L4Ok);
}

#[test]
fn closed_port_is_refused() {
    assert_eq!(probe(tcp(closed_port())), (OutcomeCode::L4Con, "connection refused".into()));
}

#[test]
fn source_address_is_used() {
    let (sender, receiver) = std::sync::mpsc::channel();
    // Only an HTTP probe completes the handshake, so that the server accepts it.
    let address = serve(move |stream| sender.send(stream.peer_addr().unwrap()).unwrap());
    let source = Some(Ipv4Addr::new(127, 7, 7, 7).into());
    let (_, _) = probe(Check { source, ..http::get(address) });
    assert_eq!(Some(receiver.recv().unwrap().ip()), source);
}

#[test]
fn foreign_source_address_is_local_fault() {
    let (_listener, address) = silent();
    let source = Some(Ipv4Addr::new(192, 0, 2, 77).into());
    let (code, detail) = probe(Check { source, ..tcp(address) });
    assert_eq!((code, detail.contains("no such source address")), (OutcomeCode::Local, true), "{detail}");
}

#[test]
fn full_backlog_times_out() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // Fills the backlog of 0; the kernel drops all further segments.
    let _first = TcpStream::connect(address).unwrap();
    assert_eq!(probe(with_short_timeout(tcp(address))), (OutcomeCode::L4Tout, String::new()));
}

#[test]
fn missing_descriptor_is_local_fault() {
    // These connections hang and use up the engine's limit of 100.
    let (_listener, address) = silent();
    let hanging = |n: u8| Check { target: Ipv4Addr::new(127, 0, 1, n).into(), ..http::get(address) };
    let listeners: Vec<_> =
        (0..110).map(|n| TcpListener::bind((hanging(n).target, address.port())).unwrap()).collect();
    let (mut controller, _thread) = spawn();
    controller.greet();
    let checks: Vec<_> = (0..110).map(|n| (n.into(), hanging(n))).collect();
    controller.commit(1, &checks);
    let outcome = controller.outcomes().remove(0);
    assert_eq!((outcome.code, outcome.detail.to_string()), (OutcomeCode::Local, "out of descriptors".into()));
    drop(listeners);
}
