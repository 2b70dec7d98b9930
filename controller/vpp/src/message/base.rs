//! The handshake, liveness, and what VPP says of itself.

use super::Reply;
use crate::wire::{Field, Malformed, Name, Reader, Text, list};

/// The number of [`SockclntCreate`], the same in every VPP: it must be known before the table is.
pub const SOCKCLNT_CREATE_ID: u16 = 15;
/// The number of [`SockclntCreateReply`].
pub const SOCKCLNT_CREATE_REPLY_ID: u16 = 16;

fields! {
    /// Opens a session.
    SockclntCreate {
        /// How VPP's operator sees the client.
        name: Name<64>,
    }

    /// The client's slot, and the number of every message this VPP knows.
    SockclntCreateReply {
        /// 0 on success.
        response: i32,
        /// What to put into each request's [`super::Head::client_index`].
        index: u32,
        /// In no order.
        table: MessageTable,
    }

    /// One row of the message table.
    MessageTableEntry {
        /// The number on the wire.
        id: u16,
        /// Name and checksum, see [`super::table_name`].
        name: Name<64>,
    }

    /// Ends a session.
    SockclntDelete {
        /// The slot to free. Any but the client's own kills VPP later.
        index: u32,
    }

    /// The session has ended; VPP closes the socket next.
    SockclntDeleteReply {
        /// 1 on success.
        response: i32,
    }

    /// VPP asks whether the client is alive. Not seen on a socket so far, but cheap to answer.
    MemclntKeepalive {}

    /// Asks for a [`ControlPingReply`], which comes after the answers to all that was asked before.
    ControlPing {}

    /// Asks for VPP's version.
    ShowVersion {}

    /// Asks for VPP's threads.
    ShowThreads {}

    /// A thread of VPP.
    Thread {
        /// 0 is the main thread.
        id: u32,
        /// `vpp_main`, `vpp_wk_0`...
        name: Name<64>,
        /// Empty for the main thread, `workers` for those that forward packets.
        kind: Name<64>,
        /// As Linux numbers threads.
        pid: u32,
        /// The logical CPU it is pinned to.
        cpu_id: u32,
        /// The core of that CPU.
        core: u32,
        /// The socket of that CPU.
        cpu_socket: u32,
    }

    /// Runs a command of VPP's command line.
    CliInband {
        /// Without a newline at its end.
        command: Text,
    }

    /// What the command printed. A command that fails is no refused request: `output` says what is wrong.
    CliInbandReply {
        /// 0, or -1 when the command is unknown or failed.
        retval: i32,
        /// The text, or the error.
        output: Text,
    }
}

replies! {
    /// The client is alive.
    MemclntKeepaliveReply = "memclnt_keepalive_reply", 0xe8d4_e804 {}

    /// VPP is alive, and has handled all requests before the ping.
    ControlPingReply = "control_ping_reply", 0xf6b0_b8ca {
        /// The client's own.
        client_index: u32,
        /// VPP's process id: another one means that VPP has restarted.
        pid: u32,
    }

    /// What VPP was built from.
    ShowVersionReply = "show_version_reply", 0xc919_bde1 {
        /// `vpe`.
        program: Name<32>,
        /// e.g. `26.10-rc0~374-gb575ec2c56d`.
        version: Name<32>,
        /// ISO 8601, without a zone.
        build_date: Name<32>,
        /// Where it was compiled.
        build_directory: Name<256>,
    }

    /// VPP's threads.
    ShowThreadsReply = "show_threads_reply", 0xefd7_8e83 {
        /// The main thread first.
        threads: Threads,
    }
}

requests! {
    MemclntKeepalive = "memclnt_keepalive", 0x5107_7d14 => MemclntKeepaliveReply;
    ControlPing = "control_ping", 0x5107_7d14 => ControlPingReply;
    ShowVersion = "show_version", 0x5107_7d14 => ShowVersionReply;
    ShowThreads = "show_threads", 0x5107_7d14 => ShowThreadsReply;
    CliInband = "cli_inband", 0xf837_7302 => CliInbandReply;
}

messages! {
    SockclntCreate = "sockclnt_create", 0x455f_b9c4;
    SockclntCreateReply = "sockclnt_create_reply", 0x3516_6268, addressed = true;
    SockclntDelete = "sockclnt_delete", 0x8ac7_6db6, addressed = true;
    SockclntDeleteReply = "sockclnt_delete_reply", 0x8f38_b1ee;
    CliInbandReply = "cli_inband_reply", 0x0587_9051;
}

/// A command that fails is no refused request: its output is wanted all the more.
impl Reply for CliInbandReply {
    fn retval(&self) -> i32 {
        0
    }
}

/// The rows of the message table: a count of two bytes, then the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageTable(pub Vec<MessageTableEntry>);

impl Field for MessageTable {
    fn put(&self, out: &mut Vec<u8>) {
        let rows = &self.0[..self.0.len().min(usize::from(u16::MAX))];
        (rows.len() as u16).put(out);
        rows.iter().for_each(|row| row.put(out));
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = u16::get(from)?;
        list(from, count.into()).map(Self)
    }
}

/// A count of four bytes, then the threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threads(pub Vec<Thread>);

impl Field for Threads {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX).put(out);
        self.0.iter().for_each(|thread| thread.put(out));
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = u32::get(from)?;
        list(from, count as usize).map(Self)
    }
}

impl CliInband {
    /// The command `text`, e.g. `show lb vips verbose`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { command: Text(text.to_owned()) }
    }
}
