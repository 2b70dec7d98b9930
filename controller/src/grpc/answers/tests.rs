//! The budget of answers, by its counts.

use http_body_util::Full;
use tokio::time::advance;

use super::*;
use crate::connection_limit::{ConnectionGuard, ConnectionLimiter};

const MIB: usize = 1 << 20;

/// Connection of a user, with the answers that it does not take.
struct Client {
    guard: ConnectionGuard,
    answers: Vec<http::Response<Body>>,
}

impl Client {
    fn of_user(uid: u32) -> Self {
        let guard = ConnectionLimiter::new(1).take(ConnectionOwner::User(uid));
        Self { guard, answers: Vec::new() }
    }

    /// Makes a call whose answer is `body`. Returns the status, if it is an error.
    async fn call(&mut self, budget: &AnswerBudget, body: &Bytes) -> Option<Status> {
        let mut response = http::Response::new(Body::new(Full::new(Bytes::new())));
        response.extensions_mut().insert(EncodedAnswer(body.clone()));
        let answer = budget.begin(self.guard.connection()).answer(response).await;
        let status = Status::from_header_map(answer.headers());
        self.answers.push(answer);
        status
    }

    fn is_evicted(&self) -> bool {
        self.guard.evicted().is_cancelled()
    }
}

fn body(length: usize) -> Bytes {
    Bytes::from(vec![0; length])
}

#[tokio::test]
async fn flood_of_answers_ends_its_own_connections() {
    let budget = AnswerBudget::default();
    let mut other = Client::of_user(2);
    assert!(other.call(&budget, &body(MIB)).await.is_none());
    let mut flood = Vec::new();
    for _ in 0..200 {
        let mut client = Client::of_user(1);
        assert!(client.call(&budget, &body(MIB)).await.is_none());
        flood.push(client);
        let held = budget.lock();
        assert!(held.answer_bytes + held.calls.len() * CALL_BYTES <= TOTAL_BYTES);
    }
    assert!(!other.is_evicted());
    let kept: Vec<_> = flood.iter().map(|client| !client.is_evicted()).collect();
    let first_kept = kept.iter().position(|kept| *kept).unwrap();
    assert!(kept[first_kept..].iter().all(|kept| *kept), "{kept:?}");
    assert_eq!(kept.len() - first_kept, 62);
}

#[tokio::test]
async fn shared_answer_counts_once() {
    let (budget, list) = (AnswerBudget::default(), body(MIB));
    let mut clients: Vec<_> = (0..100).map(Client::of_user).collect();
    for client in &mut clients {
        for _ in 0..8 {
            assert!(client.call(&budget, &list).await.is_none());
        }
    }
    assert_eq!(budget.lock().answer_bytes, MIB);
    assert!(!clients.iter().any(Client::is_evicted));
    drop(clients);
    let held = budget.lock();
    assert_eq!((held.calls.len(), held.answers.len(), held.answer_bytes), (0, 0, 0));
}

#[tokio::test]
async fn connection_has_a_share_and_one_answer() {
    let budget = AnswerBudget::default();
    let mut client = Client::of_user(1);
    assert!(client.call(&budget, &body(20 * MIB)).await.is_none());
    let status = client.call(&budget, &body(1)).await.unwrap();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    client.answers.clear();
    for _ in 0..8 {
        assert!(client.call(&budget, &body(MIB)).await.is_none());
    }
    assert!(client.call(&budget, &body(1)).await.is_some());
    assert!(!client.is_evicted());
}

#[tokio::test]
async fn calls_without_answer_count() {
    let budget = AnswerBudget::default();
    let clients: Vec<_> = (0..10).map(|_| Client::of_user(1)).collect();
    let begin = |client: &Client| budget.begin(client.guard.connection());
    let most = TOTAL_BYTES / CALL_BYTES;
    let calls: Vec<_> = (0..=most).map(|n| begin(&clients[n * 9 / most])).collect();
    assert!(clients[0].is_evicted() && !clients[9].is_evicted());
    assert_eq!(clients.iter().filter(|client| client.is_evicted()).count(), 1);
    drop(calls);
    assert!(budget.lock().calls.is_empty());
}

#[tokio::test(start_paused = true)]
async fn client_that_takes_nothing_is_disconnected() {
    let budget = AnswerBudget::default();
    let sweep = tokio::spawn(budget.clone().expire_stalled());
    let [mut stalled, mut slow, mut replayed] = [1, 1, 1].map(Client::of_user);
    for client in [&mut stalled, &mut slow] {
        assert!(client.call(&budget, &body(MIB)).await.is_none());
    }
    let replay = budget.begin(replayed.guard.connection());
    replay.hold(HeldBytes { address: 1, length: MIB, expires: false }).unwrap();
    for _ in 0..20 {
        advance(STALL_TIMEOUT / 2).await;
        slow.answers[0].body_mut().frame().await.unwrap().unwrap();
        tokio::task::yield_now().await;
    }
    let found = [&stalled, &slow, &replayed].map(Client::is_evicted);
    assert_eq!(found, [true, false, false]);
    replay.release();
    assert_eq!(budget.lock().answer_bytes, MIB);
    replayed.answers.clear();
    sweep.abort();
}

#[tokio::test]
async fn answer_arrives_whole_with_its_trailers() {
    let budget = AnswerBudget::default();
    let data: Bytes = (0..=255).cycle().take(3 * CHUNK + 7).collect();
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let sent = trailers.clone();
    let body = Full::new(data.clone()).with_trailers(async { Some(Ok(sent)) });
    let client = Client::of_user(1);
    let response = http::Response::new(Body::new(body));
    let answer = budget.begin(client.guard.connection()).answer(response).await;
    let received = answer.into_body().collect().await.unwrap();
    assert_eq!(received.trailers(), Some(&trailers));
    assert_eq!(received.to_bytes(), data);
    assert!(budget.lock().calls.is_empty());
}
