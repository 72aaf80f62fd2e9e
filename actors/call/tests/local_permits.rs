//! Permits for tools that run at the agent end within their time, by a clock that the test owns.

mod harness;

use std::{sync::Arc, time::Duration};

use aesp_proto::{
    ManualClock, Timestamp,
    v1::{AuthorizationStatus, InvocationStatus, LogStatus},
};
use aesp_storage::Store;

use self::harness::Pipeline;

const START: Timestamp = Timestamp(1_800_000_000_000);
const NO_TIME: Duration = Duration::ZERO;

async fn permitted(pipeline: &Pipeline, tool: &str) -> (String, Duration) {
    let answer = pipeline.authorize(tool).await.expect("is answered");
    assert_eq!(answer.status(), AuthorizationStatus::Approved, "{answer:?}");
    (answer.invocation_id, Duration::from_millis(answer.authorization_ttl_ms.into()))
}

#[tokio::test]
async fn a_permit_ends_after_its_time_to_live() {
    let clock = Arc::new(ManualClock::new(START));
    let pipeline = Pipeline::start_at(Store::for_tests(), clock.clone()).await;
    let (in_time, ttl) = permitted(&pipeline, "read").await;
    let (late, _) = permitted(&pipeline, "write").await;
    let (long, _) = permitted(&pipeline, "write").await;

    clock.advance(ttl);
    let logged = pipeline.log(&in_time, NO_TIME).await.expect("is answered");
    assert_eq!(logged.status(), LogStatus::Logged);
    assert_eq!(pipeline.status(&in_time).await, InvocationStatus::InvocationSucceeded);

    clock.advance(Duration::from_secs(10));
    let logged = pipeline.log(&late, NO_TIME).await.expect("is answered");
    assert_eq!(logged.status(), LogStatus::Rejected, "it started after its permit had ended");
    assert!(!logged.event_id.is_empty(), "the attempt is not on record");
    assert_eq!(pipeline.status(&late).await, InvocationStatus::InvocationOutcomeUnknown);

    // It started in time and ran for long.
    let logged = pipeline.log(&long, ttl).await.expect("is answered");
    assert_eq!(logged.status(), LogStatus::Logged);
}

#[tokio::test]
async fn a_leap_of_the_clock_ends_permits() {
    let clock = Arc::new(ManualClock::new(START));
    let pipeline = Pipeline::start_at(Store::for_tests(), clock.clone()).await;
    let (permit, _) = permitted(&pipeline, "write").await;
    clock.advance(Duration::from_secs(120));
    assert_eq!(pipeline.log(&permit, NO_TIME).await.expect("is answered").status(), LogStatus::Rejected);
    // Set right again, the permit is what it was.
    clock.set(START.plus(Duration::from_secs(1)));
    assert_eq!(pipeline.log(&permit, NO_TIME).await.expect("is answered").status(), LogStatus::Logged);
    assert_eq!(pipeline.log(&permit, NO_TIME).await.expect("is answered").status(), LogStatus::Rejected);
}
