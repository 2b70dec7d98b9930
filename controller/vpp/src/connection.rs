//! The task that owns the socket.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};

use crate::call::QueuedCall;
use crate::error::CloseReason;
use crate::frame::FrameSplitter;
use crate::in_flight::CallsInFlight;

/// Writes queued calls, several per write, and reads at the same time: VPP queues unread replies without a limit.
pub(crate) struct ConnectionTask<R, W> {
    reader: R,
    writer: W,
    splitter: FrameSplitter,
    calls: UnboundedReceiver<QueuedCall>,
    /// True while clients exist.
    open: bool,
    /// Bytes to write.
    out: Vec<u8>,
    flight: CallsInFlight,
    max_in_flight: usize,
    /// Time of the next check for expired calls, at the latest when the first is due.
    wake: Instant,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> ConnectionTask<R, W> {
    pub fn new(
        (reader, writer): (R, W),
        splitter: FrameSplitter,
        calls: UnboundedReceiver<QueuedCall>,
        flight: CallsInFlight,
        max_in_flight: usize,
    ) -> Self {
        let (out, wake) = (Vec::new(), Instant::now());
        Self { reader, writer, splitter, calls, open: true, out, flight, max_in_flight, wake }
    }

    /// Runs until the connection ends, and returns the reason.
    pub async fn run(mut self) -> CloseReason {
        let reason = loop {
            if !self.open && self.flight.len() == 0 {
                break CloseReason::ClientDropped;
            }
            if let Err(reason) = self.run_step().await {
                break reason;
            }
        };
        self.calls.close();
        while let Ok(call) = self.calls.try_recv() {
            self.flight.reject(call, &reason);
        }
        self.flight.abandon(&reason, Instant::now());
        reason
    }

    /// Waits for the first possible step and does it.
    async fn run_step(&mut self) -> Result<(), CloseReason> {
        // The order favours writes: VPP limits its input, but not its output.
        tokio::select! {
            biased;
            () = sleep_until(self.wake), if self.flight.len() > 0 => {
                self.wake = self.flight.expire(Instant::now())?;
                Ok(())
            }
            written = self.writer.write(&self.out), if !self.out.is_empty() => {
                self.out.drain(..written?);
                Ok(())
            }
            read = self.reader.read_buf(self.splitter.read_buffer()) => match read? {
                0 => Err(CloseReason::Eof),
                _ => self.receive(),
            },
            call = self.calls.recv(), if self.open && self.flight.len() < self.max_in_flight => {
                self.open = call.is_some();
                self.launch(call);
                Ok(())
            }
        }
    }

    fn receive(&mut self) -> Result<(), CloseReason> {
        let now = Instant::now();
        while let Some(payload) = self.splitter.next_payload()? {
            self.flight.receive(payload, &mut self.out, now)?;
        }
        Ok(())
    }

    /// Sends `first` and further queued calls, up to the limit of calls in flight.
    fn launch(&mut self, first: Option<QueuedCall>) {
        let now = Instant::now();
        let mut next = first;
        while let Some(call) = next {
            self.flight.launch(call, &mut self.out, now);
            let room = self.flight.len() < self.max_in_flight;
            next = if room { self.calls.try_recv().ok() } else { None };
        }
    }
}
