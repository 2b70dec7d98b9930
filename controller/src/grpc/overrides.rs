//! Calls that override the configuration.

use maglev_core::health::BackendAction;
use maglev_core::state::{OperateError, OperatorCommand, Requester};
use maglev_proto::v1::{Backend, Frontend, OverrideMetadata};
use tonic::Status;

use super::convert;
use super::status::shutting_down;
use crate::handle::{Handle, NamedItem};

/// Returns the requester, with the reason and lifetime of the override.
///
/// # Errors
/// Invalid lifetime.
pub fn requester(who: String, metadata: Option<OverrideMetadata>) -> Result<Requester, Status> {
    let OverrideMetadata { reason, lifetime } = metadata.unwrap_or_default();
    let lifetime = lifetime.map(|lifetime| {
        lifetime
            .try_into()
            .map_err(|_| Status::invalid_argument("lifetime: 1 second to 365 days are allowed"))
    });
    Ok(Requester { who, reason, lifetime: lifetime.transpose()? })
}

/// Applies `action` to a backend. Returns the resulting backend, if it is still configured, and the persist error.
///
/// # Errors
/// The core rejected the action.
pub async fn backend(
    handle: &Handle,
    name: &str,
    action: BackendAction,
    requester: Requester,
) -> Result<(Option<Backend>, String), Status> {
    let persist_error =
        operate(handle, OperatorCommand::Backend { name: name.into(), action }, requester).await?;
    let view = handle.view_of(&NamedItem::Backend(name.into())).await.map_err(shutting_down)?;
    let found = view.backends.iter().find(|backend| *backend.name == *name);
    let found = found.map(|found| convert::backend(found, &convert::rejections(&view.prober), &view));
    Ok((found, persist_error))
}

/// Sets or unsets the weight of a pool member. Returns the resulting frontend, if it is still configured, and the
/// persist error.
///
/// # Errors
/// The core rejected the weight.
pub async fn weight(
    handle: &Handle,
    path: [String; 3],
    weight: Option<u32>,
    requester: Requester,
) -> Result<(Option<Frontend>, String), Status> {
    // A value beyond one byte exceeds the bound as well.
    let weight = weight.map(|weight| u8::try_from(weight).unwrap_or(u8::MAX));
    let [frontend, pool, backend] = path.map(Into::into);
    let name = std::sync::Arc::clone(&frontend);
    let persist_error =
        operate(handle, OperatorCommand::Weight { frontend, pool, backend, weight }, requester).await?;
    let view = handle.view_of(&NamedItem::Frontend(name.to_string())).await.map_err(shutting_down)?;
    let found = view.frontends.iter().find(|frontend| frontend.name == name);
    Ok((found.map(|found| convert::frontend(found, &view.config)), persist_error))
}

async fn operate(handle: &Handle, command: OperatorCommand, requester: Requester) -> Result<String, Status> {
    handle.operate(command, requester).await.map_err(shutting_down)?.map_err(|error| match error {
        OperateError::NotFound(why) => Status::not_found(why),
        OperateError::Invalid(why) => Status::invalid_argument(why),
        OperateError::Rejected(why) => Status::failed_precondition(why),
    })
}
