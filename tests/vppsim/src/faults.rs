//! What a test may make the simulator do wrong.

use std::time::Duration;

/// The faults in force. Set them with [`super::Sim::faults`].
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Each answer comes so late.
    pub delay: Duration,
    /// Nothing is read or answered, as by a stopped process. What was sent meanwhile is handled afterwards.
    pub hang: bool,
    /// Connections are accepted and read, and never answered.
    pub mute: bool,
    /// Connections wait in the listening socket's queue.
    pub pause_accept: bool,
    /// The connection is dropped after so many more messages, the last of which is handled and not answered.
    pub drop_after: Option<usize>,
    /// Requests that are refused without being looked at.
    pub refusals: Vec<Refusal>,
    /// Messages by name, without checksum, that the table lacks.
    pub omit: Vec<&'static str>,
    /// Messages by name, without checksum, that the table has with another checksum.
    pub wrong_crc: Vec<&'static str>,
    /// VPP is always about to change the layout of its stats segment.
    pub stats_restless: bool,
    /// The stats segment ends after so many bytes.
    pub stats_size: Option<u64>,
    /// What VPP calls its version.
    pub version: Option<String>,
    /// What is wrong with the next answer.
    pub spoil: Option<Spoil>,
}

/// Refuses a request.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The request's name, without checksum.
    pub name: &'static str,
    /// What is answered.
    pub retval: i32,
    /// How often.
    pub times: usize,
}

/// Something wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    /// It answers nobody's question.
    Context,
    /// It is of another kind than the question.
    Kind,
    /// It ends in the middle.
    Short,
    /// It announces more bytes than anybody would read.
    Giant,
    /// It does not come.
    Lost,
    /// It comes with a message of no known kind before it.
    Preceded,
}

impl Faults {
    /// Refuses the next `times` requests of `name`.
    pub fn refuse(&mut self, name: &'static str, retval: i32, times: usize) {
        self.refusals.push(Refusal { name, retval, times });
    }

    /// The return value that `name` is refused with this time.
    pub(super) fn refusal(&mut self, name: &str) -> Option<i32> {
        let refusal = self.refusals.iter_mut().find(|refusal| refusal.name == name && refusal.times > 0)?;
        refusal.times -= 1;
        Some(refusal.retval)
    }
}

/// Applies `spoil` to `frame`.
pub(super) fn spoil(spoil: Spoil, frame: &mut Vec<u8>) {
    const ID: usize = 16;
    const CONTEXT: usize = 18;
    match spoil {
        Spoil::Context => frame[CONTEXT] ^= 0x55,
        Spoil::Kind => frame[ID + 1] ^= 1,
        Spoil::Short => {
            frame.truncate(CONTEXT + 4);
            let length = (frame.len() - ID) as u32;
            frame[8..12].copy_from_slice(&length.to_be_bytes());
        }
        Spoil::Giant => frame[8..12].fill(0x7f),
        Spoil::Lost => frame.clear(),
        Spoil::Preceded => {
            let mut event = frame.clone();
            event[ID..CONTEXT].fill(0xff);
            event[CONTEXT] ^= 0x55;
            frame.splice(..0, event);
        }
    }
}
