//! Faults that a test injects into the simulator.

use std::time::Duration;

/// The injected faults. Set them with [`super::VppSimulator::set_faults`].
#[derive(Clone, Debug, Default)]
pub struct InjectedFaults {
    /// Delay of each reply.
    pub delay: Duration,
    /// VPP reads and answers nothing, as a stopped process. It handles the pending messages afterwards.
    pub hang: bool,
    /// Connections are accepted and read, and get no reply.
    pub drop_replies: bool,
    /// Connections wait in the backlog of the listening socket.
    pub pause_accept: bool,
    /// Number of messages after which the connection closes. The last one is handled without a reply.
    pub drop_after: Option<usize>,
    /// Requests that are rejected unread.
    pub rejections: Vec<RequestRejection>,
    /// Names of messages, without checksum, that the message table lacks.
    pub omitted_messages: Vec<&'static str>,
    /// Names of messages, without checksum, that the message table lists with another checksum.
    pub wrong_crc: Vec<&'static str>,
    /// The stats segment always shows a change of layout in progress.
    pub stats_always_changing: bool,
    /// Size in bytes to which the stats segment is truncated.
    pub stats_size: Option<u64>,
    /// Another size of VPP's main heap.
    pub heap: Option<HeapSize>,
    /// Version that VPP reports.
    pub version: Option<String>,
    /// Corruption of the next reply.
    pub corrupt_reply: Option<ReplyCorruption>,
}

/// Size of VPP's main heap, and its free part, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct HeapSize {
    /// The whole heap.
    pub total: u64,
    /// Its free part.
    pub free: u64,
}

impl Default for HeapSize {
    /// Returns the size that VPP has by default.
    fn default() -> Self {
        Self { total: 1 << 30, free: (1 << 30) - (32 << 20) }
    }
}

/// A rejection of requests.
#[derive(Clone, Debug)]
pub struct RequestRejection {
    /// Name of the request, without checksum.
    pub name: &'static str,
    /// Return value of the reply.
    pub retval: i32,
    /// Number of requests to reject.
    pub times: usize,
}

/// A corruption of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyCorruption {
    /// Its context matches no request.
    WrongContext,
    /// It is of another type than the request expects.
    WrongType,
    /// It is cut short.
    Truncated,
    /// It announces more bytes than a client accepts.
    Oversized,
    /// It is not sent.
    Missing,
    /// A message of unknown type precedes it.
    PrecededByUnknown,
}

impl InjectedFaults {
    /// Rejects the next `times` requests of `name`.
    pub fn reject(&mut self, name: &'static str, retval: i32, times: usize) {
        self.rejections.push(RequestRejection { name, retval, times });
    }

    /// Returns the return value for `name` if it is rejected this time.
    pub(super) fn take_rejection(&mut self, name: &str) -> Option<i32> {
        let rejection =
            self.rejections.iter_mut().find(|rejection| rejection.name == name && rejection.times > 0)?;
        rejection.times -= 1;
        Some(rejection.retval)
    }
}

/// Corrupts `frame`.
pub(super) fn corrupt(how: ReplyCorruption, frame: &mut Vec<u8>) {
    const ID: usize = 16;
    const CONTEXT: usize = 18;
    match how {
        ReplyCorruption::WrongContext => frame[CONTEXT] ^= 0x55,
        ReplyCorruption::WrongType => frame[ID + 1] ^= 1,
        ReplyCorruption::Truncated => {
            frame.truncate(CONTEXT + 4);
            let length = (frame.len() - ID) as u32;
            frame[8..12].copy_from_slice(&length.to_be_bytes());
        }
        ReplyCorruption::Oversized => frame[8..12].fill(0x7f),
        ReplyCorruption::Missing => frame.clear(),
        ReplyCorruption::PrecededByUnknown => {
            let mut event = frame.clone();
            event[ID..CONTEXT].fill(0xff);
            event[CONTEXT] ^= 0x55;
            frame.splice(..0, event);
        }
    }
}
