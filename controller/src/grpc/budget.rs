//! Memory budget of request bodies.
//!
//! A request may have 1 MiB, a connection 64 concurrent calls, and a listener 1,024 connections. Real requests have
//! some hundred bytes. These are free, and larger ones share one budget.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// Free bytes of each request.
const FREE_BYTES: usize = 4 << 10;

/// Budget of all requests together, beyond the free bytes.
const TOTAL_BYTES: usize = 32 << 20;

/// Bytes taken from the budget. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct BodyBudget(Arc<AtomicUsize>);

impl BodyBudget {
    /// Wraps `body` so that it fails with RESOURCE_EXHAUSTED once the budget is used up.
    #[must_use]
    pub fn limit(&self, body: Body) -> Body {
        Body::new(BudgetedBody { body, budget: self.clone(), seen: 0 })
    }

    fn take(&self, bytes: usize) -> bool {
        self.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= TOTAL_BYTES
    }
}

/// Body that returns its bytes to the budget on drop, when the request is complete or refused.
struct BudgetedBody {
    body: Body,
    budget: BodyBudget,
    seen: usize,
}

impl BudgetedBody {
    const fn taken(&self) -> usize {
        self.seen.saturating_sub(FREE_BYTES)
    }
}

impl hyper::body::Body for BudgetedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let before = self.taken();
            self.seen += frame.data_ref().map_or(0, Bytes::len);
            let more = self.taken() - before;
            if more > 0 && !self.budget.take(more) {
                let why = "the memory for requests is exhausted";
                return Poll::Ready(Some(Err(Status::resource_exhausted(why))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for BudgetedBody {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.taken(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn request(budget: &BodyBudget, length: usize) -> Body {
        budget.limit(Body::new(Full::new(Bytes::from(vec![0; length]))))
    }

    #[tokio::test]
    async fn large_bodies_take_and_return_budget() {
        let budget = BodyBudget::default();
        let mut held = Vec::new();
        for _ in 0..31 {
            let mut large = request(&budget, 1 << 20);
            large.frame().await.unwrap().unwrap();
            held.push(large);
        }
        let mut too_much = request(&budget, 2 << 20);
        let status = too_much.frame().await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        request(&budget, FREE_BYTES).frame().await.unwrap().unwrap();
        drop((held, too_much));
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
        request(&budget, 2 << 20).frame().await.unwrap().unwrap();
    }
}
