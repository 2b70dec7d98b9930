//! The handshake, liveness checks, version and threads of VPP, and its command line.

use super::ReplyMessage;
use crate::wire::{FixedString, MalformedMessage, VarString, WireField, WireReader, list};

/// Number of [`SockclntCreate`]. It is the same in every VPP, because the client needs it before the table.
pub const SOCKCLNT_CREATE_ID: u16 = 15;
/// Number of [`SockclntCreateReply`].
pub const SOCKCLNT_CREATE_REPLY_ID: u16 = 16;

fields! {
    /// Opens a session.
    SockclntCreate {
        /// Name of the client in VPP's output.
        name: FixedString<64>,
    }

    /// Index of the client, and the numbers of all messages of this VPP.
    SockclntCreateReply {
        /// 0 on success.
        response: i32,
        /// Value for [`super::MessageHeader::client_index`] of each request.
        index: u32,
        /// Numbers of all messages, unordered.
        table: MessageTable,
    }

    /// One row of the message table.
    MessageTableEntry {
        /// Number on the wire.
        id: u16,
        /// Name and checksum, see [`super::table_name`].
        name: FixedString<64>,
    }

    /// Ends a session.
    SockclntDelete {
        /// Index of the client. Always the client's own.
        index: u32,
    }

    /// The session has ended. VPP closes the socket next.
    SockclntDeleteReply {
        /// 1 on success.
        response: i32,
    }

    /// VPP's liveness check of the client. VPP was never seen to send it over a socket.
    MemclntKeepalive {}

    /// Requests a [`ControlPingReply`], which follows the replies to all earlier requests.
    ControlPing {}

    /// Requests VPP's version.
    ShowVersion {}

    /// Requests VPP's threads.
    ShowThreads {}

    /// A thread of VPP.
    VppThread {
        /// 0 is the main thread.
        id: u32,
        /// `vpp_main`, `vpp_wk_0`...
        name: FixedString<64>,
        /// Empty for the main thread, `workers` for those that forward packets.
        kind: FixedString<64>,
        /// Thread id of Linux.
        pid: u32,
        /// Logical CPU to which it is pinned.
        cpu_id: u32,
        /// Core of this CPU.
        core: u32,
        /// Socket of this CPU.
        cpu_socket: u32,
    }

    /// Runs a command of VPP's command line.
    CliInband {
        /// The command, without a newline.
        command: VarString,
    }

    /// Output of the command. A failed command is not an error of the request: `output` has the reason.
    CliInbandReply {
        /// 0, or -1 for a command that is unknown or failed.
        retval: i32,
        /// The output, or the error.
        output: VarString,
    }
}

replies! {
    /// The client is alive.
    MemclntKeepaliveReply = "memclnt_keepalive_reply", 0xe8d4_e804 {}

    /// Proof that VPP is alive and has handled all requests before the ping.
    ControlPingReply = "control_ping_reply", 0xf6b0_b8ca {
        /// Index of the client.
        client_index: u32,
        /// VPP's process id. It changes when VPP restarts.
        pid: u32,
    }

    /// VPP's version and build.
    ShowVersionReply = "show_version_reply", 0xc919_bde1 {
        /// `vpe`.
        program: FixedString<32>,
        /// e.g. `26.10-rc0~374-gb575ec2c56d`.
        version: FixedString<32>,
        /// ISO 8601, without a zone.
        build_date: FixedString<32>,
        /// Directory of the build.
        build_directory: FixedString<256>,
    }

    /// VPP's threads.
    ShowThreadsReply = "show_threads_reply", 0xefd7_8e83 {
        /// The main thread first.
        threads: ThreadList,
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

/// A failed command is not an error of the request, because callers need its output.
impl ReplyMessage for CliInbandReply {
    fn retval(&self) -> i32 {
        0
    }
}

/// Message table: a count of two bytes, then the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageTable(pub Vec<MessageTableEntry>);

impl WireField for MessageTable {
    fn put(&self, out: &mut Vec<u8>) {
        let rows = &self.0[..self.0.len().min(usize::from(u16::MAX))];
        (rows.len() as u16).put(out);
        rows.iter().for_each(|row| row.put(out));
    }

    fn get(from: &mut WireReader<'_>) -> Result<Self, MalformedMessage> {
        let count = u16::get(from)?;
        list(from, count.into()).map(Self)
    }
}

/// Thread list: a count of four bytes, then the items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadList(pub Vec<VppThread>);

impl WireField for ThreadList {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX).put(out);
        self.0.iter().for_each(|thread| thread.put(out));
    }

    fn get(from: &mut WireReader<'_>) -> Result<Self, MalformedMessage> {
        let count = u32::get(from)?;
        list(from, count as usize).map(Self)
    }
}

impl CliInband {
    /// Creates the request for the command `text`, such as `show lb vips verbose`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { command: VarString(text.to_owned()) }
    }
}
