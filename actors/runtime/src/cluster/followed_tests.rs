//! Whatever becomes of the tells, a peer ends up with the table that was announced, and never with one that never was.

use std::collections::BTreeMap;

use aesp_proto::v1::runtimes_tell::Tell;
use proptest::prelude::*;

use super::*;
use crate::{
    cluster::fulfilment::{Announced, Rows},
    testing::tenant,
};

fn offer(n: u8) -> Offer {
    Offer {
        tenant: tenant(n % 3),
        name: format!("tool{n}").into(),
        version: "1.0.0".into(),
        session: None,
        development: false,
    }
}

fn figures(runtimes: u32) -> Figures {
    Figures { runtimes, streaming: runtimes, leaving: 0, credits: runtimes * 4, load: 0, draft: None }
}

fn known(followed: &Followed) -> BTreeMap<String, u32> {
    followed.rows().iter().map(|(offer, seat)| (offer.name.to_string(), seat.figures.runtimes)).collect()
}

fn announced(rows: &Rows) -> BTreeMap<String, u32> {
    rows.iter().map(|(offer, figures)| (offer.name.to_string(), figures.runtimes)).collect()
}

fn take(followed: &mut Followed, tell: Tell) -> Heard {
    match tell {
        Tell::Table(table) => followed.table(table, 0),
        Tell::Change(change) => followed.change(change, 0),
        Tell::Version(version) => followed.current(version.version),
        other => panic!("{other:?}"),
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many Runtimes fulfil this tool now.
    Change(u8, u32),
    /// The tell at this place of those under way is lost, or arrives, once or twice.
    Lose(usize),
    Deliver(usize),
    Repeat(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..6, 0_u32..3).prop_map(|(tool, runtimes)| Step::Change(tool, runtimes)),
        1 => any::<usize>().prop_map(Step::Lose),
        4 => any::<usize>().prop_map(Step::Deliver),
        1 => any::<usize>().prop_map(Step::Repeat),
    ]
}

proptest! {
    #[test]
    fn tables_converge(steps in prop::collection::vec(step(), 0..80)) {
        let (mut table, mut own) = (Rows::new(), Announced::default());
        let mut history = vec![announced(&table)];
        let mut followed = Followed::default();
        let mut under_way: Vec<Tell> = own.table().into_iter().map(Tell::Table).collect();
        for step in steps {
            let place = |n: usize, of: &[Tell]| (!of.is_empty()).then(|| n % of.len());
            let arrived = match step {
                Step::Change(tool, runtimes) => {
                    if runtimes == 0 {
                        table.remove(&offer(tool));
                    } else {
                        table.insert(offer(tool), figures(runtimes));
                    }
                    under_way.extend(own.advance(table.clone()).into_iter().map(Tell::Change));
                    history.push(announced(&table));
                    None
                }
                Step::Lose(n) => {
                    place(n, &under_way).map(|n| under_way.remove(n));
                    None
                }
                Step::Deliver(n) => place(n, &under_way).map(|n| under_way.remove(n)),
                Step::Repeat(n) => place(n, &under_way).map(|n| under_way[n].clone()),
            };
            if arrived.is_some_and(|tell| take(&mut followed, tell) == Heard::Missed) {
                under_way.extend(own.table().into_iter().map(Tell::Table));
            }
            let known = known(&followed);
            prop_assert!(known.is_empty() || history.contains(&known), "{known:?} never was");
        }
        // Now nothing is lost any more: the version is told, and the table if it was asked for.
        let version = aesp_proto::v1::FulfilmentVersion { version: own.version() };
        if take(&mut followed, Tell::Version(version)) == Heard::Missed {
            for part in own.table() {
                prop_assert_eq!(followed.table(part, 0), Heard::InOrder);
            }
        }
        prop_assert_eq!(known(&followed), announced(&table));
    }
}

#[test]
fn a_large_table_comes_in_parts_and_counts_when_it_is_whole() {
    let mut own = Announced::default();
    let rows: Rows = (0..20_000_u32)
        .map(|n| (Offer { name: format!("tool{n}").into(), ..offer(1) }, figures(1)))
        .collect();
    assert!(own.advance(rows).len() > 1, "changes are split as well");
    let parts = own.table();
    assert!(parts.len() > 2);
    let mut followed = Followed::default();
    for part in &parts[..parts.len() - 1] {
        assert_eq!(followed.table(part.clone(), 0), Heard::InOrder);
        assert!(followed.rows().is_empty());
    }
    assert_eq!(followed.table(parts[parts.len() - 1].clone(), 0), Heard::InOrder);
    assert_eq!(followed.rows().len(), 20_000);

    let mut missed = Followed::default();
    missed.table(parts[0].clone(), 0);
    assert_eq!(missed.table(parts[2].clone(), 0), Heard::Missed);
    assert_eq!(missed.table(parts[1].clone(), 0), Heard::Missed, "it begins anew");
}

#[test]
fn a_load_that_hardly_moves_is_no_news() {
    let mut own = Announced::default();
    let with = |load| Rows::from([(offer(1), Figures { load, credits: 100, ..figures(1) })]);
    assert_eq!(own.advance(with(10)).len(), 1);
    assert!(own.advance(with(12)).is_empty());
    assert_eq!(own.advance(with(13)).len(), 1);
    assert_eq!(own.advance(with(100)).len(), 1, "nothing is free any more");
    assert_eq!(own.advance(with(99)).len(), 1);
}

#[test]
fn what_a_peer_may_make_this_node_hold_is_bounded() {
    let mut followed = Followed::default();
    let row = |n: usize| Fulfilment {
        tenant_id: vec![1; 16],
        name: format!("tool{n}"),
        version: "1.0.0".to_owned(),
        runtimes: 1,
        ..Default::default()
    };
    let mut rows: Vec<_> = (0..MAX_ROWS + 10).map(row).collect();
    rows.push(Fulfilment { tenant_id: vec![1; 3], ..row(0) });
    let table = FulfilmentTable { version: 1, part: 0, last: true, rows };
    assert_eq!(followed.table(table, 0), Heard::InOrder);
    assert_eq!(followed.rows().len(), MAX_ROWS);
}
