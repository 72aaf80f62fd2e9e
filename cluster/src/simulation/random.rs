use std::time::Duration;

use aesp_proto::Entropy;

use super::{engine::Way, world::World};

/// How long a run is shaken.
const SHAKEN: Duration = Duration::from_secs(20);

/// Shakes a cluster of three or four nodes for a while, and lets it come to rest.
async fn shake(seed: u64) {
    let entropy = Entropy::from_seed(seed);
    let below = |n: u64| entropy.below(n);
    let ms = |n: u64| Duration::from_millis(below(n));
    let mut names = vec!["a", "b", "c"];
    if below(2) == 0 {
        names.push("d");
    }
    let mut world = World::new(seed, &names, true).await;
    let end = world.elapsed() + SHAKEN;
    while world.elapsed() < end {
        tokio::time::sleep(Duration::from_millis(50 + below(700))).await;
        world.check();
        world.restart_ended(|| below(2) == 0);
        let (one, other) = (names[pick(below(8), names.len())], names[pick(below(8), names.len())]);
        match below(20) {
            0 | 1 => world.kill(one),
            2 | 3 => world.freeze(one, Duration::from_millis(200) + ms(6_000)),
            4 => world.net.cut(one, other),
            5 => {
                world.net.cut(one, other);
                world.net.cut(other, one);
            }
            6 | 7 => world.net.heal(),
            8 | 9 => {
                let way = if below(2) == 0 { Way::Refused } else { Way::Silent };
                world.cut_store(one, way, Duration::from_millis(200) + ms(5_000));
            }
            10 => world.step_clock(one, i64::try_from(below(8_000)).unwrap() - 4_000),
            11 => world.step_clock(one, 0),
            12 => world.leave(one),
            _ => world.revoke(one, u8::try_from(below(3)).unwrap()),
        }
    }
    world.come_to_rest().await;
    let tally = world.finish();
    assert!(!tally.notices.contains_key("task_panicked"), "{tally:?}");
    assert!(tally.acts > 100 && tally.uses > 100 && tally.writes > 10, "too little happened: {tally:?}");
    if std::env::var_os("AESP_TALLY").is_some() {
        println!("seed {seed}: {tally:?}");
    }
}

fn pick(random: u64, length: usize) -> usize {
    usize::try_from(random).unwrap() % length
}

/// Runs `AESP_SEED` alone, or `AESP_SEEDS` seeds (a few by default).
fn seeds(first: u64, usual: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match (number("AESP_SEED"), number("AESP_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, many) => first..first + many.unwrap_or(usual),
    }
}

fn run(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        println!("AESP_SEED={seed}");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(shake(seed));
    }
}

#[test]
fn invariants_hold_whatever_happens() {
    run(seeds(1, 5));
}

#[test]
fn invariants_hold_whatever_else_happens() {
    run(seeds(1_000_001, 5));
}
