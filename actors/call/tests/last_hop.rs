//! What the pipeline makes of what the last hop says, and of what Runtimes tell where the session is not.

mod harness;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aesp_cluster::{Held, Shard};
use aesp_proto::{
    DispatchId, Entropy, ErrorCode, Incarnation,
    v1::{InvocationStatus, ToolResult},
};
use aesp_runtime::{LateResults, Settled};
use aesp_storage::{MemoryOptions, Store};
use tokio::time::timeout;

use self::harness::{Pipeline, REFUSED_ONCE, REFUSED_THEN_HELD, UNANSWERED};

const SOON: Duration = Duration::from_secs(20);

async fn pipeline() -> (tempfile::TempDir, Pipeline) {
    let folder = tempfile::tempdir().expect("a folder");
    let key = aesp_storage::FileKeyProvider::create(&folder.path().join("master.key")).expect("a key");
    let store = Store::memory(MemoryOptions::default(), Arc::new(key));
    (folder, Pipeline::start(store).await)
}

#[tokio::test]
async fn a_permit_older_than_the_rights_of_the_last_hop_has_no_effect_and_may_be_had_anew() {
    let (_folder, pipeline) = pipeline().await;
    pipeline.ahead.store(1, Ordering::SeqCst);
    for tool in ["read", "write"] {
        let refused = pipeline.call(tool, format!("{tool}-1"), b"{}").await.expect_err("never new enough");
        assert_eq!(refused.code(), ErrorCode::ServiceUnavailable, "{refused}");
        assert!(refused.is_retryable());
    }
    assert!(pipeline.dispatches.lock().unwrap().is_empty(), "no Runtime heard of them");
    pipeline.ahead.store(0, Ordering::SeqCst);
    for tool in ["read", "write"] {
        let reply = pipeline.call(tool, format!("{tool}-1"), b"{}").await.expect("permitted");
        assert!(!reply.replayed, "the refusal was no outcome");
    }
    assert_eq!(pipeline.dispatches.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_told_late_is_for_the_owner_of_the_session() {
    let (_folder, pipeline) = pipeline().await;
    pipeline.call("write", "first".into(), b"{}").await.expect("permitted");
    let dispatch = pipeline.dispatches.lock().unwrap()[0];
    let settle =
        async |dispatch| pipeline.late.settle("spiffe://test/runtime", dispatch, ToolResult::default()).await;
    assert_eq!(settle(dispatch).await, Settled::Unwanted, "it is recorded");

    let unknown = pipeline.call("write", "second".into(), UNANSWERED).await.expect_err("no answer");
    assert_eq!(unknown.code(), ErrorCode::OutcomeUnknown, "{unknown}");
    let dispatch = pipeline.dispatches.lock().unwrap()[1];
    let held_by = |owner, held| {
        let shards = pipeline.shards.shards();
        let changed = shards.iter().map(|shard| Shard { owner: Some(owner), held, ..*shard }).collect();
        pipeline.shards.replace(changed);
    };
    held_by(Incarnation(9), Held::No);
    assert_eq!(settle(dispatch).await, Settled::Elsewhere(Incarnation(9)));
    let unseen = pipeline.late.never_received("spiffe://test/runtime", dispatch).await;
    assert_eq!(unseen, Settled::Elsewhere(Incarnation(9)));
    let unknown = DispatchId::random(&Entropy::from_system());
    assert_eq!(settle(unknown).await, Settled::Unwanted, "a dispatch without a row is nobody's");
    held_by(pipeline.shards.own(), Held::Leaving);
    assert_eq!(settle(dispatch).await, Settled::Later, "whoever takes it over settles it");
}

#[tokio::test]
async fn a_call_that_a_runtime_refused_before_it_ran_is_given_away_again() {
    let (_folder, pipeline) = pipeline().await;
    // Not idempotent: what may have run would not be given to anybody again.
    let reply = pipeline.call("write", "refused".into(), REFUSED_ONCE).await.expect("the second one runs it");
    assert!(!reply.replayed);
    assert_eq!(reply.result.expect("has a result").error, None);
    let dispatches = pipeline.dispatches.lock().unwrap();
    assert_eq!(dispatches.len(), 2);
    assert_ne!(dispatches[0], dispatches[1], "the Runtime remembers the id that it refused");
}

#[tokio::test]
async fn a_refusal_that_is_told_again_settles_no_call_that_runs_elsewhere_by_then() {
    let (_folder, pipeline) = pipeline().await;
    let pipeline = Arc::new(pipeline);
    let calling = {
        let pipeline = Arc::clone(&pipeline);
        tokio::spawn(async move { pipeline.call("write", "again".into(), REFUSED_THEN_HELD).await })
    };
    timeout(SOON, pipeline.dispatched(2)).await.expect("it is given away again");
    let refused = pipeline.dispatches.lock().unwrap()[0];
    // The intent names the attempt that runs now.
    let told = pipeline.late.never_received("spiffe://test/runtime", refused).await;
    assert_eq!(told, Settled::Unwanted, "the call of the second attempt was settled by the first");
    assert_eq!(pipeline.status("again").await, InvocationStatus::InvocationOutcomeUnknown);
    assert_eq!(pipeline.named_dispatches().await, 1, "the row of the first attempt is there still");
    pipeline.answers.add_permits(1);
    let reply = timeout(SOON, calling).await.expect("is answered").expect("does not panic");
    assert!(!reply.expect("succeeds").replayed);
    assert_eq!(pipeline.status("again").await, InvocationStatus::InvocationSucceeded);
}

#[tokio::test]
async fn what_an_intent_named_is_forgotten_with_the_outcome() {
    let (_folder, pipeline) = pipeline().await;
    pipeline.call("write", "answered".into(), b"{}").await.expect("permitted");
    assert_eq!(pipeline.named_dispatches().await, 0, "it is recorded");
    pipeline.ahead.store(1, Ordering::SeqCst);
    pipeline.call("write", "refused".into(), b"{}").await.expect_err("no Runtime gets it");
    pipeline.ahead.store(0, Ordering::SeqCst);
    assert_eq!(pipeline.named_dispatches().await, 0, "it never ran");
    pipeline.call("write", "open".into(), UNANSWERED).await.expect_err("no answer");
    assert_eq!(pipeline.named_dispatches().await, 1, "whoever had it may settle it");
    let dispatch = *pipeline.dispatches.lock().unwrap().last().unwrap();
    let settled = pipeline.late.never_received("spiffe://test/runtime", dispatch).await;
    assert_eq!((settled, pipeline.named_dispatches().await), (Settled::Recorded, 0));
}
