//! Each role against each call.

use std::net::SocketAddr;

use maglev_lab::maglevd::MaglevdSetup;
use maglev_lab::metrics::Scrape;
use maglev_lab::servers;
use maglev_lab::test_dir::TestDir;
use maglev_proto::DESCRIPTORS;
use maglev_proto::v1::maglev_client::MaglevClient;
use maglev_proto::v1::{CheckConfigRequest, ReloadConfigRequest, SyncLbStateRequest};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::{ApiFixture, TlsFiles, config};

const ROLES: [&str; 3] = ["view", "operate", "admin"];

/// Calls that need more than `view`, and the role they need.
const ELEVATED_CALLS: [(&str, &str); 8] = [
    ("DisableBackend", "operate"),
    ("EnableBackend", "operate"),
    ("PauseBackend", "operate"),
    ("ReloadConfig", "admin"),
    ("ResumeBackend", "operate"),
    ("SetFrontendPoolBackendWeight", "operate"),
    ("SyncLbState", "operate"),
    ("UnsetFrontendPoolBackendWeight", "operate"),
];

/// Returns every call in the API's descriptors.
fn calls() -> Vec<String> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let services = files.iter().flat_map(|file| &file.service);
    services.flat_map(|service| &service.method).map(|method| method.name().to_owned()).collect()
}

/// Makes a call with an empty request and reads at most one reply.
async fn call(channel: &Channel, call: &str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_maybe_shared(format!("/maglev.v1.Maglev/{call}")).unwrap();
    let codec = ProstCodec::<(), ()>::default();
    let mut answer = client.server_streaming(Request::new(()), path, codec).await?.into_inner();
    answer.message().await.map(drop)
}

#[test]
fn each_role_may_make_only_its_calls() {
    let files = TlsFiles::new();
    let rules = ROLES.map(|role| format!("{{ certificate: {role}.example.org, role: {role} }}")).join(", ");
    let fixture = ApiFixture::new(files.api(&rules));
    assert_eq!(calls().len(), 23);
    for role in ROLES {
        let identity = files.authority.with_names(&[&format!("{role}.example.org")], "0a");
        fixture.maglevd.wait(async {
            let channel = files.connect(fixture.address, Some(&identity)).await.unwrap();
            for name in calls() {
                let takes =
                    ELEVATED_CALLS.iter().find(|(call, _)| *call == name).map_or("view", |(_, role)| role);
                let rank = |role| ROLES.iter().position(|known| *known == role);
                let refused = match call(&channel, &name).await {
                    Err(status) if status.code() == Code::PermissionDenied => {
                        Some(status.message().to_owned())
                    }
                    _ => None,
                };
                let index = rank(role).unwrap();
                let expected = (rank(role) < rank(takes)).then(|| {
                    format!(
                        "{name} requires the role {takes}; {role}.example.org (certificate 0a, 127.0.0.1) has {role}, \
                         by maglev.api.roles[{index}]: become root, or add a rule to maglev.api.roles"
                    )
                });
                assert_eq!(refused, expected, "{role} {name}");
            }
        });
    }
}

#[test]
fn dry_run_sync_needs_only_view() {
    let files = TlsFiles::new();
    let fixture = ApiFixture::new(files.api("{ certificate: view.example.org, role: view }"));
    let identity = files.authority.valid("view.example.org");
    fixture.maglevd.wait(async {
        let mut client = MaglevClient::new(files.connect(fixture.address, Some(&identity)).await.unwrap());
        let dry = client.sync_lb_state(SyncLbStateRequest { dry_run: true, fresh: false }).await.unwrap_err();
        assert_eq!(dry.code(), Code::Unavailable, "{dry}");
        let wet =
            client.sync_lb_state(SyncLbStateRequest { dry_run: false, fresh: false }).await.unwrap_err();
        assert_eq!(wet.code(), Code::PermissionDenied, "{wet}");
    });
}

#[test]
fn unknown_method_is_unimplemented() {
    let fixture = ApiFixture::new("{}");
    fixture.maglevd.wait(async {
        let uri = format!("http://{}", fixture.address);
        let channel = Channel::from_shared(uri).unwrap().connect().await.unwrap();
        for name in ["Nonsense", "getVersion", "GetVersion/"] {
            assert_eq!(call(&channel, name).await.unwrap_err().code(), Code::Unimplemented, "{name}");
        }
    });
}

#[test]
fn refusals_are_counted_and_logs_rate_limited() {
    let ip = servers::loopback_address();
    let (address, metrics) = (SocketAddr::new(ip, 9090), SocketAddr::new(ip, 9091));
    let dir = TestDir::new();
    let setup = MaglevdSetup::new(&dir, &config("{ roles: [{ user: 4000000, role: view }] }"));
    let maglevd = setup.flag("--metrics-addr", metrics).flag("--grpc-addr", address).start();
    let position = maglevd.process.line_count();
    let refused = 200;
    maglevd.wait(async {
        let uri = format!("http://{address}");
        let mut client = MaglevClient::connect(uri).await.unwrap();
        for _ in 0..refused {
            let status = client.reload_config(ReloadConfigRequest::default()).await.unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied);
        }
        client.check_config(CheckConfigRequest::default()).await.unwrap();
    });
    let line = maglevd.process.line(position, "call refused");
    for word in ["WARN", "ReloadConfig", "takes=\"admin\"", "has=\"view\"", "127.0.0.1"] {
        assert!(line.contains(word), "{word} in {line}");
    }
    let reported =
        maglevd.process.lines(position).iter().filter(|line| line.contains("call refused")).count();
    assert!(reported < refused, "{reported}");
    let scrape = Scrape::fetch(metrics);
    assert_eq!(scrape.value("maglev_api_refused_total", &["method=\"ReloadConfig\""]), 200.0);
    assert_eq!(scrape.value("maglev_api_refused_total", &["method=\"PauseBackend\""]), 0.0);
}
