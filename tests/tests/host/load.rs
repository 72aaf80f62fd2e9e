use aesp_sdk::{Credentials, Session};
use aesp_tests::{HOUR, Host, Trio, Worker, soon};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

/// Calls for a session of each node, one after the other, by clients that go to whichever node answers. A call that fails ends
/// its caller.
pub(crate) struct Load {
    callers: Vec<JoinHandle<Result<u32, String>>>,
    counts: watch::Receiver<Vec<u32>>,
    enough: CancellationToken,
    _workers: Vec<Worker>,
}

impl Load {
    /// Connects a Runtime to each node, which goes to another one when its own is away, and begins to call.
    pub(crate) async fn start(trio: &Trio) -> Self {
        let all: Vec<_> = trio.nodes.iter().map(Host::endpoint).collect();
        let workers =
            trio.workers(|runtime| runtime.endpoints(all.clone()).tool("echo", async |_, args| Ok(args)));
        let workers = workers.await.unwrap();
        let mut sessions = Vec::new();
        for node in 0..trio.nodes.len() {
            // The first endpoint of each is another node.
            let mut nodes: Vec<&Host> = trio.nodes.iter().collect();
            nodes.rotate_left(node);
            let key = Credentials::ApiKey(trio.agent.api_key.as_str().into());
            sessions.push(trio.site.client(&nodes, key.clone()).unwrap().session(HOUR).await.unwrap());
            nodes.rotate_left(1);
            let elsewhere = trio.site.client(&nodes, key).unwrap();
            let same = sessions.last().unwrap().id().to_owned();
            sessions.push(elsewhere.resume(&same).await.unwrap());
        }
        let (made, counts) = watch::channel(vec![0; sessions.len()]);
        let enough = CancellationToken::new();
        let callers = sessions.into_iter().enumerate();
        let callers = callers
            .map(|(at, session)| tokio::spawn(call(session, at, made.clone(), enough.clone())))
            .collect();
        Self { callers, counts, enough, _workers: workers }
    }

    /// Waits until every caller has been answered some more times.
    pub(crate) async fn goes_on(&mut self) {
        let from = self.counts.borrow_and_update().clone();
        let more = self.counts.wait_for(|made| made.iter().zip(&from).all(|(made, from)| *made >= from + 5));
        if soon("every caller is answered", more).await.is_ok_and(|more| more.is_ok()) {
            return;
        }
        let ended = self.callers.iter_mut().find(|caller| caller.is_finished());
        match ended {
            Some(caller) => panic!("a call failed: {:?}", caller.await),
            None => panic!("a call is not answered"),
        }
    }

    /// Ends it; every call must have been answered.
    pub(crate) async fn end(self) {
        self.enough.cancel();
        for caller in self.callers {
            let calls = soon("the caller ends", caller).await.unwrap().unwrap();
            assert!(calls.expect("no call fails") > 0);
        }
    }
}

async fn call(
    session: Session,
    at: usize,
    made: watch::Sender<Vec<u32>>,
    enough: CancellationToken,
) -> Result<u32, String> {
    let mut calls = 0;
    while !enough.is_cancelled() {
        let begun = Instant::now();
        let answer = session.call("echo", json!({ "text": format!("{calls}") })).await;
        if let Err(error) = answer.and_then(aesp_sdk::CallResult::into_content) {
            return Err(format!("caller {at}: call {calls} failed after {:?}: {error}", begun.elapsed()));
        }
        calls += 1;
        made.send_modify(|made| made[at] = calls);
    }
    Ok(calls)
}
