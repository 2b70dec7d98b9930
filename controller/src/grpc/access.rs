//! Authorization: one table of the role that each call requires, and the layer that enforces it on every call.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use maglev_core::config::Role;
use maglev_proto::v1::maglev_server::SERVICE_NAME;
use rustls::pki_types::UnixTime;
use tonic::body::Body;
use tonic::{Code, Request, Status};
use tower::{Layer, Service};

use super::MAX_REQUEST;
use super::answers::AnswerBudget;
use super::budget::BodyBudget;
use super::transport::ApiCaller;
use crate::access::{AccessControl, RoleGrant};

/// Role that each call requires. A call without an entry is refused.
///
/// The role for CheckConfig and SyncLbState depends on the request; see [`require_role`].
const CALLS: [(&str, Role); 23] = [
    ("CheckConfig", Role::View),
    ("DisableBackend", Role::Operate),
    ("EnableBackend", Role::Operate),
    ("ExplainBackend", Role::View),
    ("ExplainFrontend", Role::View),
    ("GetBackend", Role::View),
    ("GetFrontend", Role::View),
    ("GetHealthcheck", Role::View),
    ("GetLbCounters", Role::View),
    ("GetLbState", Role::View),
    ("GetVPPInfo", Role::View),
    ("GetVersion", Role::View),
    ("ListBackends", Role::View),
    ("ListFrontends", Role::View),
    ("ListHealthchecks", Role::View),
    ("ListOverrides", Role::View),
    ("PauseBackend", Role::Operate),
    ("ReloadConfig", Role::Admin),
    ("ResumeBackend", Role::Operate),
    ("SetFrontendPoolBackendWeight", Role::Operate),
    ("SyncLbState", Role::View),
    ("UnsetFrontendPoolBackendWeight", Role::Operate),
    ("WatchEvents", Role::View),
];

/// Call whose answer is a stream. All others have one message.
const STREAM: &str = "WatchEvents";

/// Services that need no role.
const OPEN_SERVICES: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// Kind of an answer.
#[derive(Clone, Copy)]
enum AnswerKind {
    /// One message, which is encoded and counted at once.
    Whole,
    /// Messages that are made as the client takes them.
    Stream,
}

/// Admitted call.
#[derive(Clone)]
struct AdmittedCall {
    call: &'static str,
    grant: RoleGrant,
    caller: ApiCaller,
    access: AccessControl,
}

/// Returns the caller's description, for the audit trail.
pub fn caller_name<T>(request: &Request<T>) -> String {
    request
        .extensions()
        .get::<ApiCaller>()
        .map_or_else(|| "somebody".into(), |caller| caller.name.to_string())
}

/// Requires `role` of the caller, for calls whose role depends on the request.
///
/// # Errors
/// PERMISSION_DENIED, which is logged and counted.
pub fn require_role<T>(request: &Request<T>, role: Role) -> Result<(), Status> {
    match request.extensions().get::<AdmittedCall>() {
        Some(admitted) => admitted.require_role(role),
        None => Err(Status::permission_denied("unknown caller")),
    }
}

impl AdmittedCall {
    fn require_role(&self, role: Role) -> Result<(), Status> {
        if self.grant.role >= Some(role) {
            return Ok(());
        }
        let Self { call, grant, caller, access } = self;
        access.refused(&caller.name, call, role, *grant);
        let (caller_name, has, source) = (&caller.name, grant.as_str(), grant.source);
        Err(Status::permission_denied(format!(
            "{call} requires the role {role}; {caller_name} has {has}, {source}: {}",
            source.remedy()
        )))
    }
}

/// Layer that admits or refuses each call.
#[derive(Clone)]
pub struct AuthLayer {
    access: AccessControl,
    budget: BodyBudget,
    answers: AnswerBudget,
}

impl AuthLayer {
    /// Enforces the policy that `access` has in force at the time of each call.
    #[must_use]
    pub fn new(access: AccessControl, answers: AnswerBudget) -> Self {
        for (call, _) in CALLS {
            access.register_method(call);
        }
        Self { access, budget: BodyBudget::default(), answers }
    }

    /// Attaches the [`AdmittedCall`] to the request, or returns the status to refuse it with.
    fn admit(&self, request: &mut http::Request<Body>) -> Result<AnswerKind, Status> {
        let path = request.uri().path().strip_prefix('/').unwrap_or_default();
        let Some(method) = path.strip_prefix(SERVICE_NAME).and_then(|rest| rest.strip_prefix('/')) else {
            return match OPEN_SERVICES.iter().any(|service| is_method_of(path, service)) {
                true => Ok(AnswerKind::Stream),
                false => Err(Status::unimplemented("unknown service")),
            };
        };
        let Some((call, role)) = CALLS.into_iter().find(|(call, _)| *call == method) else {
            return Err(Status::unimplemented(format!("unknown method {method:?}")));
        };
        let Some(mut caller) = request.extensions().get::<ApiCaller>().cloned() else {
            return Err(Status::permission_denied("unknown caller"));
        };
        let policy = self.access.policy();
        let grant = policy.grant(&caller.peer, UnixTime::now());
        if let Some(name) = policy.certificate_name(grant).and_then(|name| caller.peer.describe_by(name)) {
            // A certificate may have several names. The audit trail names the one that matched.
            caller.name = name.into();
            request.extensions_mut().insert(caller.clone());
        }
        let admitted = AdmittedCall { call, grant, caller, access: self.access.clone() };
        admitted.require_role(role)?;
        request.extensions_mut().insert(admitted);
        Ok(if call == STREAM { AnswerKind::Stream } else { AnswerKind::Whole })
    }
}

/// Returns true for a path of one method of `service`, and nothing besides.
fn is_method_of(path: &str, service: &str) -> bool {
    let method = path.strip_prefix(service).and_then(|rest| rest.strip_prefix('/'));
    method.is_some_and(|method| !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService { gate: self.clone(), inner }
    }
}

/// Service behind the authorization.
#[derive(Clone)]
pub struct AuthService<S> {
    gate: AuthLayer,
    inner: S,
}

impl<S> Service<http::Request<Body>> for AuthService<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let kind = match self.gate.admit(&mut request) {
            Ok(kind) => kind,
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        let connection = request.extensions().get::<ApiCaller>().map(|caller| Arc::clone(&caller.connection));
        let under_way =
            connection.map(|connection| (connection.call(), self.gate.answers.begin(&connection)));
        if let Some((_, hold)) = &under_way {
            request.extensions_mut().insert(hold.clone());
        }
        let answer = self.inner.call(request.map(|body| self.gate.budget.limit(body)));
        Box::pin(async move {
            let mut response = too_large(answer.await?);
            if let (AnswerKind::Whole, Some((_, hold))) = (kind, &under_way) {
                response = hold.clone().answer(response).await;
            }
            // The call lasts until its response body ends.
            Ok(response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _ = &under_way;
                    frame
                }))
            }))
        })
    }
}

/// Replaces the library's OUT_OF_RANGE for a large request; nothing else here returns that code.
fn too_large(response: http::Response<Body>) -> http::Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange => {
            let limit = MAX_REQUEST >> 20;
            Status::resource_exhausted(format!("requests are limited to {limit} MiB")).into_http()
        }
        _ => response,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use maglev_proto::DESCRIPTORS;
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// Returns each call's comment in the API's description.
    fn manual() -> BTreeMap<String, String> {
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        let file = files.into_iter().find(|file| file.package() == "maglev.v1").unwrap();
        let comments = file.source_code_info.unwrap().location;
        // Service 0 (field 6), its method of that number (field 2).
        let comment = |number: usize| {
            let path = [6, 0, 2, i32::try_from(number).unwrap()];
            comments.iter().find(|location| location.path == path).unwrap().leading_comments().to_owned()
        };
        let methods = file.service[0].method.iter().enumerate();
        methods.map(|(number, method)| (method.name().to_owned(), comment(number))).collect()
    }

    #[test]
    fn only_methods_of_open_services_need_no_role() {
        let is_open = |path| OPEN_SERVICES.iter().any(|service| is_method_of(path, service));
        for path in
            ["grpc.health.v1.Health/Check", "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"]
        {
            assert!(is_open(path), "{path}");
        }
        for path in [
            "",
            "grpc.health.v1.Health",
            "grpc.health.v1.Health/",
            "grpc.health.v1.Health//Check",
            "grpc.health.v1.Health/Check/",
            "grpc.health.v1.Health/../maglev.v1.Maglev/ReloadConfig",
            "grpc.health.v1.Health2/Check",
            "/grpc.health.v1.Health/Check",
            "maglev.v1.maglev/ReloadConfig",
            "maglev.v1.Maglev%2fReloadConfig",
            "maglev.v2.Maglev/ReloadConfig",
        ] {
            assert!(!is_open(path), "{path}");
        }
    }

    #[test]
    fn call_roles_match_the_proto() {
        let said = |comment: &str| match comment.replace('\n', "").split_once("Role: ") {
            None => Role::View,
            Some((_, role)) if role.starts_with("operate; view with") => Role::View,
            Some((_, role)) if role.starts_with("operate.") => Role::Operate,
            Some((_, role)) if role.starts_with("admin.") => Role::Admin,
            Some((_, role)) => panic!("{role}"),
        };
        let manual: BTreeMap<_, _> =
            manual().into_iter().map(|(name, comment)| (name, said(&comment))).collect();
        let table: BTreeMap<_, _> = CALLS.into_iter().map(|(call, role)| (call.to_owned(), role)).collect();
        assert_eq!(table, manual);
        assert_eq!(manual.values().filter(|role| **role == Role::Admin).count(), 1);
    }
}
