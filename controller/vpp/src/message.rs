//! The messages of VPP that a load balancer needs, as structs that encode and decode alike: a client uses one
//! direction, a simulator the other.
//!
//! Names, layouts and checksums are those of VPP 26.10.

use crate::wire::{Field, Malformed, Reader};

/// Declares structs whose fields are on the wire in the order given.
macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$about])* pub $field: $type,)* }

        impl $crate::wire::Field for $name {
            #[allow(unused_variables, reason = "some messages are their head alone")]
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            #[allow(unused_variables, reason = "some messages are their head alone")]
            fn get(from: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::wire::Malformed> {
                Ok(Self { $($field: $crate::wire::Field::get(from)?,)* })
            }
        }
    )*};
}

/// Gives structs their name and checksum in VPP's message table; `addressed` ones have a client index in their head.
macro_rules! messages {
    ($($type:ty = $name:literal, $crc:literal $(, addressed = $addressed:literal)?;)*) => {$(
        impl $crate::message::Message for $type {
            const NAME: &'static str = $name;
            const CRC: u32 = $crc;
            $(const ADDRESSED: bool = $addressed;)?
        }
    )*};
}

/// Names requests, their replies, and what tells those that kill VPP.
macro_rules! requests {
    ($($type:ty = $name:literal, $crc:literal => $reply:ty $(, hazard: $hazard:path)?;)*) => {$(
        messages! { $type = $name, $crc, addressed = true; }

        impl $crate::message::Request for $type {
            type Reply = $reply;
            $(
                fn hazard(&self) -> Option<&'static str> {
                    $hazard(self)
                }
            )?
        }
    )*};
}

/// Names dumps and their records.
macro_rules! dumps {
    ($($type:ty = $name:literal, $crc:literal => $details:ty;)*) => {$(
        messages! { $type = $name, $crc, addressed = true; }

        impl $crate::message::Dump for $type {
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

        impl $crate::message::Reply for $name {
            fn retval(&self) -> i32 {
                self.retval
            }
        }
    )*};
}

mod base;
mod lb;
mod route;
mod vip;

pub use base::*;
pub use lb::*;
pub use route::*;
pub use vip::*;

/// A message: what follows its head on the wire, and how VPP's message table names it.
pub trait Message: Field + Send + 'static {
    /// The name without its checksum.
    const NAME: &'static str;
    /// The checksum over the message's definition. VPP changes it whenever the layout changes.
    const CRC: u32;
    /// Whether the head has a client index. Requests have one, replies and details do not; the two messages of the
    /// handshake have it the other way round, as the client has no index yet.
    const ADDRESSED: bool = false;
}

/// A message that VPP answers with exactly one [`Reply`].
pub trait Request: Message {
    /// The answer.
    type Reply: Reply;

    /// Why this request must never be sent, if it is one of those known to kill VPP.
    fn hazard(&self) -> Option<&'static str> {
        None
    }
}

/// The answer to a [`Request`].
pub trait Reply: Message {
    /// What VPP's handler returned: 0, or a negative error number when it refused.
    fn retval(&self) -> i32;
}

/// A message that VPP answers with any number of details and no word at the end of them.
pub trait Dump: Message {
    /// One record of the answer.
    type Details: Message;
}

/// What stands between a message's number and its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The sender's slot in VPP, given at the handshake. VPP sends its answer to the client of that slot. 0 where the
    /// message has none.
    pub client_index: u32,
    /// Chosen by the client, echoed in every answer.
    pub context: u32,
}

impl Head {
    pub(crate) fn put<M: Message>(self, out: &mut Vec<u8>) {
        if M::ADDRESSED {
            self.client_index.put(out);
        }
        self.context.put(out);
    }

    pub(crate) fn get<M: Message>(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let client_index = if M::ADDRESSED { u32::get(from)? } else { 0 };
        Ok(Self { client_index, context: u32::get(from)? })
    }
}

/// A message as VPP's table knows it: name and checksum.
pub type Signature = (&'static str, u32);

/// The name of a message in VPP's table, e.g. `lb_flush_vip_1063f819`.
#[must_use]
pub fn table_name((name, crc): Signature) -> String {
    format!("{name}_{crc:08x}")
}

macro_rules! signatures {
    ($($type:ty),* $(,)?) => { &[$((<$type>::NAME, <$type>::CRC)),*] };
}

/// Every message that the client sends or understands. A VPP that lacks one of them is not used at all.
pub const NEEDED: &[Signature] = signatures![
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
