//! What is ready and may not go out any more: its session has ended, or the right to it is gone.

mod harness;

use std::{sync::Arc, time::Duration};

use aesp_call::Granted;
use aesp_proto::{Error, ErrorCode};
use futures::StreamExt;
use tokio::time::{sleep, timeout};

use self::harness::{HELD, Pipeline, TENANT, staged::Staged};

const SOON: Duration = Duration::from_secs(20);
/// Long enough for what a Runtime has sent to come to where it waits for the reader or the store.
const ON_ITS_WAY: Duration = Duration::from_millis(100);

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
    sleep(ON_ITS_WAY).await;
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
    let dispatched = async {
        while pipeline.dispatches.lock().unwrap().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, dispatched).await.expect("a Runtime gets it");
    // The end of the session waits for the store, and the record of the answer behind it.
    staged.commits.hold_next();
    let ending = {
        let pipeline = Arc::clone(&pipeline);
        tokio::spawn(async move { pipeline.end_session().await })
    };
    timeout(SOON, staged.commits.holds_one()).await.expect("the end is written");
    pipeline.answers.add_permits(1);
    sleep(ON_ITS_WAY).await;
    staged.commits.hold_next();
    staged.commits.release();
    timeout(SOON, ending).await.expect("the session ends").expect("does not panic");
    timeout(SOON, staged.commits.holds_one()).await.expect("the answer is recorded");
    staged.commits.release();
    let answered = timeout(SOON, calling).await.expect("is answered").expect("does not panic");
    is_withheld(&answered.expect_err("it was answered after the session's end"));
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
