//! Lists, each encoded once for all who wait for it.

use bytes::{BufMut, Bytes};
use maglev_core::view::View;
use prost::Message;
use tokio::task::spawn_blocking;
use tonic::{Response, Status};

use super::answers::EncodedAnswer;
use super::status::shutting_down;
use crate::coalesced::CoalescedWork;
use crate::handle::{Handle, ShuttingDown};

/// Length of a message's prefix: a compression flag and the message's length.
const PREFIX: usize = 5;

/// Encoded answer of one list.
#[derive(Debug, Default)]
pub struct SharedList(CoalescedWork<Result<Bytes, Status>>);

impl SharedList {
    /// Returns an answer that `build` makes of a view no older than this call. Conversion and encoding run off the worker
    /// threads.
    ///
    /// # Errors
    /// That of `build`, and UNAVAILABLE during shutdown.
    pub async fn answer<M: Message + Default + 'static>(
        &self,
        handle: &Handle,
        build: impl FnOnce(&View, &Handle) -> Result<M, Status> + Send + 'static,
    ) -> Result<Response<M>, Status> {
        let handle = handle.clone();
        let work = || async move {
            let snapshot = handle.snapshot().await.map_err(shutting_down)?;
            let encoded = spawn_blocking(move || build(&snapshot.view(), &handle).and_then(|m| encode(&m)));
            encoded.await.map_err(|error| Status::internal(format!("cannot encode the list: {error}")))?
        };
        let encoded = self.0.run(work).await.ok_or(ShuttingDown).map_err(shutting_down)??;
        let mut response = Response::new(M::default());
        response.extensions_mut().insert(EncodedAnswer(encoded));
        Ok(response)
    }
}

/// Encodes a message with its prefix.
fn encode(message: &impl Message) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    let prefix = u32::try_from(length).map_err(|_| Status::resource_exhausted("the list exceeds 4 GiB"))?;
    let mut bytes = Vec::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    bytes.put_u32(prefix);
    message.encode(&mut bytes).map_err(|error| Status::internal(error.to_string()))?;
    Ok(bytes.into())
}
