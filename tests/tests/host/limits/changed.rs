//! Quotas that are lowered and raised by command while three nodes are under load.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use aesp_sdk::ErrorCode;
use aesp_tests::{Contract, Trio, command::json_of, until};
use anyhow::ensure;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// So many callers, wherever their calls come in.
const CALLERS: usize = 24;
const HELD_MS: u64 = 60;

/// What calls may do at this moment, and what they did.
#[derive(Default)]
struct Book {
    /// Counts the changes that have returned.
    changes: u64,
    /// The most calls at once: while a change is on its way, the greater quota.
    most: u32,
    /// Calls at the tool, wherever it is.
    running: u32,
    /// Of calls that were sent since the last change returned: how many there were at most, with those before them.
    reached: u32,
    broken: Vec<String>,
    /// When calls were sent and began, by the changes that had returned when they were sent.
    begun: BTreeMap<u64, Vec<(Instant, Instant)>>,
}

/// A tool that writes down what runs.
#[derive(Clone, Default)]
struct Witness(Arc<Mutex<Book>>);

struct Leaves(Witness);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.edit(|book| book.running -= 1);
    }
}

impl Witness {
    fn edit<T>(&self, edit: impl FnOnce(&mut Book) -> T) -> T {
        edit(&mut self.0.lock().unwrap())
    }

    /// Returns the number of the changes that have returned.
    fn changes(&self) -> u64 {
        self.edit(|book| book.changes)
    }

    /// Notes that a call has begun that was sent after so many changes.
    fn begins(&self, changes: u64, sent: Instant) -> Leaves {
        self.edit(|book| {
            book.running += 1;
            book.begun.entry(changes).or_default().push((sent, Instant::now()));
            if changes == book.changes {
                book.reached = book.running.max(book.reached);
                if book.running > book.most {
                    let (running, most) = (book.running, book.most);
                    book.broken.push(format!("{running} ran of {most} after change {changes}"));
                }
            }
        });
        Leaves(self.clone())
    }
}

/// Three nodes whose agent calls as often as it can, everywhere.
struct Loaded {
    trio: Trio,
    witness: Witness,
    stop: Arc<AtomicBool>,
    callers: JoinSet<()>,
    _workers: Vec<aesp_tests::Worker>,
}

impl Loaded {
    async fn new(held_ms: u64, flags: &[&str]) -> Self {
        let trio = Trio::new().await.unwrap();
        trio.offer(Contract::new("work").timeout_ms(10_000)).await.unwrap();
        let (witness, origin) = (Witness::default(), Instant::now());
        let workers = trio.workers(|runtime| {
            let witness = witness.clone();
            runtime.tool("work", move |_, args: Value| {
                let witness = witness.clone();
                async move {
                    let sent = origin + Duration::from_micros(args["sent_us"].as_u64().unwrap());
                    let _leaves = witness.begins(args["changes"].as_u64().unwrap(), sent);
                    sleep(Duration::from_millis(held_ms)).await;
                    Ok(args)
                }
            })
        });
        let _workers = workers.await.unwrap();
        let mut loaded = Self { trio, witness, stop: Arc::default(), callers: JoinSet::new(), _workers };
        loaded.quota(0, u32::MAX, flags).await;
        let key = aesp_sdk::Credentials::ApiKey(loaded.trio.agent.api_key.as_str().into());
        let mut sessions = Vec::new();
        for node in &loaded.trio.nodes {
            let client = aesp_sdk::Client::builder(node.tls(None).unwrap())
                .endpoint(node.endpoint())
                .credentials(key.clone());
            let client = client.retry(aesp_sdk::Retry::NEVER).build().unwrap();
            sessions.push(client.session(aesp_tests::HOUR).await.unwrap());
        }
        for number in 0..CALLERS {
            let session = sessions[number % sessions.len()].clone();
            let (witness, stop) = (loaded.witness.clone(), Arc::clone(&loaded.stop));
            loaded.callers.spawn(async move {
                while !stop.load(SeqCst) {
                    let sent_us = u64::try_from(origin.elapsed().as_micros()).unwrap();
                    let args = json!({ "changes": witness.changes(), "sent_us": sent_us });
                    if let Err(error) = session.call("work", args).send().await {
                        let at_limit = [ErrorCode::QuotaExceeded, ErrorCode::RateLimitExceeded];
                        assert!(at_limit.contains(&error.code()), "{error}");
                        sleep(Duration::from_millis(10)).await;
                    }
                }
            });
        }
        loaded
    }

    /// Changes the tenant's quotas by command, at a node. `most` is what may run at once from when it has returned.
    async fn quota(&self, node: usize, most: u32, flags: &[&str]) {
        self.witness.edit(|book| book.most = most.max(book.most));
        let mut command = self.trio.nodes[node].command();
        command.env("AESP_API_KEY", self.trio.nodes[node].administrator_key());
        command.args(["tenant", "quota", "acme"]).args(flags);
        let shown = json_of(command).await.unwrap();
        self.witness.edit(|book| (book.most, book.reached, book.changes) = (most, 0, book.changes + 1));
        assert_eq!(shown["name"], "acme", "{shown}");
    }

    async fn end(mut self) -> Book {
        self.stop.store(true, SeqCst);
        while let Some(caller) = self.callers.join_next().await {
            caller.unwrap();
        }
        self.witness.edit(std::mem::take)
    }
}

#[tokio::test]
async fn never_more_calls_run_than_a_quota_allows_that_was_lowered_or_raised_under_load() {
    let loaded = Loaded::new(HELD_MS, &["--calls-in-flight", "1000"]).await;
    for (number, most) in [12, 3, 9, 1, 6, 2].into_iter().enumerate() {
        loaded.quota(number % 3, most, &["--calls-in-flight", &most.to_string()]).await;
        until("the quota is used", async || {
            let (reached, running) = loaded.witness.edit(|book| (book.reached, book.running));
            ensure!(reached == most, "{reached} of {most}, {running} run");
            Ok(())
        })
        .await
        .unwrap();
    }
    let book = loaded.end().await;
    println!("{} calls ran", book.begun.values().map(Vec::len).sum::<usize>());
    assert!(book.broken.is_empty(), "{:?}", book.broken);
}

#[tokio::test]
async fn no_more_calls_begin_than_a_rate_allows_that_was_lowered_or_raised_under_load() {
    const RATES: [u32; 3] = [40, 8, 20];
    let loaded = Loaded::new(0, &["--calls-per-second", "100000"]).await;
    let mut changes = BTreeMap::new();
    for (number, rate) in RATES.into_iter().enumerate() {
        loaded.quota(number, u32::MAX, &["--calls-per-second", &rate.to_string()]).await;
        let change = loaded.witness.changes();
        changes.insert(change, rate);
        until("the rate is used for some seconds", async || {
            let begun = loaded.witness.edit(|book| book.begun.get(&change).map_or(0, Vec::len));
            ensure!(begun >= 4 * rate as usize, "{begun} calls at {rate}/s");
            Ok(())
        })
        .await
        .unwrap();
    }
    let book = loaded.end().await;
    for (change, rate) in changes {
        let mut begun = book.begun[&change].clone();
        begun.sort_unstable();
        let first = begun[0].0;
        let mut starts: Vec<Duration> = begun.iter().map(|(_, at)| *at - first).collect();
        starts.sort_unstable();
        for (count, window) in starts.iter().enumerate() {
            // Rate × (window + life of a credit) + burst.
            let most = f64::from(rate) * (window.as_secs_f64() + 0.256) + f64::from(rate) + 1.0;
            assert!((count + 1) as f64 <= most, "{} calls in {window:?} at {rate}/s", count + 1);
        }
        println!("{} calls in {:?} at {rate}/s", starts.len(), starts.last().unwrap());
    }
}
