use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    access::Access,
    history::{Recorder, Sighting},
};

const PACE: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(5);

/// Asks the cluster again and again who owns how much.
pub(super) struct Watcher {
    pub(super) access: Access,
    pub(super) recorder: Recorder,
    pub(super) stop: CancellationToken,
}

impl Watcher {
    pub(super) async fn run(self) {
        let mut round = 0;
        while !self.stop.is_cancelled() {
            // A node that is down has nothing to say; the next one is asked in the next round.
            let mut access = self.access.clone();
            access.endpoints.rotate_left(usize::try_from(round).unwrap_or(0) % self.access.endpoints.len());
            let mut command = access.command();
            command.args(["cluster", "status"]);
            if let Ok(Ok(output)) = timeout(ANSWER, command.output()).await
                && output.status.success()
                && let Ok(answer) = serde_json::from_slice::<Value>(&output.stdout)
            {
                self.recorder.sightings(sightings(round, &answer));
            }
            round += 1;
            tokio::select! {
                () = sleep(PACE) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }
}

/// Reads the nodes that live out of the answer: a list, or an object with the list `nodes`.
fn sightings(round: u64, answer: &Value) -> Vec<Sighting> {
    let nodes = answer.get("nodes").unwrap_or(answer).as_array();
    let text = |node: &Value, field: &str| match &node[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let alive = |node: &&Value| !text(node, "state").to_lowercase().contains("dead");
    let read = |node: &Value| Sighting {
        round,
        node: text(node, "name"),
        incarnation: text(node, "incarnation"),
        shards: match &node["shards"] {
            Value::Array(shards) => shards.len() as u64,
            Value::String(number) => number.parse().unwrap_or(0),
            number => number.as_u64().unwrap_or(0),
        },
    };
    nodes.into_iter().flatten().filter(alive).map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn living_nodes_are_read_from_either_form() {
        let nodes = json!([
            { "name": "node-1", "incarnation": "3", "state": "SERVING", "shards": 200 },
            { "name": "node-2", "incarnation": 4, "state": "DEAD", "shards": 56 },
        ]);
        let seen = sightings(7, &nodes);
        assert_eq!(seen, sightings(7, &json!({ "nodes": nodes })));
        let expected = Sighting { round: 7, node: "node-1".into(), incarnation: "3".into(), shards: 200 };
        assert_eq!(seen, [expected]);
    }
}
