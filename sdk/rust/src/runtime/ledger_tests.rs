use aesp_proto::v1::FunctionResult;
use proptest::prelude::*;

use super::*;

fn id(n: u8) -> DispatchId {
    DispatchId::from_bytes([n; 16])
}

fn result(n: u8, bytes: usize) -> ToolResult {
    ToolResult {
        dispatch_id: vec![n; 16],
        result: Some(FunctionResult { content_json: vec![b'1'; bytes].into(), ..FunctionResult::default() }),
        ..ToolResult::default()
    }
}

const BOUNDS: Bounds = Bounds { running: 4, results: 5, result_bytes: 100 };

#[test]
fn a_dispatch_runs_once_whatever_is_sent_again() {
    let mut ledger = Ledger::new(BOUNDS);
    assert!(matches!(ledger.begin(id(1), 0, false), Begin::Run(_)));
    assert!(matches!(ledger.begin(id(1), 0, false), Begin::Running));
    ledger.finish(id(1), 0, result(1, 3));
    assert!(matches!(ledger.begin(id(1), 1, false), Begin::Answered(_)));
    assert!(ledger.acknowledge(id(1)));
    assert!(matches!(ledger.begin(id(1), 1, false), Begin::Over));
    assert_eq!(ledger.report(), (vec![id(1)], vec![]));
}

#[test]
fn unacknowledged_results_go_to_the_next_connection_in_order() {
    let mut ledger = Ledger::new(BOUNDS);
    for n in [3, 1, 2] {
        ledger.begin(id(n), 0, false);
        ledger.finish(id(n), 0, result(n, 1));
    }
    ledger.acknowledge(id(1));
    let again: Vec<_> = ledger.redeliver(1, |_| false).into_iter().map(|r| r.dispatch_id[0]).collect();
    assert_eq!(again, [3, 2]);
    assert!(ledger.redeliver(2, |generation| generation == 1).is_empty(), "connection 1 answers for them");
    assert_eq!((ledger.open(0), ledger.open(1)), (0, 2));
}

#[test]
fn only_the_streams_of_a_lost_connection_stop() {
    let mut ledger = Ledger::new(BOUNDS);
    ledger.begin(id(1), 0, true);
    ledger.begin(id(2), 0, false);
    ledger.begin(id(3), 1, true);
    ledger.stop_streams(0, &ToolFailure::new("gone"));
    let stopped: Vec<_> = (1..=3).map(|n| ledger.stopped(id(n)).is_some()).collect();
    assert_eq!(stopped, [true, false, false]);
}

proptest! {
    /// Whatever happens, bounds hold, the running and the held are among the seen, and bytes add up.
    #[test]
    fn bounds_hold(steps in prop::collection::vec((0_u8..12, 0_u8..4, 0_usize..60), 0..200)) {
        let mut ledger = Ledger::new(BOUNDS);
        for (n, what, bytes) in steps {
            match what {
                0 | 1 => drop(ledger.begin(id(n), u64::from(what), what == 1)),
                2 if ledger.running.contains_key(&id(n)) => drop(ledger.finish(id(n), 0, result(n, bytes))),
                _ => drop(ledger.acknowledge(id(n))),
            }
            prop_assert!(ledger.running.len() <= BOUNDS.running);
            prop_assert!(ledger.held.len() <= BOUNDS.results);
            prop_assert!(ledger.bytes <= BOUNDS.result_bytes || ledger.held.len() == 1);
            prop_assert_eq!(ledger.bytes, ledger.held.values().map(|h| h.bytes).sum::<usize>());
            prop_assert_eq!(ledger.order.len(), ledger.held.len());
            let (seen, running) = ledger.report();
            prop_assert!(running.iter().chain(ledger.held.keys()).all(|id| seen.contains(id)));
        }
    }
}
