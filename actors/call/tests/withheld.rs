//! What is ready and may not go out any more: its session has ended, or the right to it is gone.

mod harness;

use std::{sync::Arc, time::Duration};

use aesp_call::Granted;
use aesp_proto::{
    Error, ErrorCode, ManualClock, Timestamp,
    v1::{AuthorizationStatus, InvocationStatus},
};
use aesp_storage::Store;
use futures::{StreamExt, future::join};
use tokio::time::timeout;

use self::harness::{HELD, Pipeline, TENANT, staged::Staged};

const SOON: Duration = Duration::from_secs(20);

async fn pipeline() -> (tempfile::TempDir, Staged, Arc<Pipeline>) {
    let folder = tempfile::tempdir().expect("a folder");
    let (staged, store, _) = Staged::store(&folder);
    (folder, staged, Arc::new(Pipeline::start(store).await))
}

/// Of what came too late for the reader the Host says either.
fn is_withheld(error: &Error) {
    let codes = [ErrorCode::SessionInvalid, ErrorCode::Cancelled];
    assert!(codes.contains(&error.code()), "{error}");
}

#[tokio::test]
async fn parts_that_wait_for_the_reader_do_not_outlive_their_session() {
    let (_folder, _, pipeline) = pipeline().await;
    let mut parts = Box::pin(pipeline.stream("count", "one".into()).await);
    let first = timeout(SOON, parts.next()).await.expect("the stream opens").expect("has parts");
    assert_eq!(first.expect("is permitted").payload_json, b"0");
    // The other parts wait for the reader.
    timeout(SOON, pipeline.has_read()).await.expect("the Host reads what the Runtime sends");
    pipeline.end_session().await;
    let next = timeout(SOON, parts.next()).await.expect("the stream ends").expect("says why");
    is_withheld(&next.expect_err("a part came out after the session's end"));
    assert!(parts.next().await.is_none());
}

#[tokio::test]
async fn an_answer_whose_record_is_written_after_the_end_of_its_session_is_withheld() {
    let (_folder, staged, pipeline) = pipeline().await;
    let calling = {
        let pipeline = Arc::clone(&pipeline);
        tokio::spawn(async move { pipeline.call("read", "one".into(), HELD).await })
    };
    timeout(SOON, pipeline.dispatched(1)).await.expect("a Runtime gets it");
    // The end of the session waits for the store, and the record of the answer behind it.
    staged.commits.hold_next();
    let ending = {
        let pipeline = Arc::clone(&pipeline);
        tokio::spawn(async move { pipeline.end_session().await })
    };
    timeout(SOON, staged.commits.holds_one()).await.expect("the end is written");
    pipeline.answers.add_permits(1);
    timeout(SOON, pipeline.has_read()).await.expect("the Host reads the answer");
    staged.commits.hold_next();
    staged.commits.release();
    timeout(SOON, ending).await.expect("the session ends").expect("does not panic");
    timeout(SOON, staged.commits.holds_one()).await.expect("the answer is recorded");
    staged.commits.release();
    let answered = timeout(SOON, calling).await.expect("is answered").expect("does not panic");
    is_withheld(&answered.expect_err("it was answered after the session's end"));
}

#[tokio::test]
async fn who_waits_in_a_session_whose_time_is_over_hears_that_and_not_that_nobody_knows() {
    let clock = Arc::new(ManualClock::new(Timestamp(1_800_000_000_000)));
    let pipeline = Arc::new(Pipeline::start_at(Store::for_tests(), clock.clone()).await);
    let calling = {
        let pipeline = Arc::clone(&pipeline);
        tokio::spawn(async move { pipeline.call("write", "one".into(), HELD).await })
    };
    timeout(SOON, pipeline.dispatched(1)).await.expect("a Runtime gets it");
    clock.advance(Duration::from_secs(30 * 24 * 3_600));
    // Rights that change have it looked at again.
    let bumped = pipeline.store.run(|tx| Box::pin(async move { tx.bump_revision(TENANT).await }));
    bumped.await.map_err(|error: aesp_storage::Error| error).expect("is changed");
    pipeline.views.refresh(TENANT).await.expect("the store answers");
    let answered = timeout(SOON, calling).await.expect("is answered").expect("does not panic");
    let refusal = answered.expect_err("it was answered after the session's end");
    assert_eq!(refusal.code(), ErrorCode::SessionInvalid, "{refusal}");
    assert_eq!(pipeline.status("one").await, InvocationStatus::InvocationOutcomeUnknown, "it may have run");
}

#[tokio::test]
async fn a_permit_for_the_agent_is_withheld_whose_right_ends_while_it_is_written_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let (staged, store, other) = Staged::store(&folder);
    let pipeline = Pipeline::start(store).await;
    let first = pipeline.authorize("write").await.expect("is answered");
    assert_eq!(first.status(), AuthorizationStatus::Approved, "{first:?}");
    staged.commits.hold_next();
    let agent = pipeline.agent;
    let meanwhile = async {
        staged.commits.holds_one().await;
        let revoked = other.run(move |tx| {
            Box::pin(async move { aesp_policy::revoke_role(tx, TENANT, agent, "caller").await })
        });
        assert!(revoked.await.expect("is revoked"));
        pipeline.views.refresh(TENANT).await.expect("the store answers");
        staged.commits.release();
    };
    let (answer, ()) =
        timeout(SOON, join(pipeline.authorize("write"), meanwhile)).await.expect("is answered");
    if let Ok(answer) = answer {
        assert_ne!(answer.status(), AuthorizationStatus::Approved, "{answer:?}");
    }
}

#[tokio::test]
async fn what_was_read_is_withheld_from_a_token_that_was_revoked_meanwhile() {
    let (_folder, _, pipeline) = pipeline().await;
    let caller = pipeline.caller().await.expect("has a token");
    let granted =
        pipeline.decisions.permit_tenant(&caller, "session.create", TENANT).await.expect("is permitted");
    pipeline.revoke_token().await;
    // Its account and roles are what they were.
    let refusal = pipeline.decisions.still(&granted).await.expect_err("the token is no good any more");
    assert!(!refusal.is_retryable(), "{refusal}");
}

#[tokio::test]
async fn what_was_read_goes_out_while_the_right_to_it_holds_and_not_after() {
    let (_folder, _, pipeline) = pipeline().await;
    let caller = pipeline.caller().await.expect("has a token");
    let granted: Granted =
        pipeline.decisions.permit_tenant(&caller, "session.create", TENANT).await.expect("is permitted");
    pipeline.decisions.still(&granted).await.expect("nothing has changed");
    let (agent, store, views) = (pipeline.agent, &pipeline.store, &pipeline.views);
    let bumped = store.run(|tx| Box::pin(async move { tx.bump_revision(TENANT).await }));
    bumped.await.map_err(|error: aesp_storage::Error| error).expect("is changed");
    views.refresh(TENANT).await.expect("the store answers");
    pipeline.decisions.still(&granted).await.expect("another right has changed");
    let revoked = store
        .run(move |tx| Box::pin(async move { aesp_policy::revoke_role(tx, TENANT, agent, "caller").await }));
    assert!(revoked.await.expect("is revoked"));
    views.refresh(TENANT).await.expect("the store answers");
    let refusal = pipeline.decisions.still(&granted).await.expect_err("the right is gone");
    assert!(!refusal.is_retryable(), "{refusal}");
    let query = aesp_audit::Query::new(TENANT);
    let events = aesp_audit::query(store, &query).await.expect("the log").events;
    let denied = events.iter().filter(|event| event.action == "session.create");
    assert!(denied.clone().any(|event| event.outcome() == aesp_proto::v1::Outcome::Denied), "not on record");
}
