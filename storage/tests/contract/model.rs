use std::collections::BTreeMap;

use aesp_storage::{AtomicOp, Error, Range, Transaction};
use proptest::{collection::vec, prelude::*};

use crate::fixture::{Fixture, clear, fdb, lmdb, memory, memory_like_fdb, raw};

/// One step of a transaction, on keys of one letter.
#[derive(Clone, Debug)]
enum Step {
    Set(u8, Vec<u8>),
    Clear(u8),
    ClearRange(u8, u8),
    Add(u8, i64),
    Max(u8, u64),
    Get(u8),
    Scan { start: u8, end: u8, limit: usize, reverse: bool },
}

fn letter() -> impl Strategy<Value = u8> {
    b'a'..=b'j'
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (letter(), vec(any::<u8>(), 0..12)).prop_map(|(key, value)| Step::Set(key, value)),
        1 => letter().prop_map(Step::Clear),
        1 => (letter(), letter()).prop_map(|(start, end)| Step::ClearRange(start, end)),
        1 => (letter(), any::<i64>()).prop_map(|(key, delta)| Step::Add(key, delta)),
        1 => (letter(), any::<u64>()).prop_map(|(key, least)| Step::Max(key, least)),
        2 => letter().prop_map(Step::Get),
        2 => (letter(), letter(), 0..8_usize, any::<bool>())
            .prop_map(|(start, end, limit, reverse)| Step::Scan { start, end, limit, reverse }),
    ]
}

type Model = BTreeMap<u8, Vec<u8>>;

/// Keys and values that a step read.
type Rows = Vec<(u8, Vec<u8>)>;

/// What a step reads, as far as it does.
fn model_step(model: &mut Model, step: &Step) -> Rows {
    let mut apply = |key: u8, op: AtomicOp| {
        let value = op.apply(model.get(&key).map(Vec::as_slice)).to_vec();
        model.insert(key, value);
        Vec::new()
    };
    match step {
        Step::Set(key, value) => {
            model.insert(*key, value.clone());
            Vec::new()
        }
        Step::Clear(key) => {
            model.remove(key);
            Vec::new()
        }
        Step::ClearRange(start, end) => {
            model.retain(|key, _| key < start || key >= end);
            Vec::new()
        }
        Step::Add(key, delta) => apply(*key, AtomicOp::Add(*delta)),
        Step::Max(key, least) => apply(*key, AtomicOp::Max(*least)),
        Step::Get(key) => model.get(key).map(|value| (*key, value.clone())).into_iter().collect(),
        Step::Scan { start, end, limit, reverse } => {
            let within = model.iter().filter(|(key, _)| *key >= start && *key < end);
            let rows = within.map(|(key, value)| (*key, value.clone()));
            if *reverse { rows.rev().take(*limit).collect() } else { rows.take(*limit).collect() }
        }
    }
}

fn key(letter: u8) -> Vec<u8> {
    raw(&char::from(letter).to_string())
}

async fn store_step(tx: &Transaction, step: &Step) -> Result<Rows, Error> {
    match step {
        Step::Set(letter, value) => tx.set_raw(&key(*letter), value)?,
        Step::Clear(letter) => tx.clear_raw(&key(*letter))?,
        Step::ClearRange(start, end) => tx.clear_range_raw(&key(*start), &key(*end))?,
        Step::Add(letter, delta) => tx.atomic_add(&key(*letter), *delta)?,
        Step::Max(letter, least) => tx.atomic_max(&key(*letter), *least)?,
        Step::Get(letter) => {
            let value = tx.get_raw(&key(*letter)).await?;
            return Ok(value.map(|value| (*letter, value.to_vec())).into_iter().collect());
        }
        Step::Scan { start, end, limit, reverse } => {
            let range = Range::new(key(*start), key(*end)).limit(*limit).reverse(*reverse);
            let rows = tx.range_raw(range).await?;
            return Ok(rows.iter().map(|(key, value)| (key[18], value.to_vec())).collect());
        }
    }
    Ok(Vec::new())
}

async fn agrees(store: &Fixture, transactions: &[(Vec<Step>, bool)]) {
    let mut model = Model::new();
    for (steps, commits) in transactions {
        let mut changed = model.clone();
        let expected: Vec<_> = steps.iter().map(|step| model_step(&mut changed, step)).collect();
        let seen = store
            .run_borrowing(|tx| {
                Box::pin(async move {
                    let mut seen = Vec::new();
                    for step in steps {
                        seen.push(store_step(tx, step).await?);
                    }
                    if *commits { Ok(seen) } else { Err(Given(Ok(seen))) }
                })
            })
            .await;
        let seen = seen.unwrap_or_else(|given_up: Given| given_up.0.unwrap());
        assert_eq!(seen, expected);
        if *commits {
            model = changed;
        }
    }
}

/// What a transaction saw that was given up on purpose.
#[derive(Debug)]
struct Given(Result<Vec<Rows>, Error>);

impl From<Error> for Given {
    fn from(error: Error) -> Self {
        Self(Err(error))
    }
}

fn transactions() -> impl Strategy<Value = Vec<(Vec<Step>, bool)>> {
    vec((vec(step(), 1..12), prop::bool::weighted(0.9)), 1..8)
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn memory_agrees_with_a_map(transactions in transactions()) {
        paused().block_on(async { agrees(&memory().await, &transactions).await });
    }

    #[test]
    fn memory_like_fdb_agrees_with_a_map(transactions in transactions()) {
        paused().block_on(async { agrees(&memory_like_fdb().await, &transactions).await });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn lmdb_agrees_with_a_map(transactions in transactions()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async { agrees(&lmdb().await, &transactions).await });
    }

    #[test]
    #[cfg_attr(not(fdb_cluster), ignore = "AESP_TEST_FDB_CLUSTER names no cluster file")]
    fn fdb_agrees_with_a_map(transactions in transactions()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let store = fdb().await;
            agrees(&store, &transactions).await;
            clear(&store).await;
        });
    }
}
