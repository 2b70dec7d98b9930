//! The handshake: it yields the client index, the message numbers and VPP's version.

use std::collections::{BTreeSet, HashMap};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::{CloseReason, Error, ProtocolViolation};
use crate::frame::{self, FrameSplitter};
use crate::message::{
    Message, MessageHeader, MessageTable, OPTIONAL_MESSAGES, REQUIRED_MESSAGES, RequestMessage,
    SOCKCLNT_CREATE_ID, SOCKCLNT_CREATE_REPLY_ID, ShowVersion, SockclntCreate, SockclntCreateReply,
    table_name,
};
use crate::observer::ApiObserver;
use crate::wire::FixedString;

/// Result of the handshake.
pub(crate) struct OpenSession<R, W> {
    pub stream: (R, W),
    pub splitter: FrameSplitter,
    /// Client index of the session.
    pub index: u32,
    pub ids: MessageIds,
    pub version: String,
}

/// Numbers that this VPP gives to the messages in [`REQUIRED_MESSAGES`] and [`OPTIONAL_MESSAGES`].
#[derive(Clone, Debug)]
pub(crate) struct MessageIds(HashMap<&'static str, u16>);

impl MessageIds {
    /// Looks the required messages up in VPP's table. Returns the missing ones second.
    fn find(table: &MessageTable) -> (Self, Vec<String>) {
        let rows: HashMap<&str, u16> = table.0.iter().map(|row| (row.name.0.as_str(), row.id)).collect();
        let mut ids = HashMap::new();
        let mut missing = BTreeSet::new();
        for signature in REQUIRED_MESSAGES {
            let name = table_name(*signature);
            match rows.get(name.as_str()) {
                Some(id) => _ = ids.insert(signature.0, *id),
                None => _ = missing.insert(name),
            }
        }
        for signature in OPTIONAL_MESSAGES {
            if let Some(id) = rows.get(table_name(*signature).as_str()) {
                ids.insert(signature.0, *id);
            }
        }
        (Self(ids), missing.into_iter().collect())
    }

    /// Returns the number of `M`, if this VPP has it.
    pub fn of<M: Message>(&self) -> Option<u16> {
        self.0.get(M::NAME).copied()
    }
}

/// Does the handshake. The caller sets the timeout.
pub(crate) async fn open<R, W>(
    stream: (R, W),
    name: &str,
    observer: &dyn ApiObserver,
) -> Result<OpenSession<R, W>, Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut handshake = HandshakeStream { stream, splitter: FrameSplitter::default(), observer };

    let create = SockclntCreate { name: FixedString(name.to_owned()) };
    let ids = (SOCKCLNT_CREATE_ID, SOCKCLNT_CREATE_REPLY_ID);
    let created: SockclntCreateReply =
        handshake.exchange(ids, MessageHeader::default(), &create).await.map_err(Error::Lost)?;
    if created.response != 0 {
        return Err(Error::refused(SockclntCreate::NAME, created.response));
    }

    let (ids, missing) = MessageIds::find(&created.table);
    let version = handshake.query_version(created.index, &ids).await.map_err(Error::Lost)?;
    if !created.table.0.iter().any(|row| row.name.0.starts_with("lb_")) {
        return Err(Error::NoPlugin { version });
    }
    if !missing.is_empty() {
        return Err(Error::Unsupported { missing, version });
    }
    let HandshakeStream { stream, splitter, .. } = handshake;
    Ok(OpenSession { stream, splitter, index: created.index, ids, version })
}

/// A stream with one request at a time.
struct HandshakeStream<'a, R, W> {
    stream: (R, W),
    splitter: FrameSplitter,
    observer: &'a dyn ApiObserver,
}

/// Reply that the handshake awaits. Without it, the observer receives a failure.
struct AwaitedReply<'a>(Option<&'static str>, &'a dyn ApiObserver);

impl AwaitedReply<'_> {
    fn arrived(mut self) {
        self.0.take().inspect(|name| self.1.received(name, true));
    }
}

impl Drop for AwaitedReply<'_> {
    fn drop(&mut self) {
        self.0.take().inspect(|name| self.1.received(name, false));
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> HandshakeStream<'_, R, W> {
    /// Requests the version. It comes first, so that an error about missing messages can name it.
    async fn query_version(&mut self, client_index: u32, ids: &MessageIds) -> Result<String, CloseReason> {
        let numbers = ids.of::<ShowVersion>().zip(ids.of::<<ShowVersion as RequestMessage>::Reply>());
        let Some(numbers) = numbers else { return Ok("of unknown version".to_owned()) };
        let head = MessageHeader { client_index, context: 1 };
        let reply: <ShowVersion as RequestMessage>::Reply =
            self.exchange(numbers, head, &ShowVersion {}).await?;
        Ok(reply.version.0)
    }

    /// Sends `request` and waits for its reply. Drops all other messages.
    async fn exchange<Q: Message, A: Message>(
        &mut self,
        (request_id, reply_id): (u16, u16),
        head: MessageHeader,
        request: &Q,
    ) -> Result<A, CloseReason> {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, request_id, head, request);
        let written = self.stream.1.write_all(&bytes).await;
        self.observer.sent(Q::NAME, written.is_ok());
        written?;
        let awaited = AwaitedReply(Some(A::NAME), self.observer);
        loop {
            while let Some(payload) = self.splitter.next_payload()? {
                if frame::id(payload) != Ok(reply_id) {
                    continue;
                }
                let (found, reply) = frame::decode::<A>(payload)
                    .map_err(|fault| ProtocolViolation::Malformed { message: Q::NAME, fault })?;
                if found.context == head.context {
                    awaited.arrived();
                    return Ok(reply);
                }
            }
            if self.stream.0.read_buf(self.splitter.read_buffer()).await? == 0 {
                return Err(CloseReason::Eof);
            }
        }
    }
}
