//! A wall clock that jumps, as it does when a machine is set right.

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn a_clock_set_back_ends_no_session_and_gives_none_more_time() {
    let node = Node::new().await;
    let session = node.create(60).await;
    node.clock.set(Timestamp(START.0 - 86_400_000));
    let running = node.run(session, "a").await;
    assert_eq!(node.status(session).await, Some(SessionStatus::Active));
    let renewed = node.sessions.renew(node.tenant, session, Origin::default()).await.unwrap();
    assert_eq!(renewed.expires_at, START.plus(Duration::from_secs(60)), "its end moved with the clock");
    assert!(!running.cancellation().is_cancelled());
    running.finish();
    node.clock.set(START.plus(Duration::from_secs(60)));
    assert!(node.begin(session, "b", 1).await.is_err());
    eventually!(node.status(session).await == Some(SessionStatus::Expired));
    eventually!(node.in_use().await == 0);
}

#[tokio::test]
async fn a_session_that_a_leap_ended_stays_ended() {
    let node = Node::new().await;
    let session = node.create(60).await;
    let running = node.run(session, "a").await;
    node.clock.advance(DAY);
    assert!(node.begin(session, "b", 1).await.is_err());
    tokio::time::timeout(Duration::from_secs(20), running.cancellation().cancelled())
        .await
        .expect("its calls are cancelled");
    running.finish();
    eventually!(node.recorded("session.expire").await == 1);
    node.clock.set(START);
    assert!(node.begin(session, "c", 1).await.is_err(), "it lives again");
    assert!(node.sessions.renew(node.tenant, session, Origin::default()).await.is_err());
    assert_eq!(node.status(session).await, Some(SessionStatus::Expired));
    assert_eq!(node.in_use().await, 0);
    node.create(60).await;
}

#[tokio::test]
async fn outcomes_outlive_a_clock_set_back_and_leave_after_a_leap() {
    let node = Node::new().await;
    let session = node.create(60).await;
    node.sessions.destroy(node.tenant, session, true, Origin::default()).await.unwrap();
    node.clock.set(Timestamp(START.0 - 86_400_000));
    node.clock.advance(DAY);
    assert_eq!(node.status(session).await, Some(SessionStatus::Destroyed));
    node.clock.advance(DAY);
    eventually!(node.status(session).await.is_none());
}
