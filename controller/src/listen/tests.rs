use std::os::unix::fs::PermissionsExt;

use futures_util::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};

use super::*;

fn parsed(list: &str) -> Vec<ListenAddress> {
    list.parse::<ListenAddresses>().unwrap().0
}

#[test]
fn lists_of_addresses() {
    assert_eq!(parsed(""), []);
    assert_eq!(parsed(":9090"), [ListenAddress::Every(9090)]);
    let both = [
        ListenAddress::One((Ipv6Addr::LOCALHOST, 9090).into()),
        ListenAddress::One((Ipv4Addr::LOCALHOST, 9090).into()),
    ];
    assert_eq!(parsed("[::1]:9090, 127.0.0.1:9090"), both);
    for wrong in ["localhost:9090", "::1", "9090", ":65536", "127.0.0.1"] {
        let error = wrong.parse::<ListenAddresses>().unwrap_err();
        assert_eq!(error, format!("`{wrong}` is neither ADDRESS:PORT, [ADDRESS]:PORT nor :PORT"));
    }
}

fn port(listener: &Listener) -> u16 {
    let Listener::Tcp(listener) = listener else { panic!("not TCP") };
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn wildcard_listens_on_both_families() {
    let listeners = ":0".parse::<ListenAddresses>().unwrap().bind().unwrap();
    let port = port(&listeners[0]);
    let mut connections = accept(listeners, 2);
    let _v4 = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    connections.next().await.unwrap();
    let _v6 = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
    connections.next().await.unwrap();
}

#[tokio::test]
async fn ipv6_and_ipv4_wildcards_coexist() {
    let v6 = "[::]:0".parse::<ListenAddresses>().unwrap().bind().unwrap();
    format!("0.0.0.0:{}", port(&v6[0])).parse::<ListenAddresses>().unwrap().bind().unwrap();
}

#[tokio::test]
async fn occupied_port_is_named() {
    let first = "127.0.0.1:0".parse::<ListenAddresses>().unwrap().bind().unwrap();
    let address = format!("127.0.0.1:{}", port(&first[0]));
    let error = address.parse::<ListenAddresses>().unwrap().bind().unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {address}: address already in use"));
}

#[tokio::test]
async fn stale_socket_is_replaced_live_one_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("maglevd.sock");
    drop(bind_unix(&path).unwrap());
    let living = AsyncListener::try_from(bind_unix(&path).unwrap()).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);

    let error = bind_unix(&path).unwrap_err().to_string();
    assert_eq!(error, format!("cannot listen on {}: another process listens there", path.display()));
    let (connected, accepted) = tokio::join!(UnixStream::connect(&path), living.accept());
    drop((connected.unwrap(), accepted.unwrap()));
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

#[tokio::test]
async fn regular_file_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("maglevd.sock");
    std::fs::write(&path, "precious").unwrap();
    let error = bind_unix(&path).unwrap_err().to_string();
    assert_eq!(error, format!("cannot listen on {}: the file exists and is not a socket", path.display()));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn excess_connection_evicts_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("maglevd.sock");
    let mut connections = accept(vec![bind_unix(&path).unwrap()], 2);
    let mut clients = Vec::new();
    let mut accepted = Vec::new();
    for _ in 0..3 {
        clients.push(UnixStream::connect(&path).await.unwrap());
        let connection = connections.next().await.unwrap();
        // The first one has a request.
        let call = accepted.is_empty().then(|| connection.guard.connection().call());
        accepted.push((connection, call));
    }
    let evicted: Vec<_> = accepted.iter().map(|(one, _)| one.guard.evicted().is_cancelled()).collect();
    assert_eq!(evicted, [false, true, false]);
    drop(accepted);
    assert_eq!(clients[0].read(&mut [0]).await.unwrap(), 0);
}
