use std::time::Duration;

use super::world::World;

#[tokio::test(start_paused = true)]
async fn a_lone_node_has_everything_and_leaves_at_once() {
    let mut world = World::empty(1, &[], false).await;
    let alone = || crate::Options::new("a");
    world.start_as("a", alone());
    world.until("it has everything", async |world| world.rests(&["a"]).await).await;
    assert!(world.elapsed() < Duration::from_secs(1), "{:?}", world.elapsed());
    let cluster = world.cluster("a");
    assert_eq!(cluster.drain().await, 0);
    cluster.leave().await;
    assert!(!cluster.lease().is_held() && cluster.barrier().await.is_err());
    world.kill("a");
    let begun = world.elapsed();
    world.start_as("a", alone());
    world.until("the next one begins", async |world| world.rests(&["a"]).await).await;
    assert!(world.elapsed() - begun < Duration::from_secs(1), "nobody waits for one that has left");
    world.finish();
}
