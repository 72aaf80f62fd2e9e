//! What the pipeline makes of what the last hop says, and of what Runtimes tell where the session is not.

mod harness;

use std::sync::atomic::Ordering;

use aesp_cluster::{Held, Shard};
use aesp_proto::{DispatchId, Entropy, ErrorCode, Incarnation, v1::ToolResult};
use aesp_runtime::{LateResults, Settled};
use aesp_storage::{MemoryOptions, Store};

use self::harness::{Pipeline, REFUSED_ONCE, UNANSWERED};

async fn pipeline() -> (tempfile::TempDir, Pipeline) {
    let folder = tempfile::tempdir().expect("a folder");
    let key = aesp_storage::FileKeyProvider::create(&folder.path().join("master.key")).expect("a key");
    let store = Store::memory(MemoryOptions::default(), std::sync::Arc::new(key));
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
