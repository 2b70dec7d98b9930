//! VPP's messages, as structs that encode and decode: the client uses one direction, a simulator the other.
//!
//! Names, layouts and checksums are those of VPP 26.10.

use crate::wire::{MalformedMessage, WireField, WireReader};

/// Declares structs with their fields in wire order.
macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$about])* pub $field: $type,)* }

        impl $crate::wire::WireField for $name {
            #[allow(unused_variables, reason = "some messages are their head alone")]
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            #[allow(unused_variables, reason = "some messages are their head alone")]
            fn get(from: &mut $crate::wire::WireReader<'_>) -> Result<Self, $crate::wire::MalformedMessage> {
                Ok(Self { $($field: $crate::wire::WireField::get(from)?,)* })
            }
        }
    )*};
}

/// Gives structs their name and checksum in VPP's message table. `addressed` ones have a client index in their head.
macro_rules! messages {
    ($($type:ty = $name:literal, $crc:literal $(, addressed = $addressed:literal)?;)*) => {$(
        impl $crate::message::Message for $type {
            const NAME: &'static str = $name;
            const CRC: u32 = $crc;
            $(const ADDRESSED: bool = $addressed;)?
        }
    )*};
}

/// Pairs requests with their replies, and with a check of the client's bounds.
macro_rules! requests {
    ($($type:ty = $name:literal, $crc:literal => $reply:ty $(, hazard: $hazard:path)?;)*) => {$(
        messages! { $type = $name, $crc, addressed = true; }

        impl $crate::message::RequestMessage for $type {
            type Reply = $reply;
            $(
                fn hazard(&self) -> Option<&'static str> {
                    $hazard(self)
                }
            )?
        }
    )*};
}

/// Pairs dumps with their records.
macro_rules! dumps {
    ($($type:ty = $name:literal, $crc:literal => $details:ty;)*) => {$(
        messages! { $type = $name, $crc, addressed = true; }

        impl $crate::message::DumpMessage for $type {
            type Details = $details;
        }
    )*};
}

/// Declares replies, which begin with VPP's return value.
macro_rules! replies {
    ($($(#[$doc:meta])* $name:ident = $wire:literal, $crc:literal {
        $($(#[$about:meta])* $field:ident: $type:ty,)*
    })*) => {$(
        fields! {
            $(#[$doc])*
            $name {
                /// 0, or a negative error number.
                retval: i32,
                $($(#[$about])* $field: $type,)*
            }
        }

        messages! { $name = $wire, $crc; }

        impl $crate::message::ReplyMessage for $name {
            fn retval(&self) -> i32 {
                self.retval
            }
        }
    )*};
}

mod base;
mod interface;
mod lb;
mod route;
mod vip;

pub use base::*;
pub use interface::*;
pub use lb::*;
pub use route::*;
pub use vip::*;

/// A message: its body on the wire, and its name in VPP's message table.
pub trait Message: WireField + Send + 'static {
    /// Name without the checksum.
    const NAME: &'static str;
    /// Checksum of the message's definition. VPP changes it with every change of the layout.
    const CRC: u32;
    /// True if the head has a client index. Requests have one, replies and details do not. The handshake's two messages are the
    /// other way round, because the client has no index yet.
    const ADDRESSED: bool = false;
}

/// A message that VPP answers with exactly one [`ReplyMessage`].
pub trait RequestMessage: Message {
    /// Type of the reply.
    type Reply: ReplyMessage;

    /// Returns the property of the request that is out of bounds, if it has one. VPP does not check it.
    fn hazard(&self) -> Option<&'static str> {
        None
    }
}

/// The reply to a [`RequestMessage`].
pub trait ReplyMessage: Message {
    /// Returns the result of VPP's handler: 0, or a negative error number.
    fn retval(&self) -> i32;
}

/// A message that VPP answers with any number of details, without an end marker.
pub trait DumpMessage: Message {
    /// Type of the records.
    type Details: Message;
}

/// The fields between a message's number and its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageHeader {
    /// Index of the client, from the handshake. VPP sends the reply to this client. 0 if the message has none.
    pub client_index: u32,
    /// Number chosen by the client. VPP echoes it in every reply.
    pub context: u32,
}

impl MessageHeader {
    pub(crate) fn put<M: Message>(self, out: &mut Vec<u8>) {
        if M::ADDRESSED {
            self.client_index.put(out);
        }
        self.context.put(out);
    }

    pub(crate) fn get<M: Message>(from: &mut WireReader<'_>) -> Result<Self, MalformedMessage> {
        let client_index = if M::ADDRESSED { u32::get(from)? } else { 0 };
        Ok(Self { client_index, context: u32::get(from)? })
    }
}

/// Name and checksum of a message in VPP's table.
pub type MessageSignature = (&'static str, u32);

/// Returns the name of a message in VPP's table, such as `lb_flush_vip_1063f819`.
#[must_use]
pub fn table_name((name, crc): MessageSignature) -> String {
    format!("{name}_{crc:08x}")
}

macro_rules! signatures {
    ($($type:ty),* $(,)?) => { &[$((<$type>::NAME, <$type>::CRC)),*] };
}

/// All messages that the client sends or understands. A VPP that lacks one is unsupported.
pub const REQUIRED_MESSAGES: &[MessageSignature] = signatures![
    SockclntCreate,
    SockclntCreateReply,
    MemclntKeepalive,
    MemclntKeepaliveReply,
    ControlPing,
    ControlPingReply,
    ShowVersion,
    ShowVersionReply,
    ShowThreads,
    ShowThreadsReply,
    CliInband,
    CliInbandReply,
    LbConf,
    LbConfReply,
    LbConfGet,
    LbConfGetReply,
    LbAddDelVipV2,
    LbAddDelVipV2Reply,
    LbAddDelAsV2,
    LbAddDelAsV2Reply,
    LbAsSetWeight,
    LbAsSetWeightReply,
    LbFlushVip,
    LbFlushVipReply,
    LbVipDump,
    LbVipDetails,
    LbAsV2Dump,
    LbAsV2Details,
    IpRouteLookupV2,
    IpRouteLookupV2Reply,
];

/// Messages that the client sends to a VPP that has them. Without them, [`crate::VppClient`] returns
/// [`crate::Error::Unsupported`].
pub const OPTIONAL_MESSAGES: &[MessageSignature] = signatures![SwInterfaceDump, SwInterfaceDetails];
